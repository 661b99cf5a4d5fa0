"""The pages: drawn by the server, with scripts of our own and nothing fetched from elsewhere."""
