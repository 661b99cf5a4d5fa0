"""Engines: the libraries that can run a network on this machine, behind one interface."""
