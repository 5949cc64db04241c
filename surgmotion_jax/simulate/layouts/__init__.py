"""One file for each public data set: writes simulated operations the way that data set lies on disk."""
