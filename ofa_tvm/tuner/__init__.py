"""Schedule search over the closed set of kernels; keep torch out of the process that tunes."""
