"""The mark of tests that build the C++ runner."""

from __future__ import annotations

import pytest

from ofa_tvm.compiler.runner_build import HEADERS, missing_headers

LACKING = missing_headers("g++")
needs_runner_headers = pytest.mark.skipif(
    bool(LACKING), reason=f"headers are missing: apt install {' '.join(HEADERS[name] for name in LACKING)}"
)
