"""Models that others built, read as networks of ours."""
