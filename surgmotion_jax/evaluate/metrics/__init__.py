"""Metrics of the six task families, in NumPy float64, as fractions; every convention is named."""
