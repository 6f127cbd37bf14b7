"""Evaluation: test streams, scoring, metrics, calibration."""
