"""Processes that survive what they run, and the jobs they do."""
