"""The supernet that ships, deployed for ARM and for this machine: the same answers on the same real images."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import ofa_tvm.deploy as deploy_command
from ofa_tvm.data import load_dataset
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.support.errors import OfaTvmError

IMAGES = 500
KEPT = Path.home() / ".cache" / "ofa_tvm" / "cifar10.npz"
"""Shared by test runs, each of which has a cache of its own."""
TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-g++", "llvm-mca-19")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.arm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed"),
]


@pytest.fixture
def images(own_cache):
    """Images that no network was trained on, as bytes (n, 32, 32, 3)."""
    cached = own_cache / "cifar10.npz"
    if KEPT.exists() and not cached.exists():
        own_cache.mkdir(parents=True, exist_ok=True)
        shutil.copy(KEPT, cached)
    try:
        return load_dataset("cifar10", lambda line: None).test.images[:IMAGES]
    except OfaTvmError as error:
        pytest.skip(f"no images: {error.what}")


def test_a_bundle_for_arm_answers_as_the_one_for_this_machine(images, tmp_path, capsys):
    np.save(tmp_path / "images.npy", images)
    logits, manifests = {}, {}
    starts = {"x86": [], "arm": ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]}
    for target, start in starts.items():
        bundle, found = tmp_path / target, tmp_path / f"{target}.npy"
        options = ["--device", "estimate"] if target == "arm" else []
        order = ["--target", target, *options, "--subnet", "smallest", "--check-images", str(IMAGES)]
        assert deploy_command.main([*order, "--out", str(bundle), "--json"]) == 0
        manifests[target] = json.loads(capsys.readouterr().out)["manifest"]
        if not (bundle / "run").exists():
            pytest.skip("the runner cannot be built here")
        command = [*start, str(bundle / "run"), str(tmp_path / "images.npy"), "--logits", str(found)]
        subprocess.run(command, check=True, capture_output=True)
        logits[target] = np.load(found)
    assert logits["arm"].shape == (IMAGES, 10)
    assert (logits["arm"].argmax(1) == logits["x86"].argmax(1)).all()
    assert relative_error(logits["arm"], logits["x86"]) < 1e-4
    latency, accuracy = manifests["arm"]["latency"], manifests["arm"]["accuracy"]
    assert (latency["provenance"], latency["measured_ms"]) == ("estimated", None)
    assert latency["estimated_ms"] > 0
    assert "under emulation" in accuracy["how"]
    assert accuracy["test_top1"] == manifests["x86"]["accuracy"]["test_top1"]
