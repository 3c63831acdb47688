"""Times of a space's kernels from a tuning log, as the table that the latency model starts from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from ofa_tvm.compiler.codegen import KernelStep
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.spaces import SPACES, SearchSpace
from ofa_tvm.spaces.own_model import PREFIX
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import NotTuned
from ofa_tvm.tuner.log import TuningLog, logs_root
from ofa_tvm.tuner.tuned_space import TunedSpace

SAMPLES = 60
"""Measured subnets that a latency model starts from, unless something else is said."""


def kernel_keys(network: NetworkSpec, dtype: DType = "float32") -> list[list[str]]:
    """Keys of the fused kernels of CPUs that end with each layer, as ``SubnetTable`` asks for them."""
    return keys_by_layer(network, [(step.layers, step.kernel) for step in fused_steps(network, dtype)])


def keys_by_layer(network: NetworkSpec, steps: Sequence[KernelStep]) -> list[list[str]]:
    """Keys of a network's kernels by the layer that they end with: a layer may have none of its own, or several."""
    keys: dict[str, list[str]] = {layer.name: [] for layer in network.layers}
    for layers, kernel in steps:
        keys[layers[-1]].append(kernel.key)
    return list(keys.values())


def how_to_tune(
    space: SearchSpace, tuning_log: TuningLog, more: str = "", supernet: Path | None = None, *, is_needed: bool = True
) -> str:
    """The command that tunes a space, as a hint.

    Args:
        space: the space.
        tuning_log: of the target.
        more: options of the command.
        supernet: its folder, if known.
        is_needed: nothing goes on without; otherwise it only makes kernels better.
    """
    target = tuning_log.target
    which = f"--supernet {supernet or 'FOLDER'}" if space.name.startswith(PREFIX) else f"--space {space.name}"
    if space.name in SPACES and space.classes != SPACES[space.name].classes:
        which += f" --classes {space.classes}"
    command = f"python -m ofa_tvm.tune {target.options} {which}{more}"
    if tuning_log.root != logs_root():
        command += f" --logs {shlex.quote(str(tuning_log.root))}"
    if target.device == "pack":
        is_tuned = any(state.best_ms is not None for state in tuning_log.kernels.values())
        command += " --trials 0" if more and is_tuned else ""  # new winners would make the latencies obsolete
        pack = f"'{command} --export-pack FOLDER', then see README.txt in that folder"
        return f"run {pack}" if is_needed else f"for better kernels: {pack}"
    ships = f"; or take the log that ships: without {tuning_log.root_option}" if tuning_log.hides_shipped else ""
    if other := tuning_log.of_other_tvm():
        folder, version = other
        now = target.conditions["tvm"]
        ships = f"; the log in {folder} is of apache-tvm {version} and does not serve {now}, which is installed"
    return (f"run '{command}' first" if is_needed else f"for better kernels: '{command}'") + ships


def kernel_costs(
    tuning_log: TuningLog, kernels: Mapping[str, KernelSpec], space: SearchSpace, supernet: Path | None = None
) -> tuple[dict[str, float], int]:
    """Time of each kernel in ms, and how many of them are estimated.

    A kernel without a record is taken to run at the median rate (ms for each flop and byte) of the tuned kernels of
    its kind.

    Args:
        tuning_log: the records.
        kernels: the kernels in question, by key.
        space: what they belong to.
        supernet: folder of the supernet, where it is known.

    Raises:
        NotTuned: no kernel of the space is tuned.
    """
    tuned = {
        key: state.best_ms for key, state in tuning_log.kernels.items() if key in kernels and state.best_ms is not None
    }
    if not tuned:
        raise NotTuned(f"no kernel is tuned in {tuning_log.folder}", how_to_tune(space, tuning_log, supernet=supernet))
    rates: dict[str, list[float]] = {}
    for key, milliseconds in tuned.items():
        rates.setdefault(kernels[key].kind, []).append(milliseconds / _work(kernels[key]))
    overall = median(rate for group in rates.values() for rate in group)
    costs = dict(tuned)
    for key, kernel in kernels.items():
        if key not in costs:
            costs[key] = median(rates.get(kernel.kind, [overall])) * _work(kernel)
    return costs, len(kernels) - len(tuned)


def _work(kernel: KernelSpec) -> int:
    return kernel.flops + kernel.weight_bytes + kernel.activation_bytes


def call_costs(tuned: TunedSpace, supernet: Path | None = None) -> tuple[dict[str, float], int]:
    """Time in ms that each kernel takes in one call of a subnet, and how many of them are estimated.

    Args:
        tuned: the space.
        supernet: folder of the supernet, where it is known, for the message.

    Raises:
        NotTuned: no kernel of the space is tuned.
    """
    costs, estimated = kernel_costs(tuned.log, tuned.kernels(), tuned.space, supernet)
    target = tuned.target
    runs = 1 if target.is_gpu else target.batch  # a GPU's kernels take all images of a call at once
    return {key: runs * cost for key, cost in costs.items()}, estimated


def latency_table(tuned: TunedSpace) -> tuple[SubnetTable, int]:
    """The table of a space's kernel times in a log, and how many of them are estimated.

    Raises:
        NotTuned: no kernel of the space is tuned.
    """
    costs, estimated = call_costs(tuned)
    return SubnetTable(tuned.space, costs, lambda network: keys_by_layer(network, tuned.steps(network))), estimated


def saved_model(tuned: TunedSpace) -> LatencyModel:
    """The latency model that was fitted to a log's measurements of a space.

    Raises:
        NotTuned: no kernel of the space is tuned.
        UserError: there is no model, or it is damaged or rests on other kernel times than those of now.
    """
    again = how_to_tune(tuned.space, tuned.log, f" --samples {SAMPLES}")
    return LatencyModel.load(tuned.model_folder, latency_table(tuned)[0], again)
