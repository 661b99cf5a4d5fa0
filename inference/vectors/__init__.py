"""Acceptance vectors: published values that the care formulas must reproduce."""
