"""Files to arrays with geometry, and results back to files. Offline: no sockets, no networks."""
