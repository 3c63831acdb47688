"""Keep the chatter of native code, TVM's and other engines', off the user's terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# TVM 0.27 warns once for each constant that it writes or reads, and for each schedule that its search drops.
# LiteRT 2.3 says once that it uses XNNPACK.
CHATTER = (
    b"Scope Saving:",
    b"Scope Loaded:",
    b"Trace replay failed",
    b"SampleInitPopulation encountered",
    b"Cannot sample enough initial population",
    b"Created TensorFlow Lite XNNPACK delegate",
)
STDERR = 2


@contextmanager
def without_chatter() -> Iterator[None]:
    """Drop such lines that native code writes to stderr within the block; everything else is printed at its end."""
    sys.stderr.flush()
    original = os.dup(STDERR)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, STDERR)
            os.close(original)
            captured.seek(0)
            kept = [line for line in captured if not any(words in line for words in CHATTER)]
            if kept:
                os.write(STDERR, b"".join(kept))
