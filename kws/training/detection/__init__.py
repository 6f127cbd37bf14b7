"""Detectors: objective, training, calibration."""
