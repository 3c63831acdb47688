"""Regression on numbers alone; nothing here knows what is predicted."""
