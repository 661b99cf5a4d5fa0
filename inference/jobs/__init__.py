"""Receiving, queueing, running and delivering, so that nothing is lost."""
