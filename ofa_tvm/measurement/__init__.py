"""Measured kernels and subnets of a target, and what is learned from them."""
