"""A pack for an ARM CPU, measured on an emulated one: what the owner of a board does, without RPC and compiler.

Times are not looked at: under emulation they say nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

import ofa_tvm.tune as tune_command
from ofa_tvm.support.shipped import shipped_folder

LINKER = "aarch64-linux-gnu-g++"
pytestmark = [pytest.mark.arm, pytest.mark.timeout(600)]


@pytest.fixture
def round_of(capsys, tmp_path):
    """A command of ``tune`` for the far CPU, whose measurements are short, and what it prints."""
    text = (shipped_folder("targets") / "arm.toml").read_text()
    short = {"window_ms = 60": "window_ms = 1", "gap_s = 1": "gap_s = 0"}
    for old, new in {**short, "repeats = 5": "repeats = 1", "min_repeat_ms = 10": "min_repeat_ms = 1"}.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "far.toml").write_text(text)

    def run(*options):
        fixed = ["--target", str(tmp_path / "far.toml"), "--device", "pack", "--space", "mbv3-cifar"]
        fixed += ["--resolution", "24", "--logs", str(tmp_path / "logs")]
        assert tune_command.main([*fixed, *map(str, options), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def measure_there(emulator, pack):
    """Run the pack as the board's owner would: this package is not on the path."""
    command = [emulator / "bin" / "python", "measure.py"]
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=pack, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which(LINKER) is None, reason=f"{LINKER} is not installed")
def test_kernels_and_subnets_go_to_an_arm_cpu_and_come_back(emulator, round_of, tmp_path):
    kernels, subnets = tmp_path / "kernels", tmp_path / "subnets"
    exported = round_of("--export-pack", kernels, "--trials", 3)["exported"]
    assert (exported["entries"], exported["failures"]) == (3, 0)
    measure_there(emulator, kernels)
    answer = round_of("--import-pack", kernels, "--export-pack", subnets, "--trials", 0, "--samples", 2)
    assert (answer["imported"]["results"], answer["imported"]["failures"]) == (3, 0), "outputs agree on the device"
    assert answer["exported"]["subnets"] >= 2
    measure_there(emulator, subnets)
    imported = round_of("--import-pack", subnets)["imported"]
    assert imported["subnets"] >= 2
    assert imported["failures"] == 0
    assert "cortex-a76-1t-b1-pack-" in answer["fingerprint"]


@pytest.mark.skipif(shutil.which(LINKER) is None, reason=f"{LINKER} is not installed")
def test_int8_goes_to_an_arm_cpu_and_comes_back_equal(emulator, round_of, tmp_path):
    pack, dtype = tmp_path / "pack", ("--dtype", "int8")
    exported = round_of(*dtype, "--export-pack", pack, "--trials", 3, "--samples", 1)["exported"]
    assert (exported["entries"], exported["subnets"], exported["failures"]) == (4, 1, 0)
    measure_there(emulator, pack)
    answer = round_of(*dtype, "--import-pack", pack)
    imported = answer["imported"]
    assert (imported["results"], imported["subnets"], imported["failures"]) == (3, 1, 0)
    assert "cortex-a76-1t-b1-i8-pack-" in answer["fingerprint"]
