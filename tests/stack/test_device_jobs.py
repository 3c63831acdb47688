"""The local device's jobs, run in this process."""

from __future__ import annotations

import numpy as np

from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.devices.workers import subnet_jobs as jobs
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR


def test_a_subnet_is_timed_with_the_asked_number_of_classes(tmp_path, monkeypatch):
    models = []

    def load(library):
        models.append(LoadedModel(library))
        return models[-1]

    monkeypatch.setattr(jobs, "LoadedModel", load)
    answer = jobs.SubnetJobs().network(
        MBV3_CIFAR.name,
        3,
        MBV3_CIFAR.smallest.key,
        str(tmp_path),
        load_target("x86").attributes,
        "g++",
        batch=1,
        warmup=0,
        repeats=2,
        min_repeat_ms=1,
    )
    assert answer["status"] == "ok"
    assert len(answer["times_ms"]) == 2
    resolution = MBV3_CIFAR.smallest.resolution
    assert models[0](np.zeros((1, resolution, resolution, 3), np.float32)).shape == (1, 3)
