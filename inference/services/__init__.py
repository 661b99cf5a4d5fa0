"""Thin clinical services: each folder one, none imports another."""
