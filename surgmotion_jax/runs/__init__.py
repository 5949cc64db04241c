"""Whole runs as functions: pretraining, its ablation and benchmark, and evaluation. Commands parse and print."""
