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

    monkeypatch.setattr(jobs, "load_anew", load)
    (answer,) = jobs.SubnetJobs().networks(
        MBV3_CIFAR.name,
        3,
        [MBV3_CIFAR.smallest.key],
        str(tmp_path),
        load_target("x86").attributes,
        "g++",
        batch=1,
        plan={"windows": 2, "window_ms": 1, "gap_s": 0},
    )["answers"]
    assert answer["status"] == "ok"
    assert len(answer["times_ms"]) == len(answer["reference_ms"]) == len(answer["figures"]) == 2
    assert len(models) == 4  # each window loads both anew
    resolution = MBV3_CIFAR.smallest.resolution
    assert models[0](np.zeros((1, resolution, resolution, 3), np.float32)).shape == (1, 3)
