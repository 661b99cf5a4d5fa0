"""Vital signs: early-warning scores."""
