"""Timing the training step."""
