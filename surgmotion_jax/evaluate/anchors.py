"""What other encoders are set between: the names of the two evaluations that every scale has."""

RANDOM, TUNED = "random", "tuned"
"""Random weights under the same head, and the same encoder trained end to end."""
