"""Loss terms over masked tokens."""
