"""A clean clone of what is committed, and a home that knows nothing but the images that were fetched before."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = "cifar10.npz"


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own."""
    cache = tmp_path / "home" / ".cache" / "ofa_tvm"
    cache.mkdir(parents=True)
    fetched = Path.home() / ".cache" / "ofa_tvm" / IMAGES
    if fetched.exists():
        shutil.copy(fetched, cache / IMAGES)
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("OFA_TVM_", "VIRTUAL_ENV"))}
    return {**ours, "HOME": str(tmp_path / "home")}
