"""What comes before the first step: checks, placement, starting weights, the summary."""
