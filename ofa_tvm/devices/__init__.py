"""Where code runs and is timed."""
