"""What watches a run: held-out clips, probes, alarms, pictures, progress."""
