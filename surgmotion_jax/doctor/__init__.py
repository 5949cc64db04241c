"""What a run would find on a machine: probes that train and compile nothing."""
