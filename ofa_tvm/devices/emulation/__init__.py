"""Emulated boards: they prove that code is right and say nothing about its speed."""
