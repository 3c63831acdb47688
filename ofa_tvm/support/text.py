"""Text from files, on its way to a terminal."""

from __future__ import annotations

import unicodedata

CONTROLS = ("Cc", "Zl", "Zp", "Cs")
"""Unicode's categories of what a terminal obeys, of ends of lines, and of names that are not UTF-8."""


def has_controls(text: str) -> bool:
    """Whether text holds escape sequences, line feeds or other control characters, or bytes that are not UTF-8."""
    return any(unicodedata.category(letter) in CONTROLS for letter in text)


def printable(text: str) -> str:
    """The text with a question mark for each of them."""
    return "".join("?" if has_controls(letter) else letter for letter in text)
