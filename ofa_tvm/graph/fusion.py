"""How a network runs on a CPU: few kernels, each with all that can be done while its data are near.

==============================================  ===========================================================
layers                                          kernel
==============================================  ===========================================================
1x1 conv, then the depthwise that reads it      ``expand_depthwise``: the expanded map is never written
a map that squeeze-excite reads                 its kernel is ``pooled``: it also gives the sums of channels
squeeze-excite                                  two ``dense``, from those sums to the channel scales
a map that anything else made                   its sums are a ``pool``
the conv behind it                              ``conv``, ``scaled``: multiplies while it reads
1x1 conv, then global pooling                   ``conv``, ``pooled``: gives the sums instead of the map
1x1 conv on a single pixel; linear              ``dense``
==============================================  ===========================================================

A mean is a sum whose reader has its weights divided by the number of pixels. On a CPU all kernels are for one image.

Kernels from templates for a GPU (``compiler.cuda.emit``) are the same, but for the first line of the table: there a 1x1
convolution and the depthwise that reads it may be two launches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.bfloat16 import PAIR
from ofa_tvm.graph.kernel import KernelSpec, layer_kernel
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import DType, NumberType
from ofa_tvm.support.errors import UserError

Expands = Callable[[KernelSpec], bool]
SUMS = ".sums"
HIDDEN = ".hidden"


@dataclass(frozen=True)
class Step:
    """One call of a kernel.

    Args:
        kernel: what is called.
        layers: the layers that it computes, the last one named first in reports.
        reads: tensors read, in the order of the kernel's arguments: source, [scales], [residual].
        writes: tensors written: [map], [sums].
        weights: names of its folded arrays in the order of ``KernelSpec.weight_shapes``.
        pixels: the first array is divided by this.
        summed: the map whose sums a dense kernel reads.
        flattened: pixels of the map that a dense kernel reads whole.
    """

    kernel: KernelSpec
    layers: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    weights: tuple[str, ...]
    pixels: int = 1
    summed: str | None = None
    flattened: int = 1

    def arrays(self, weights: Weights) -> list[NDArray[np.float32]]:
        """Its folded arrays in the layouts of a float kernel's ``weight_shapes``."""
        shapes = replace(self.kernel, dtype="float32").weight_shapes
        arrays = (_channels_last(weights[name], self.flattened) for name in self.weights)
        return [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]

    def constants(self, weights: Weights) -> list[NDArray[np.float32]]:
        """The constants of a float kernel; those of an int8 kernel come from ``quantisation``."""
        arrays = self.arrays(weights)
        if self.pixels > 1:
            arrays[0] = arrays[0] / np.float32(self.pixels)
        return arrays


def _channels_last(array: NDArray[np.float32], flattened: int) -> NDArray[np.float32]:
    """(out, in, height, width) as (height, width, in, out); (out, in) as (in, out); (out, in * pixels) likewise."""
    if array.ndim == 2 and flattened > 1:
        array = array.reshape(len(array), -1, flattened)
    order = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim]
    return np.ascontiguousarray(array.transpose(order), dtype=np.float32)


def always(kernel: KernelSpec) -> bool:
    """A 1x1 conv and the depthwise that reads it are one kernel, whichever."""
    return True


def fused_steps(
    network: NetworkSpec,
    dtype: DType = "float32",
    batch: int = 1,
    expands: Expands = always,
    kept: Collection[str] = (),
) -> tuple[Step, ...]:
    """The calls that run a network, in order.

    Args:
        network: the network.
        dtype: of maps and weights; the vectors of a float16 network are float32.
        batch: images per call.
        expands: whether a 1x1 conv and the depthwise that reads it become this kernel; else each is its own.
        kept: layers that need no kernel of this type, see ``mixed``.

    Raises:
        UserError: there is no kernel of this type for a layer.
    """
    for layer in network.layers if dtype in REFUSALS else ():
        if layer.name not in kept:
            REFUSALS[dtype](layer)
    return _Fusion(network, dtype, batch, expands).steps


INT8_ACTIVATIONS = ("none", "relu", "relu6", "hard_swish")
INT8_CHANNELS = 4
"""Channels of a map come in multiples of this."""


def refuse_int8(layer: LayerSpec) -> None:
    """Refuse a layer that no int8 kernel computes.

    Raises:
        UserError: there is none; says why.
    """
    gates = (layer.hidden_activation, layer.gate) == ("relu", "hard_sigmoid")
    is_odd = layer.kind in ("conv", "depthwise") and layer.out_channels % INT8_CHANNELS > 0
    own = {
        f"a {layer.kind.replace('_', ' ')}": layer.kind in ("max_pool", "average_pool"),
        f"{layer.activation}": layer.activation not in INT8_ACTIVATIONS,
        "its gate": layer.kind == "squeeze_excite" and not gates,
        "a map without padding": layer.padding == "none" and layer.kernel_size > 1,
        f"{layer.out_channels} channels": is_odd,
    }
    _refuse(layer, "int8", own)


