"""Text from files, on its way to a terminal."""

from __future__ import annotations

import unicodedata

CONTROLS = ("Cc", "Zl", "Zp", "Cs")
"""Unicode's categories of what a terminal obeys, of ends of lines, and of names that are not UTF-8."""


LONGEST = 60
"""Letters of a name that a message shows in full."""


def shortened(text: str) -> str:
    """A name as a message shows it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]}... ({len(text)} letters)"


def has_controls(text: str) -> bool:
    """Whether text holds escape sequences, line feeds or other control characters, or bytes that are not UTF-8."""
    return any(unicodedata.category(letter) in CONTROLS for letter in text)


def printable(text: str) -> str:
    """The text with a question mark for each of them."""
    return "".join("?" if has_controls(letter) else letter for letter in text)
