"""Fixtures that all tests share. Nothing here imports torch or TVM: unit tests run without them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from ofa_tvm.data.dataset import Dataset
from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace

if shutil.which("nvidia-smi") is None:  # Triton looks when it is imported, which other tests may do first
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OFA_TVM_LONGEST_WAIT_S", "0.1")  # other tests disturb for as long as a test waits


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--require arm,stb``: what this machine promises to have."""
    parser.addoption("--require", default="", help="Markers whose tests fail instead of being skipped, e.g. arm,stb.")


def promised(config: pytest.Config) -> set[str]:
    """The markers of ``--require``."""
    return {name.strip() for name in config.getoption("--require").split(",") if name.strip()}


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a promise that no test could break."""
    known = {line.partition(":")[0].partition("(")[0] for line in config.getini("markers")}
    if unknown := promised(config) - known:
        raise pytest.UsageError(f"--require: no marker {', '.join(sorted(unknown))}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A skipped test of a tool that was promised has failed."""
    report = yield
    lacking = promised(item.config) & {mark.name for mark in item.iter_markers()}
    if report.skipped and lacking and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though --require promises {', '.join(sorted(lacking))}: {report.longrepr[2]}"
    return report


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this test run's own, shared by its processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    before = os.environ.get("OFA_TVM_CACHE")
    os.environ["OFA_TVM_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["OFA_TVM_CACHE"]
    else:
        os.environ["OFA_TVM_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def heed_interrupts() -> Iterator[None]:
    """A shell's background job starts with interrupts ignored, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_space() -> InvertedResidualSpace:
    """A space of 3,528 subnets that run in a millisecond."""
    return tiny.space()


@pytest.fixture(scope="session")
def tiny_dataset() -> Dataset:
    """Noise around one colour for each of four classes, 16x16."""
    return tiny.dataset()
