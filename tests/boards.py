"""What tests of boards share: int8 bit for bit, and a tuning round on two boards, one of which is killed in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.devices.rpc.board_servers import BoardServers
from ofa_tvm.devices.rpc.device import RpcDevice
from ofa_tvm.devices.rpc.jobs import BoardJobs
from ofa_tvm.devices.rpc.session import BoardRequest
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.quantisation import untrained_weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import MBV3_CIFAR, SearchSpace
from ofa_tvm.support.files import read_jsonl
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.drift import REFERENCE
from ofa_tvm.tuner.job import KernelJob, SubnetTiming, TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget, Tuner
from ofa_tvm.tuner.tile_candidates import Sources
from ofa_tvm.tuner.tiles import CpuTiles
from ofa_tvm.tuner.trial import TrialResult

ROUND = 10
KILL_AFTER = 3


class KillsABoard(Device):
    """A device that loses a board while it runs trials."""

    def __init__(self, device: RpcDevice, servers: BoardServers) -> None:
        self.device, self.servers, self.results = device, servers, 0

    def start(self) -> None:
        self.device.start()

    def close(self) -> None:
        self.device.close()

    def time_subnets(self, subnets: TunedSubnets, plan: WindowPlan) -> list[SubnetTiming]:
        return self.device.time_subnets(subnets, plan)

    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        for result in self.device.trials(spec, candidates, best_ms):
            yield result
            self.results += 1
            if self.results == KILL_AFTER:
                self.servers.kill(0)


def tuned_round(
    space: SearchSpace, log: TuningLog, attributes: dict[str, Any], device: RpcDevice, servers: BoardServers
) -> None:
    """Tune, kill, and check that every trial is in the log once, and counts."""
    every = fused_kernels(space, (12,))
    kernels = {key: every[key] for key in sorted(every, key=lambda key: -every[key].flops)[:3]}
    sources = Sources(CpuTiles(attributes), kernels, log.kernels, {}, log.tried, transfer=False)
    tuner = Tuner(kernels, dict.fromkeys(kernels, 1.0), log, KillsABoard(device, servers), sources, batch=4)
    summary = tuner.run(Budget(trials=ROUND, seconds=None, trials_per_kernel=6))
    ledger = read_jsonl(log.folder / "trials.jsonl", "trial ledger")
    assert (summary.trials, len(ledger)) == (ROUND, ROUND), summary
    assert [line["status"] for line in ledger] == ["ok"] * ROUND, json.dumps(ledger, indent=1)
    assert len({line["digest"] for line in ledger}) == ROUND, "nothing was measured twice"
    assert all(state.best_ms is not None for state in log.kernels.values())
    lost, kept = (board for address in servers.addresses for board in device.boards() if board["board"] == address)
    assert lost["aside"]
    assert not kept["aside"]
    assert not leftovers(servers, kept["board"]), "what the killed one was given it could not remove"


def check_int8(board: BoardJobs, request: BoardRequest, target: TargetSpec, folder: Path) -> None:
    """An int8 kernel is timed on a board, and a subnet computes there what numpy does, bit for bit."""
    kernel = board.trial(request, KernelJob(replace(REFERENCE, dtype="int8"), {}, target.with_repeats(1)))
    assert (kernel["status"], kernel["is_checked"]) == ("ok", True), kernel
    network, library = MBV3_CIFAR.network(MBV3_CIFAR.smallest), folder / "subnet.so"
    weights, shape = untrained_weights(network, "int8"), (2, network.resolution, network.resolution, 3)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    codegen_of(target).build(network, weights, {}, library)
    np.save(folder / "images.npy", images)
    answer = board.classify(request, library, folder / "images.npy", folder / "logits.npy")
    assert answer["status"] == "ok", answer
    np.testing.assert_array_equal(np.load(folder / "logits.npy"), network_logits(network, weights, images))


def leftovers(servers: BoardServers, address: str = "") -> list[str]:
    """Libraries that were uploaded and not removed, by the board of this address or by all."""
    port = address.rpartition(":")[2]
    return sorted(path.name for path in (servers.folder / port).rglob("*.so*"))
