"""int8 networks with some layers in float32: where int8 loses too much, or has no kernel.

The weights of such a network name these layers. Where a float32 kernel meets an int8 one, a conversion stands between:
``quantise`` gives the levels of a float32 map, ``dequantise`` the numbers of levels. Vectors (sums, channel scales) are
float32 in both, but sums of an int8 map are those of its levels. So layers stay float32 by units, which hold what makes
sums and what reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.fusion import Step, fused_steps
from ofa_tvm.graph.kernel import Conversion, KernelSpec
from ofa_tvm.graph.network import INPUT, NetworkSpec
from ofa_tvm.graph.quantisation import LEVELS_OF, cpu_dtype_of
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import ArrayType

MARK = ".float32"
"""An array of this name, after that of a layer, says that the layer is float32 in an int8 network."""
NUMBERS_OF = ".numbers"
"""After the name of a map of levels: their numbers in float32."""

Unit = tuple[str, ...]
"""Names of layers."""


def units(network: NetworkSpec) -> tuple[Unit, ...]:
    """A network's layers in the groups that have one type, in order.

    These are the layers of a kernel, of a depthwise convolution with the 1x1 convolution behind it, of squeeze-excite,
    and of a mean with what reads it.
    """
    unit_of = {layer.name: {layer.name} for layer in network.layers}
    writers: dict[str, Step] = {}
    for step in fused_steps(network):
        sources = [writers[name] for name in step.reads[: step.kernel.data_inputs] if name in writers]
        joined = set(step.layers)
        if step.summed is not None or step.kernel.scaled or _is_behind_depthwise(step, sources):
            joined.update(name for source in sources for name in source.layers)
        whole = set().union(*(unit_of[name] for name in joined))
        unit_of |= dict.fromkeys(whole, whole)
        writers |= dict.fromkeys(step.writes, step)
    order = {layer.name: place for place, layer in enumerate(network.layers)}
    found = dict.fromkeys(tuple(sorted(unit, key=order.__getitem__)) for unit in unit_of.values())
    return tuple(sorted(found, key=lambda unit: order[unit[0]]))


def _is_behind_depthwise(step: Step, sources: Iterable[Step]) -> bool:
    kinds = [source.kernel.kind for source in sources]
    return step.kernel.kind == "conv" and kinds[:1] in (["depthwise"], ["expand_depthwise"])


def kept_layers(weights: Weights) -> frozenset[str]:
    """Layers that stay float32 in an int8 network."""
    return frozenset(name.removesuffix(MARK) for name in weights if name.endswith(MARK))


def kept_in_float32(network: NetworkSpec, weights: Weights, layers: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """The weights of an int8 network as those of one in which the units of some layers are float32.

    Scales that no kernel reads any more are left out; if all layers are float32, so is the network.
    """
    kept = _whole_units(network, layers)
    steps = _mixed_steps(network, kept)
    read = {
        name.removesuffix(LEVELS_OF)
        for step in steps
        if step.kernel.dtype == "int8"
        for name in (*step.reads, *(step.layers if step.weights else ()), step.summed or "")
    }
    ends = (".scale", ".zero")
    needed = {
        name: array for name, array in weights.items() if not name.endswith(ends) or name.rpartition(".")[0] in read
    }
    return {**needed, **{layer + MARK: np.empty(0, np.float32) for layer in sorted(kept)}}


def network_steps(network: NetworkSpec, weights: Weights) -> tuple[Step, ...]:
    """The calls that run a network with these weights on a CPU, see ``fused_steps``."""
    kept, dtype = kept_layers(weights), cpu_dtype_of(weights)
    return (
        _mixed_steps(network, _whole_units(network, kept)) if kept and dtype == "int8" else fused_steps(network, dtype)
    )


def _whole_units(network: NetworkSpec, layers: Collection[str]) -> frozenset[str]:
    return frozenset(name for unit in units(network) if not set(unit).isdisjoint(layers) for name in unit)


def _mixed_steps(network: NetworkSpec, kept: frozenset[str]) -> tuple[Step, ...]:
    """The calls of an int8 network in which these units are float32, with conversions."""
    pairs = zip(fused_steps(network), fused_steps(network, "int8", kept=kept), strict=True)
    steps: list[Step] = []
    tensors: dict[str, ArrayType] = {}
    for step in (floats if kept.intersection(floats.layers) else levels for floats, levels in pairs):
        kernel, reads = step.kernel, list(step.reads)
        wanted = [(0, kernel.input_type.dtype)]
        wanted += [(place, kernel.result_type) for place in range(kernel.data_inputs, len(reads))]
        for place, dtype in wanted:
            source = reads[place]
            if source == INPUT or tensors[source].dtype == dtype:
                continue
            is_float = dtype == "float32"
            reads[place] = source + (NUMBERS_OF if is_float else LEVELS_OF)
            if reads[place] not in tensors:
                shape = tensors[source].shape
                conversion = _conversion("dequantise" if is_float else "quantise", shape)
                tensors[reads[place]] = conversion.output_types[0]
                steps.append(Step(conversion, step.layers[:1], (source,), (reads[place],), ()))
        steps.append(replace(step, reads=tuple(reads)))
        tensors |= dict(zip(step.writes, kernel.output_types, strict=True))
    return tuple(steps)


def _conversion(kind: Conversion, shape: tuple[int, ...]) -> KernelSpec:
    """Of a map (1, size, size, channels), or (1, channels) of one pixel."""
    size = shape[1] if len(shape) > 2 else 1
    return KernelSpec(kind, shape[-1], shape[-1], size, dtype="int8")
