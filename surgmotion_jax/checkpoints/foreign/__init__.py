"""Weights of other projects: their file formats and names, and the way from them to ours and back."""
