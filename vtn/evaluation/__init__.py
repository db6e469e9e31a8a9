"""Evaluation: predictions, metrics, speed and plots."""
