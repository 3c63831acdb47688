"""The marks of tests whose C++ runner decodes PNG and JPEG."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ofa_tvm.compiler.runner_headers import HEADER, HINT, finds_header

REASON = f"{HEADER} is missing: {HINT}"
needs_stb = [pytest.mark.stb, pytest.mark.skipif(not finds_header("g++"), reason=REASON)]


def decodes_pictures(test: Callable[..., None]) -> Callable[..., None]:
    """A decorator: both marks."""
    for mark in needs_stb:
        test = mark(test)
    return test