def refuse_bfloat16(layer: LayerSpec) -> None:
    """Refuse a layer that no bfloat16 kernel computes.

    Raises:
        UserError: there is none; says why.
    """
    has_product = layer.kind in ("linear", "squeeze_excite") or (layer.kind == "conv" and layer.kernel_size == 1)
    inputs = [layer.in_channels, *([layer.hidden_channels] if layer.kind == "squeeze_excite" else [])]
    odd = [count for count in inputs if has_product and count % PAIR]
    _refuse(layer, "bfloat16", {f"{odd[0] if odd else 0} input channels": bool(odd)})


def _refuse(layer: LayerSpec, dtype: DType, own: dict[str, bool]) -> None:
    """Refuse a layer for a type's own troubles, or for those of every type whose maps are no float32."""
    is_window = layer.kind == "conv" and layer.kernel_size > 1
    troubles = {
        **own,
        "groups": layer.groups > 1,
        "a window over channels": is_window and layer.input != INPUT,
        "an image that no window reads": not is_window and INPUT in (layer.input, layer.residual),
        "a stride without a window": layer.kind == "conv" and layer.kernel_size == 1 < layer.stride,
        "a flattened map": layer.kind == "linear" and layer.in_size > 1,
    }
    found = [name for name, is_so in troubles.items() if is_so]
    if found:
        raise UserError(
            f"layer {layer.name}: there is no {dtype} kernel for {found[0]}", f"use float32: leave --dtype {dtype} out"
        )


REFUSALS: dict[DType, Callable[[LayerSpec], None]] = {"int8": refuse_int8, "bfloat16": refuse_bfloat16}
"""What refuses a layer in a type that does not have all kernels."""


def fused_calls(
    network: NetworkSpec, dtype: DType = "float32", batch: int = 1, expands: Expands = always
) -> list[KernelSpec]:
    """The kernels of ``fused_steps``, in order."""
    return [step.kernel for step in fused_steps(network, dtype, batch, expands)]


def _require_types(steps: Sequence[Step], dtype: DType) -> None:
    """Refuse a network where a kernel would read numbers of another type than were written.

    Raises:
        UserError: it would; names the layer.
    """
    types: dict[str, NumberType] = {INPUT: "float32"}
    for step in steps:
        kernel = step.kernel
        wanted: dict[str, NumberType] = dict.fromkeys(step.reads[kernel.data_inputs :], kernel.result_type)
        wanted[step.reads[0]] = kernel.input_type.dtype
        for read, number in wanted.items():
            if types[read] != number:
                raise UserError(
                    f"layer {step.layers[-1]}: no {dtype} kernel reads {types[read]} numbers, which {read} has",
                    f"use float32: leave --dtype {dtype} out",
                )
        types |= {name: output.dtype for name, output in zip(step.writes, kernel.output_types, strict=True)}


