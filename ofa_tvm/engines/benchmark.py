"""A benchmark from engines and networks to one record: outputs, times, starts, layers, stability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ofa_tvm.engines.base import Engine
from ofa_tvm.engines.choice import OURS
from ofa_tvm.engines.comparison import PROTOCOLS, Timing, compare, speedups
from ofa_tvm.engines.fresh_process import starts_of
from ofa_tvm.engines.layers import layer_profile
from ofa_tvm.engines.own_library import OfaTvm
from ofa_tvm.engines.stability import Watch, machine_facts
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.machine import cpu_name, local_gpu
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        threads: of each engine.
        seconds: of timing, for each subnet.
        seed: of weights, images and order.
        starts: fresh processes of each engine, for the first subnet; 0 for none.
        layers: profile the first subnet layer by layer, too.
    """

    threads: int
    seconds: float
    seed: int
    starts: int
    layers: bool


def benchmark(networks: Mapping[str, NetworkSpec], engines: Mapping[str, Engine], effort: Effort) -> Record:
    """Measure networks, by their keys, on engines, ours first.

    Raises:
        UserError: layers are asked for where no library of ours has them.
        OfaTvmError: an engine's output differs from the others', or it does not start.
    """
    ours = engines[OURS]
    if effort.layers and not isinstance(ours, OfaTvm):
        raise UserError("--layers is for CPUs so far", "leave it out")
    rng, watch = np.random.default_rng(effort.seed), Watch()
    rows: list[Record] = []
    timed: list[dict[str, dict[str, Timing]]] = []
    for number, (key, network) in enumerate(networks.items(), 1):
        log(f"subnet {number} of {len(networks)}: {key}")
        compared = compare(network, engines, effort.threads, effort.seconds, rng)
        timed.append(compared.protocols)
        rows.append({"subnet": key, **compared.record()})
    stability = watch.judge((one for by in timed for times in by.values() for one in times.values()), effort.seconds)
    first = next(iter(networks.values()))
    weights = random_weights(first)
    starts = starts_of(engines, first, weights, effort.threads, effort.starts) if effort.starts else {}
    gpu = local_gpu() if not isinstance(ours, OfaTvm) else None
    return {
        "threads": effort.threads,
        "seconds": effort.seconds,
        "seed": effort.seed,
        "machine": cpu_name() if gpu is None else gpu.name,
        "machine_facts": machine_facts(),
        "protocols": {name: f"{_counted(runs)} of an engine in turn" for name, runs in PROTOCOLS.items()},
        "engines": {name: engine.record() for name, engine in engines.items()},
        "subnets": rows,
        "geomean_speedup": speedups(timed, OURS),
        "stability": stability.record(),
        "starts": {name: start.record() for name, start in starts.items()},
        "layers": layer_profile(first, weights, engines, effort.threads).record() if effort.layers else None,
    }


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"
