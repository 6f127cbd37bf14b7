"""Evaluation: test streams, scoring, metrics, confidence intervals, calibration."""
