"""Code for NVIDIA GPUs, compiled with or without one."""
