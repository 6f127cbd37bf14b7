"""Recordings to learn from."""