class _Fusion:
    def __init__(self, network: NetworkSpec, dtype: DType, batch: int, expands: Expands) -> None:
        self._dtype: DType = dtype
        self._batch, self._expands = batch, expands
        self._layers = {layer.name: layer for layer in network.layers}
        self._readers: dict[str, list[LayerSpec]] = {}
        for layer in network.layers:
            for name in filter(None, (layer.input, layer.residual)):
                self._readers.setdefault(name, []).append(layer)
        steps: list[Step] = []
        for layer in network.layers:
            if self._is_fused_away(layer):
                continue
            if layer.kind == "squeeze_excite":
                steps += self._squeeze_excite(layer)
            else:
                steps.append(self._step(layer))
        self.steps = tuple(replace(step, kernel=self._typed(step.kernel, step.reads[0])) for step in steps)
        _require_types(self.steps, dtype)

    def _typed(self, kernel: KernelSpec, source: str) -> KernelSpec:
        """A kernel for the batch, with the types of what is not a map."""
        wide = self._dtype == "float16"
        image = wide and source == INPUT and kernel.kind != "dense"
        return replace(kernel, batch=self._batch, float_vectors=wide, image=image)

    def _is_fused_away(self, layer: LayerSpec) -> bool:
        if layer.kind == "global_pool":
            return self._is_pooled_conv(layer.input)
        reader = self._only_reader(layer)
        if reader is None or reader.kind != "depthwise" or not self._is_plain_pointwise(layer):
            return False
        if (layer.activation, layer.norm or layer.bias) != (reader.activation, reader.norm or reader.bias):
            return False
        if self._expands is always:
            return True
        kernel = self._expanding(layer, layer_kernel(reader, dtype=self._dtype))
        return self._expands(self._typed(kernel, layer.input))

    def _expanding(self, layer: LayerSpec, kernel: KernelSpec) -> KernelSpec:
        """A depthwise kernel with the 1x1 conv before it."""
        return replace(kernel, kind="expand_depthwise", in_channels=layer.in_channels)

    def _only_reader(self, layer: LayerSpec) -> LayerSpec | None:
        readers = self._readers.get(layer.name, [])
        return readers[0] if len(readers) == 1 else None

    def _gives_sums(self, name: str) -> bool:
        """Whether the kernel that makes a map can give its sums beside it."""
        layer = self._layers.get(name)
        return layer is not None and layer.kind == "depthwise"

    def _is_plain_pointwise(self, layer: LayerSpec | None) -> bool:
        if layer is None or layer.kind != "conv" or layer.kernel_size != 1 or layer.stride * layer.groups != 1:
            return False
        return layer.residual is None and self._gate(layer) is None

    def _is_pooled_conv(self, name: str) -> bool:
        layer = self._layers.get(name)
        if layer is None or layer.in_size == 1 or not self._is_plain_pointwise(layer):
            return False
        reader = self._only_reader(layer)
        return reader is not None and reader.kind == "global_pool"

    def _gate(self, layer: LayerSpec) -> LayerSpec | None:
        """The squeeze-excite layer that a layer reads."""
        before = self._layers.get(layer.input)
        return before if before is not None and before.kind == "squeeze_excite" else None

    def _step(self, layer: LayerSpec) -> Step:
        gate = self._gate(layer)
        kernel = layer_kernel(layer, scaled=gate is not None, dtype=self._dtype)
        reads = [layer.input] if gate is None else [gate.input, gate.name]
        layers = [layer]
        before = self._layers.get(layer.input)
        if layer.kind == "depthwise" and before is not None and self._is_fused_away(before):
            kernel = self._expanding(before, kernel)
            reads, layers = [before.input], [before, layer]
        if layer.residual is not None:
            reads.append(layer.residual)
        writes = [layer.name]
        readers = self._readers.get(layer.name, [])
        if self._gives_sums(layer.name) and any(reader.kind == "squeeze_excite" for reader in readers):
            kernel = replace(kernel, pooled=True)
            writes.append(layer.name + SUMS)
        elif self._is_pooled_conv(layer.name):
            kernel = replace(kernel, pooled=True)
            writes = [readers[0].name]
            layers.append(readers[0])
        if self._is_dense(layer) and kernel.kind == "conv":
            kernel = replace(kernel, kind="dense")
        pixels, summed = 1, None
        if before is not None and before.kind == "global_pool":
            if kernel.kind != "dense":
                raise ValueError(
                    f"layer {layer.name}: only a linear layer or a 1x1 conv can read the mean {before.name}"
                )
            pixels, summed = before.in_size**2, before.input
        return Step(
            kernel,
            tuple(fused.name for fused in layers),
            tuple(reads),
            tuple(writes),
            tuple(name for fused in layers for name in _arrays(fused)),
            pixels,
            summed,
            layer.in_size**2 if layer.kind == "linear" else 1,
        )

    def _is_dense(self, layer: LayerSpec | None) -> bool:
        """Whether a layer's output is a vector; but in float32 only where its input is one: maps have another type."""
        if layer is None or layer.kind in ("global_pool", "linear"):
            return layer is not None
        is_pixel = layer.kind == "conv" and layer.in_size == 1 and layer.kernel_size == 1
        return is_pixel and (self._dtype == "float32" or self._is_dense(self._layers.get(layer.input)))

    def _squeeze_excite(self, layer: LayerSpec) -> list[Step]:
        channels, hidden, name = layer.in_channels, layer.hidden_channels, layer.name
        dense = KernelSpec("dense", channels, hidden, 1, bias=True, dtype=self._dtype)
        reduce = replace(dense, activation=layer.hidden_activation)
        expand = replace(dense, in_channels=hidden, out_channels=channels, activation=layer.gate)
        first = (f"{name}.reduce.weight", f"{name}.reduce.bias")
        second = (f"{name}.expand.weight", f"{name}.expand.bias")
        sums: list[Step] = []
        if not self._gives_sums(layer.input):
            pool = KernelSpec("pool", channels, channels, layer.in_size, dtype=self._dtype)
            sums.append(Step(pool, (name,), (layer.input,), (layer.input + SUMS,), ()))
        return [
            *sums,
            Step(reduce, (name,), (layer.input + SUMS,), (name + HIDDEN,), first, layer.in_size**2, layer.input),
            Step(expand, (name,), (name + HIDDEN,), (name,), second),
        ]


def _arrays(layer: LayerSpec) -> list[str]:
    if layer.kind in ("max_pool", "average_pool", "global_pool"):
        return []
    return [f"{layer.name}.weight", *([f"{layer.name}.bias"] if layer.norm or layer.bias else [])]
