"""The local device's jobs, run in this process."""

from __future__ import annotations

import numpy as np

from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.devices.workers import subnet_jobs as jobs
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.job import SubnetJob, TunedSubnets


def test_a_subnet_is_timed_with_the_asked_number_of_classes(tmp_path, monkeypatch):
    models = []

    def load(library):
        models.append(LoadedModel(library))
        return models[-1]

    monkeypatch.setattr(jobs, "load_anew", load)
    subnets = TunedSubnets(MBV3_CIFAR.name, 3, (MBV3_CIFAR.smallest.key,), tmp_path)
    job = SubnetJob(subnets, load_target("x86"), WindowPlan(windows=2, window_ms=1, gap_s=0))
    (timing,) = jobs.SubnetJobs().time_subnets(job).timings
    assert timing.status == "ok"
    assert len(timing.times_ms) == len(timing.reference_ms) == len(timing.figures) == 2
    assert len(models) == 4  # each window loads both anew
    resolution = MBV3_CIFAR.smallest.resolution
    assert models[0](np.zeros((1, resolution, resolution, 3), np.float32)).shape == (1, 3)
