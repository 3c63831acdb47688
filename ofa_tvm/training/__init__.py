"""A whole training as one call."""
