"""Heads on frozen features: networks, targets, training many at once."""
