"""Training an encoder end to end with a head, where frozen evaluation trains the head alone."""
