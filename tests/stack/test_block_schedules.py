"""Identities of schedules of many subnets are those of their networks."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SPACES
from ofa_tvm.tuner import block_schedules
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import KernelState
from ofa_tvm.tuner.tuned_space import TunedSpace

FEW = 30


def tuned_space(space, folder):
    """Most kernels have winners, some have none, and some are not in the log."""
    log = TuningLog(load_target("x86"), folder)
    for number, key in enumerate(fused_kernels(space)):
        if number % 5:
            log.kernels[key] = KernelState(key, schedule={"number": number} if number % 3 else None)
    return TunedSpace(space, log.target, log)


@pytest.mark.parametrize("name", SPACES)
def test_they_are_those_of_the_networks(tmp_path, monkeypatch, name):
    monkeypatch.setattr(block_schedules, "_CHECKS", 2)
    tuned = tuned_space(SPACES[name].with_resolutions(SPACES[name].resolutions[:1]), tmp_path)
    configs = tuned.space.sample_configs(np.random.default_rng(0), FEW)
    expected = {config: tuned.schedules(config) for config in configs}
    built = []

    def schedules(self, config):
        built.append(config)
        return expected[config]

    monkeypatch.setattr(TunedSpace, "schedules", schedules)
    assert block_schedules.schedules_of(tuned, configs) == list(expected.values())
    assert len(built) == 2, "only the check builds networks"


def test_a_space_whose_blocks_differ_is_asked_network_by_network(tmp_path, monkeypatch):
    tuned = tuned_space(SPACES["mbv3-cifar"].with_resolutions((32,)), tmp_path)
    configs = tuned.space.sample_configs(np.random.default_rng(0), FEW)
    monkeypatch.setattr(TunedSpace, "schedules", lambda self, config: f"own {config.key}")
    assert block_schedules.schedules_of(tuned, configs) == [f"own {config.key}" for config in configs]
