"""Evaluations as text, as a page, as plots."""
