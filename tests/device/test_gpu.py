"""What needs an NVIDIA GPU: kernels and subnets compiled for it run there and compute what they should."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from ofa_tvm.compiler.lowering import layer_kernels
from ofa_tvm.devices.pack import measure as pack_measure
from ofa_tvm.devices.pack.writer import PackWriter
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.machine import local_gpu
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.tuner.candidate import Candidate

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(local_gpu() is None, reason="no NVIDIA GPU: nvidia-smi does not answer"),
]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_kernel_of_a_pack_computes_what_it_should(tmp_path, dtype):
    """The pack's way, with this machine's GPU as the far device."""
    target, pack = load_target("cuda", device="pack", dtype=dtype), tmp_path / "pack"
    kinds: dict[tuple[str, bool, bool], KernelSpec] = {}
    for spec in layer_kernels(MBV3_CIFAR, (28,), 1, dtype).values():
        kinds.setdefault((spec.kind, spec.scaled, spec.residual), spec)
    with PackWriter(target, pack) as writer:
        for spec in kinds.values():
            for one in (spec, replace(spec, batch=2)):
                assert not writer.add(one, [Candidate(one.key, "default", {})])
        writer.finish()
    done = subprocess.run([sys.executable, "measure.py"], cwd=pack, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records, damaged = pack_measure.read_lines(pack / pack_measure.RESULTS)
    assert damaged == 0
    assert records[0]["device"]["driver_version"]
    failed = [json.dumps(record) for record in records[1:] if record["status"] != "ok"]
    assert not failed


def test_calls_of_a_subnet_are_metered_there(tmp_path):
    """Volta and later count; a call draws 10 to 1000 W as long as it takes."""
    target, pack = load_target("cuda", device="pack"), tmp_path / "pack"
    with PackWriter(target, pack) as writer:
        assert not writer.add_subnet(MBV3_CIFAR, MBV3_CIFAR.smallest, tmp_path, "default")
        writer.finish()
    subprocess.run([sys.executable, "measure.py"], cwd=pack, check=True)
    records, _ = pack_measure.read_lines(pack / pack_measure.RESULTS)
    (answer,) = records[1:]
    assert answer["status"] == "ok"
    assert 10 < answer["energy_mj"] / answer["times_ms"][0] < 1000
