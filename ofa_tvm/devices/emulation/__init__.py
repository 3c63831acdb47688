"""Emulated boards: they prove that code is right and say nothing of its speed."""
