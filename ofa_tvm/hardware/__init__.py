"""What code is compiled for, and what this machine is."""
