"""What runs: networks, their weights, the kernels they become, and what those compute."""
