"""Time several engines against each other in one run, so that a drifting machine drifts for all of them.

==================  ====================================================================================
``blocks``          ``BLOCK`` runs of one engine, then of the next: each finds its weights in the cache
``interleaved``     single runs in turn: each finds the others' weights there
==================  ====================================================================================

The order within a round is drawn anew every time. Both are timed in ``WINDOWS`` windows, some time apart, like all
latencies; disturbed calls are not left out here, because disturbances of other engines' threads are not known.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.engines import reference_engine
from ofa_tvm.engines.base import Engine, Precision
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.parity import MAX_RELATIVE_ERROR, check_parity, relative_error
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.support.files import Record
from ofa_tvm.timing.turns import WindowPlan, in_turn

BLOCK = 20
PROTOCOLS = {"blocks": BLOCK, "interleaved": 1}
WINDOWS = 3
MIN_ROUNDS = 3
WARMUP_RUNS = 5
MAX_ERROR: dict[Precision, float] = {"float32": MAX_RELATIVE_ERROR, "float16": 0.05, "bfloat16": 0.1, "int8": 0.4}
"""Largest difference to a float32 engine over its largest output; the weights are random, so int8's ranges are wide."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of single runs: how many, and the median window's median, ninetieth and 99th percentile.

    ``low_ms`` and ``high_ms`` are the medians of the fastest and the slowest window.
    """

    runs: int
    median_ms: float
    low_ms: float
    high_ms: float
    p90_ms: float
    p99_ms: float

    @classmethod
    def of(cls, windows: Sequence[NDArray[np.float64]]) -> Timing:
        """Summarise windows of single runs."""
        medians = [float(np.median(window)) for window in windows]
        p90_ms, p99_ms = (
            median(float(np.percentile(window, percentile)) for window in windows) for percentile in (90, 99)
        )
        return cls(sum(map(len, windows)), median(medians), min(medians), max(medians), p90_ms, p99_ms)

    @property
    def apart(self) -> float:
        """How much slower the slowest window's median is than the fastest one's, as a fraction."""
        return self.high_ms / self.low_ms - 1 if self.low_ms else 0.0

    def record(self) -> Record:
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

    def record(self) -> Record:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Speedup:
    """Another engine's time over ours: geometric mean over subnets, smallest and largest."""

    geomean: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Iterable[float]) -> Speedup:
        """Summarise the ratios of subnets."""
        ratios = list(ratios)
        return cls(math.exp(sum(map(math.log, ratios)) / len(ratios)), min(ratios), max(ratios))

    def record(self) -> Record:
        """As a JSON object."""
        return asdict(self)


def speedups(protocols: Iterable[Mapping[str, Mapping[str, Timing]]], ours: str) -> Record:
    """By protocol and engine: the engine's median over ours.

    Args:
        protocols: timings of one or more subnets, by protocol and engine.
        ours: the name of our engine.
    """
    subnets = list(protocols)
    return {
        protocol: {
            name: Speedup.of(
                times[protocol][name].median_ms / times[protocol][ours].median_ms for times in subnets
            ).record()
            for name in subnets[0][protocol]
            if name != ours
        }
        for protocol in subnets[0]
    }


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
        OfaTvmError: an engine's outputs differ.
    """
    weights = random_weights(network, int(rng.integers(2**31)))
    images = rng.standard_normal((1, network.resolution, network.resolution, network.in_channels), np.float32)
    models = {name: engine.prepare(network, weights, threads) for name, engine in engines.items()}
    reference, engine = reference_engine()
    expected = (models.get(reference) or engine.prepare(network, weights, threads))(images)
    errors = {name: relative_error(model(images), expected) for name, model in models.items()}
    for name, error in errors.items():
        check_parity(name, error, reference, MAX_ERROR[engines[name].precision])
    calls = {name: model.bind(images) for name, model in models.items()}
    for call in calls.values():
        for _ in range(WARMUP_RUNS):
            call()
    return Comparison(reference, errors, time_calls(calls, seconds, rng))


def time_calls(
    calls: Mapping[str, Callable[[], object]], seconds: float, rng: np.random.Generator
) -> dict[str, dict[str, Timing]]:
    """Time calls in turn, in windows of each protocol; timings by protocol and name.

    Args:
        calls: what to time, by name; each has run before.
        seconds: time to spend on it, and half of that again between the windows.
        rng: draws the order of each round.
    """
    share = seconds / len(PROTOCOLS) / WINDOWS
    subjects = [partial(_window, calls, runs, share, rng) for runs in PROTOCOLS.values()]
    windows = in_turn(subjects, WindowPlan(WINDOWS, 1e3 * share, gap_s=seconds / 2))
    return {
        protocol: {name: Timing.of([window[name] for window in protocol_windows]) for name in calls}
        for protocol, protocol_windows in zip(PROTOCOLS, windows, strict=True)
    }


def _window(
    calls: Mapping[str, Callable[[], object]], runs_in_turn: int, seconds: float, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of single runs of each call, at least ``MIN_ROUNDS`` times ``runs_in_turn``."""
    names, clock = list(calls), time.perf_counter_ns
    times: dict[str, list[int]] = {name: [] for name in names}
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        end, rounds = clock() + int(seconds * 1e9), 0
        while rounds < MIN_ROUNDS or clock() < end:
            rounds += 1
            for index in rng.permutation(len(names)):
                call, times_ns = calls[names[index]], times[names[index]]
                for _ in range(runs_in_turn):
                    start = clock()
                    call()
                    times_ns.append(clock() - start)
    finally:
        if was_enabled:
            gc.enable()
    return {name: np.asarray(times_ns) / 1e6 for name, times_ns in times.items()}
