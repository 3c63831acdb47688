"""The emulator that tests of arm64 boards need: taken from the user's cache, or set up there."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from ofa_tvm.devices.emulation.emulator import install_emulator, missing_tools
from ofa_tvm.support.errors import OfaTvmError

LINKER = "aarch64-linux-gnu-g++"
KEPT = Path.home() / ".cache" / "ofa_tvm" / "arm64"
"""Shared by test runs, each of which has a cache of its own."""


@pytest.fixture(scope="session")
def emulator(own_cache: Path) -> Path:
    """Where it is."""
    if shutil.which(LINKER) is None:
        pytest.skip(f"{LINKER} is not installed")
    KEPT.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (own_cache / "arm64").symlink_to(KEPT)
    if missing := missing_tools():
        pytest.skip(f"the emulator cannot be installed: {', '.join(missing)} not found")
    try:
        install_emulator()
    except OfaTvmError as error:
        pytest.skip(error.what)
    return KEPT
