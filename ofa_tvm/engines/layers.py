"""Where a network's time goes: our kernels one by one, and the same blocks in engines that tell their nodes' times.

Engines fuse differently, so only blocks can be compared: all layers of one residual block together, every other kernel
of ours by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ofa_tvm.engines.base import Engine, NodeTime
from ofa_tvm.engines.own_library import KernelTime, OfaTvm
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.onnx_export import layer_of, node_layers
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.files import Record

RUNS = 200
BETWEEN = "(between layers)"
"""What belongs to no layer: images and maps that an engine copies into another order."""
_BLOCK = re.compile(r"(block\d+)_")


@dataclass(frozen=True)
class CallTime:
    """One call of ours.

    Args:
        block: that it belongs to.
        kernel: its key.
        template: how it is written.
        layers: that it computes.
        microseconds: the median of its runs.
        share: of the whole network.
        gflops: operations a second, in 1e9: floating point ones, in int8 of integers; a multiply-add is two.
    """

    block: str
    kernel: str
    template: str
    layers: tuple[str, ...]
    microseconds: float
    share: float
    gflops: float


@dataclass(frozen=True)
class LayerProfile:
    """A network by layers.

    Args:
        runs: of each engine; all times are medians.
        calls: ours, in order.
        blocks: microseconds by block, in order, and engine.
        silent: engines that tell no times of their nodes.
    """

    runs: int
    calls: tuple[CallTime, ...]
    blocks: dict[str, dict[str, float]]
    silent: tuple[str, ...]

    def record(self) -> Record:
        """As a JSON object."""
        names = ("block", "kernel", "template", "layers", "microseconds", "share", "gflops")
        return {
            "runs": self.runs,
            "calls": [{name: getattr(call, name) for name in names} for call in self.calls],
            "blocks": [{"block": block, "microseconds": times} for block, times in self.blocks.items()],
            "silent": list(self.silent),
        }


def layer_profile(
    network: NetworkSpec, weights: Weights, engines: Mapping[str, Engine], threads: int, runs: int = RUNS
) -> LayerProfile:
    """Profile a network, engine by engine.

    Args:
        network: the network.
        weights: folded weights.
        engines: by name, ours (an ``OfaTvm``) first.
        threads: of each.
        runs: of each.
    """
    (name, ours), *others = engines.items()
    if not isinstance(ours, OfaTvm):
        raise TypeError(f"{name} is not our library")
    kernels = ours.kernel_times(network, weights, threads, runs)
    blocks = blocks_of([kernel.layers for kernel in kernels])
    calls = _calls(kernels, blocks)
    table: dict[str, dict[str, float]] = {block: {} for block in dict.fromkeys(call.block for call in calls)}
    for call in calls:
        table[call.block][name] = table[call.block].get(name, 0.0) + call.microseconds
    silent, owners = [], node_layers(network, weights)
    for other, engine in others:
        times = engine.node_times(network, weights, threads, runs)
        if times is None:
            silent.append(other)
            continue
        for block, microseconds in by_block(times, owners, blocks).items():
            table.setdefault(block, {})[other] = microseconds
    return LayerProfile(runs, tuple(calls), table, tuple(silent))


def blocks_of(kernels: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """The block of each layer, from the layers that each of our kernels computes."""
    found: dict[str, str] = {}
    for layers in kernels:
        named = _BLOCK.match(layers[0])
        block = named[1] if named else next((found[layer] for layer in layers if layer in found), layers[0])
        found |= dict.fromkeys(layers, block)
    return found


def by_block(times: Iterable[NodeTime], owners: Mapping[str, str], blocks: Mapping[str, str]) -> dict[str, float]:
    """Microseconds of an engine's nodes by block, by the layers that own them; what belongs to none is ``BETWEEN``."""
    found: dict[str, float] = {}
    for node in times:
        block = blocks.get(layer_of(node.name, owners) or "", BETWEEN)
        found[block] = found.get(block, 0.0) + node.microseconds
    return found


def _calls(kernels: Iterable[KernelTime], blocks: Mapping[str, str]) -> list[CallTime]:
    kernels = list(kernels)
    whole = sum(one.microseconds for one in kernels)
    return [
        CallTime(
            blocks[one.layers[0]],
            one.kernel.key,
            one.template,
            one.layers,
            one.microseconds,
            one.microseconds / whole,
            one.kernel.flops / one.microseconds / 1e3 if one.microseconds else 0.0,
        )
        for one in kernels
    ]
