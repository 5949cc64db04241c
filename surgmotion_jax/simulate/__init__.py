"""Procedural surgical video with exact ground truth, written in the layouts of the public data sets."""
