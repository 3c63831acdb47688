"""Time several engines against each other in one run, so that a drifting machine drifts for all of them.

==================  ====================================================================================
``blocks``          ``BLOCK`` runs of one engine, then of the next: each finds its weights in the cache
``interleaved``     single runs in turn: each finds the others' weights there
==================  ====================================================================================

The order within a round is drawn anew every time.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ofa_tvm.engines import reference_engine
from ofa_tvm.engines.base import Engine
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.parity import check_parity, relative_error
from ofa_tvm.graph.weights import random_weights

BLOCK = 20
PROTOCOLS = {"blocks": BLOCK, "interleaved": 1}
MIN_ROUNDS = 3
WARMUP_RUNS = 5


@dataclass(frozen=True)
class Timing:
    """Milliseconds of single runs: how many, median, tenth and ninetieth percentile."""

    runs: int
    median_ms: float
    p10_ms: float
    p90_ms: float

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """One network on all engines.

    Args:
        reference: the engine that outputs were compared with.
        relative_error: largest output difference to it over its largest output, by engine.
        protocols: timings by protocol and engine.
    """

    reference: str
    relative_error: dict[str, float]
    protocols: dict[str, dict[str, Timing]]

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Speedup:
    """Another's time over ours: geometric mean over subnets, smallest and largest."""

    geomean: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Iterable[float]) -> Speedup:
        """Summarise the ratios of subnets."""
        ratios = list(ratios)
        return cls(math.exp(sum(map(math.log, ratios)) / len(ratios)), min(ratios), max(ratios))

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def compare(
    network: NetworkSpec, engines: Mapping[str, Engine], threads: int, seconds: float, rng: np.random.Generator
) -> Comparison:
    """Run a network with random weights on every engine: compare outputs, then time by both protocols.

    Args:
        network: what to run, batch 1.
        engines: by name; all are installed.
        threads: threads of each.
        seconds: time to spend on timing, half of it on each protocol.
        rng: draws weights, images and order.

    Raises:
        OfaTvmError: an engine computes something else.
    """
    weights = random_weights(network, int(rng.integers(2**31)))
    images = rng.standard_normal((1, network.resolution, network.resolution, network.in_channels), np.float32)
    models = {name: engine.prepare(network, weights, threads) for name, engine in engines.items()}
    reference, engine = reference_engine()
    expected = (models.get(reference) or engine.prepare(network, weights, threads))(images)
    errors = {name: relative_error(model(images), expected) for name, model in models.items()}
    for name, error in errors.items():
        check_parity(name, error, reference)
    calls = {name: model.bind(images) for name, model in models.items()}
    for call in calls.values():
        for _ in range(WARMUP_RUNS):
            call()
    share = seconds / len(PROTOCOLS)
    timings = {name: time_calls(calls, runs, share, rng) for name, runs in PROTOCOLS.items()}
    return Comparison(reference, errors, timings)


def time_calls(
    calls: Mapping[str, Callable[[], object]], runs_in_turn: int, seconds: float, rng: np.random.Generator
) -> dict[str, Timing]:
    """Time calls in turn.

    Args:
        calls: what to time, by name; each has run before.
        runs_in_turn: runs of one before the next has its turn.
        seconds: time to spend; there are at least ``MIN_ROUNDS`` rounds.
        rng: draws the order of each round.
    """
    names, clock = list(calls), time.perf_counter_ns
    times: dict[str, list[int]] = {name: [] for name in names}
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        end, rounds = clock() + int(seconds * 1e9), 0
        while rounds < MIN_ROUNDS or clock() < end:
            rounds += 1
            for index in rng.permutation(len(names)):
                call, found = calls[names[index]], times[names[index]]
                for _ in range(runs_in_turn):
                    start = clock()
                    call()
                    found.append(clock() - start)
    finally:
        if was_enabled:
            gc.enable()
    return {name: _timing(np.asarray(found) / 1e6) for name, found in times.items()}


def _timing(times_ms: Any) -> Timing:
    p10, median, p90 = (float(value) for value in np.percentile(times_ms, (10, 50, 90)))
    return Timing(len(times_ms), median, p10, p90)
