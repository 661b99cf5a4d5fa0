"""Other doors than our own API."""
