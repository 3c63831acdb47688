"""What makes a unit test one: a second of CPU time unless it asks for more, and neither torch nor TVM."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

HEAVY = ("torch", "tvm", "tvm_ffi")


class _Refuse:
    """A finder that fails a test that imports what is too heavy for it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in HEAVY:
            pytest.fail(f"a unit test imports {name}: move it to tests/stack")
        return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Nor may importing a file of tests import them."""
    finder = _Refuse()
    sys.meta_path.insert(0, finder)
    try:
        return (yield)
    finally:
        sys.meta_path.remove(finder)


@pytest.fixture(scope="session")
def hypothesis_began() -> None:
    """Its first test of a process looks through all objects there are, whose time is no test's own."""

    @given(st.none())
    def nothing(_: None) -> None: ...

    nothing()


@pytest.fixture(autouse=True)
def light(request: pytest.FixtureRequest, hypothesis_began: None) -> Iterator[None]:
    """CPU time is counted, of this process: a busy machine fails no test."""
    marker = request.node.get_closest_marker("seconds")
    most = marker.args[0] if marker else 1.0

    def too_long(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"took {most:g} s of CPU time: make it quicker, or mark it seconds(n)")

    finder = _Refuse()
    before = signal.signal(signal.SIGPROF, too_long)
    sys.meta_path.insert(0, finder)
    with threadpool_limits(1, user_api="blas"):  # threads that wait for work count, too
        signal.setitimer(signal.ITIMER_PROF, most)
        yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)
    sys.meta_path.remove(finder)
