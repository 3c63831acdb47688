"""The supernet: elastic layers, training, checkpoints, and subnets cut out of it."""
