"""The wheel in clean environments, outside the checkout, on every Python that is found: ``python3.11`` and so on in the
path, or what OFA_TVM_PYTHONS names, separated by colons."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

VERSIONS = ("3.11", "3.12", "3.13")
PYTHONS = [name for name in os.environ.get("OFA_TVM_PYTHONS", "").split(":") if name]
PYTHONS = PYTHONS or [path for version in VERSIONS if (path := shutil.which(f"python{version}"))]


@pytest.fixture(scope="module")
def wheel(clone: Path) -> Path:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=clone, check=True)
    (path,) = (clone / "dist").glob("*.whl")
    return path


def test_there_is_a_python_to_try() -> None:
    assert PYTHONS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("python", PYTHONS)
def test_it_installs_and_runs(python: str, wheel: Path, clone: Path, home: dict[str, str], tmp_path: Path) -> None:
    def run(*command: str | Path, code: int = 0) -> str:
        line = list(map(str, command))
        done = subprocess.run(line, cwd=tmp_path, env=home, capture_output=True, text=True, check=False)
        assert done.returncode == code, (line, done.stdout[-1000:], done.stderr[-1000:])
        return done.stdout

    run(python, "-m", "venv", tmp_path / "venv")
    bin_folder = tmp_path / "venv" / "bin"
    pip: list[str | Path] = [bin_folder / "pip", "install", "--quiet"]
    constraints = clone / "constraints.txt"
    torch = next(line for line in constraints.read_text().splitlines() if line.startswith("torch=="))
    run(*pip, torch)
    run(*pip, "--constraint", constraints, wheel)
    ours: list[str | Path] = [bin_folder / "python", "-m"]
    names = {row["name"] for row in json.loads(run(*ours, "ofa_tvm.targets", "--json"))["targets"]}
    assert {"x86", "arm", "cuda"} <= names
    (row,) = json.loads(run(*ours, "ofa_tvm.predict", "--target", "arm", "--subnet", "largest", "--json"))["subnets"]
    assert row["predicted_ms"] > 0
    run(*ours, "ofa_tvm.search", "--target", "arm", "--max-latency-ms", "0.0001", code=4)
    run(*ours, "ofa_tvm.deploy", "--subnet", "smallest", "--check-images", "200", "--out", "bundle")
    Image.effect_noise((40, 40), 80).convert("RGB").save(tmp_path / "image.ppm")
    (result,) = json.loads(run("./bundle/run", "image.ppm", "--json"))["results"]
    assert len(result["top"]) == 5
