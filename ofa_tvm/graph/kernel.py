"""KernelSpec: one fused function of the generated code.

On CPUs kernels span layers, see ``fusion``. Where TVM schedules, every layer becomes exactly one kernel:

==================  ================================================================================
layer kind          kernel
==================  ================================================================================
conv                ``conv``: padding, convolution, bias, residual and activation; ``scaled`` when its
                    input is multiplied by the channel scales of a squeeze-excite layer
depthwise           ``depthwise``: padding, convolution, bias, activation
squeeze_excite      ``squeeze_excite``: mean and both small dense layers, giving the channel scales;
                    the product itself is the first step of the conv that reads it
max_pool            ``max_pool``: largest value of a window
average_pool        ``average_pool``: mean of a window
global_pool         ``pool``: mean over the map
linear              ``dense``: matrix-vector product and bias
==================  ================================================================================

Maps lie in memory as (batch, size, size, channels).

With ``dtype="int8"`` maps are u8 and weights s8; see ``quantised_arrays`` for the constants, and ``int8_reference`` for
what they mean. Images and vectors (sums, channel scales, logits) stay float32. ``quantise`` and ``dequantise`` stand
where such a network has float32 layers, see ``mixed``.

With ``dtype="bfloat16"`` maps are bfloat16, and so is what kernels multiply that have a product over channels: 1x1
convolutions, dense layers, and both parts of ``expand_depthwise``. Images, vectors, biases and other weights are
float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ofa_tvm.graph.network import WINDOWED, Activation, LayerSpec
from ofa_tvm.support.dtype import DTYPE_SUFFIX, ArrayType, DType, NumberType

_LayerKernel = Literal[
    "conv", "depthwise", "expand_depthwise", "squeeze_excite", "max_pool", "average_pool", "pool", "dense"
]
Conversion = Literal["quantise", "dequantise"]
"""Between maps of float32 and of levels."""
KernelKind = _LayerKernel | Conversion

KernelSchedule = dict[str, Any]
"""How a kernel is computed, as logs hold it: ``{"template": name, "parameters": {...}}``, or ``{"trace": ...}`` with a
TVM trace as JSON; ``{}`` for the default."""
Winners = Mapping[str, KernelSchedule]
"""The fastest schedules, by the key of their kernel."""

_KINDS: dict[str, KernelKind] = {
    "conv": "conv",
    "depthwise": "depthwise",
    "squeeze_excite": "squeeze_excite",
    "max_pool": "max_pool",
    "average_pool": "average_pool",
    "global_pool": "pool",
    "linear": "dense",
}


@dataclass(frozen=True)
class KernelSpec:
    """Everything that decides the code of one kernel; equal specs share code, whatever their weights.

    Args:
        kind: what it computes.
        in_size: height and width of the input map in pixels (1 for ``dense``).
        hidden_channels: channels between the two dense layers of ``squeeze_excite``, else 0.
        bias: a bias is added per output channel.
        residual: a map of the output's shape is added before the activation.
        scaled: the input is multiplied by (batch, 1, 1, in_channels) scales first.
        pooled: the sums of the output's channels over the map are given too; those of a ``conv`` instead of the map.
        shifted: the window begins one pixel later than centred, see ``LayerSpec``.
        valid: the map is not padded.
        groups: of a ``conv``.
        dtype: of maps and constants in memory; sums and what follows are float32, on CPUs float16 in maps' kernels.
        float_vectors: images and vectors (sums, channel scales, logits) are float32 in memory, too; of float16 kernels.
        image: its input is an image, which is float32 then, and not a map; said where ``float_vectors`` is.
    """

    kind: KernelKind
    in_channels: int
    out_channels: int
    in_size: int
    kernel_size: int = 1
    stride: int = 1
    activation: Activation = "none"
    hidden_channels: int = 0
    bias: bool = False
    residual: bool = False
    scaled: bool = False
    pooled: bool = False
    shifted: bool = False
    valid: bool = False
    groups: int = 1
    batch: int = 1
    dtype: DType = "float32"
    float_vectors: bool = False
    image: bool = False

    @cached_property
    def key(self) -> str:
        """Canonical name, e.g. ``conv_14x14_112-448_k1s1_hard_swish_bias_b1``: equal exactly when the specs are."""
        channels = str(self.in_channels)
        if self.kind in ("conv", "dense", "expand_depthwise"):
            channels += f"-{self.out_channels}"
        elif self.kind == "squeeze_excite":
            channels += f"-{self.hidden_channels}"
        parts = [self.kind, f"{self.in_size}x{self.in_size}", channels]
        if self.kind in ("conv", "depthwise", "expand_depthwise", "max_pool", "average_pool"):
            parts.append(f"k{self.kernel_size}s{self.stride}")
        if self.groups > 1:
            parts.append(f"g{self.groups}")
        if self.activation != "none":
            parts.append(self.activation)
        flags = {
            "shifted": self.shifted,
            "valid": self.valid,
            "bias": self.bias,
            "scaled": self.scaled,
            "residual": self.residual,
            "pooled": self.pooled,
            "vectors": self.float_vectors,
            "image": self.image,
        }
        parts += [name for name, is_set in flags.items() if is_set]
        parts.append(f"b{self.batch}")
        return "_".join(parts if self.dtype == "float32" else [*parts, DTYPE_SUFFIX[self.dtype]])

    @property
    def symbol(self) -> str:
        """The key as an identifier: the name of the generated function."""
        return self.key.replace("-", "_")

    @property
    def out_size(self) -> int:
        """Height and width of the output map in pixels."""
        if self.kind in ("squeeze_excite", "pool", "dense"):
            return 1
        return (self.in_size + 2 * self._most_padding - self.kernel_size) // self.stride + 1

    @property
    def _most_padding(self) -> int:
        return 0 if self.valid else self.kernel_size // 2

    @property
    def padding(self) -> int:
        """Zeros before the input map in each direction in pixels; behind it there may be one more."""
        return self._most_padding - self.shifted

    @property
    def paddings(self) -> tuple[int, int]:
        """Zeros before and behind the input map in each direction in pixels."""
        return self.padding, self._most_padding

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first argument."""
        return (self.batch, self.in_size, self.in_size, self.in_channels)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        if self.kind == "dense":
            return (self.batch, self.out_channels)
        return (self.batch, self.out_size, self.out_size, self.out_channels)

    @property
    def has_map(self) -> bool:
        """Whether the output map itself is written: not by a ``conv`` that gives its sums instead."""
        return not (self.kind == "conv" and self.pooled)

    @property
    def data_inputs(self) -> int:
        """Arguments before the constants: the map and, where it is scaled, the scales. A residual follows them."""
        return 2 if self.scaled else 1

    @property
    def reads_image(self) -> bool:
        """Whether its input is an image, float32 while maps are not; int8 and bfloat16 have no other full windows."""
        is_window = self.kind == "conv" and self.kernel_size > 1
        return self.image or (is_window and self.dtype in ("int8", "bfloat16"))

    @property
    def input_type(self) -> ArrayType:
        """The first argument."""
        is_map = self.kind not in ("dense", "quantise") and not self.reads_image
        return ArrayType(self.input_shape, self.map_type if is_map else self._vector_type)

    @property
    def output_types(self) -> tuple[ArrayType, ...]:
        """All results: the map, if there is one, and the sums of a pooled kernel."""
        output = ArrayType(self.output_shape, self.result_type)
        sums = (ArrayType((self.batch, self.out_channels), self._vector_type),) if self.pooled else ()
        return (output, *sums) if self.has_map else sums

    @property
    def result_type(self) -> NumberType:
        """Of the output that is not sums, and of a residual."""
        is_float = self.kind in ("dense", "pool", "squeeze_excite", "dequantise")
        return self._vector_type if is_float else self.map_type

    @property
    def map_type(self) -> NumberType:
        """Of maps in memory."""
        if self.dtype == "int8":
            return "uint8"
        return "uint16" if self.dtype == "bfloat16" else self.dtype

    @property
    def _vector_type(self) -> NumberType:
        return "float16" if self.dtype == "float16" and not self.float_vectors else "float32"

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all results, see ``output_types``."""
        return tuple(output.shape for output in self.output_types)

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the constant arguments, see ``weight_types``."""
        return tuple(weight.shape for weight in self.weight_types)

    @property
    def weight_types(self) -> tuple[ArrayType, ...]:
        """The constant arguments: weights (HWIO, (k, k, channels) or (in, out)), each before its bias."""
        if self.dtype == "int8":
            return quantised_arrays(self)
        vectors: NumberType = "float32" if self.dtype == "bfloat16" else self.map_type
        others = self.map_type if self.has_product else vectors
        return tuple(ArrayType(shape, others if len(shape) > 1 else vectors) for shape in self._float_shapes)

    @property
    def has_product(self) -> bool:
        """Whether it is a product over channels, of a map or a vector."""
        return self.kind in ("conv", "dense", "expand_depthwise") and not self.reads_image

    @property
    def _float_shapes(self) -> tuple[tuple[int, ...], ...]:
        inputs, outputs, hidden = self.in_channels, self.out_channels, self.hidden_channels
        vector = ((outputs,),) if self.bias else ()
        match self.kind:
            case "conv":
                return ((self.kernel_size, self.kernel_size, inputs // self.groups, outputs), *vector)
            case "depthwise":
                return ((self.kernel_size, self.kernel_size, outputs), *vector)
            case "expand_depthwise":
                return ((inputs, outputs), *vector, (self.kernel_size, self.kernel_size, outputs), *vector)
            case "squeeze_excite":
                return ((inputs, hidden), (hidden,), (hidden, outputs), (outputs,))
            case "dense":
                return ((inputs, outputs), *vector)
            case _:
                return ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        pixels = self.batch * self.out_size**2
        match self.kind:
            case "conv" | "dense":
                return pixels * self.kernel_size**2 * (self.in_channels // self.groups) * self.out_channels
            case "depthwise":
                return pixels * self.kernel_size**2 * self.out_channels
            case "expand_depthwise":
                expanded = self.batch * self.in_size**2 * self.in_channels * self.out_channels
                return expanded + pixels * self.kernel_size**2 * self.out_channels
            case "squeeze_excite":
                return self.batch * self.hidden_channels * (self.in_channels + self.out_channels)
            case _:
                return 0

    @property
    def flops(self) -> int:
        """Floating point operations of one call: two per MAC, one per element pooled, added or multiplied."""
        inputs = self.batch * self.in_size**2 * self.in_channels
        outputs = self.batch * self.out_size**2 * self.out_channels
        pooled = self.kind in ("pool", "squeeze_excite")
        return 2 * self.macs + inputs * (pooled + self.scaled) + outputs * (self.bias + self.residual + self.pooled)

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants read."""
        return sum(weight.nbytes for weight in self.weight_types)

    @property
    def activation_bytes(self) -> int:
        """Bytes of maps read and written, each once."""
        scales = ArrayType((self.batch, self.in_channels), self._vector_type).nbytes if self.scaled else 0
        residual = ArrayType(self.output_shape, self.result_type).nbytes if self.residual else 0
        return self.input_type.nbytes + scales + residual + sum(output.nbytes for output in self.output_types)


def end_rows(spec: KernelSpec) -> int:
    """Rows of an int8 kernel's ``ends``, see ``quantised_arrays``."""
    return {"hard_swish": 5}.get(spec.activation, 2) + spec.residual


def quantised_arrays(spec: KernelSpec) -> tuple[ArrayType, ...]:
    """The constant arguments of an int8 kernel.

    ``ends`` turn sums of products into the output, by channel: scale, plus; with hard-swish also the gate's scale and
    plus, and the output's zero point; with a residual its scale. ``zeros`` are zero points of what a depthwise
    convolution, or one of an image, reads; they pad its map. ``inputs`` are scale and plus that turn an image or a
    dense kernel's vector into u8, and those by which channel scales are multiplied: ratio, negative zero point times
    ratio, and the zero point after it. ``quantise`` has such ``inputs`` alone, ``dequantise`` a map's scales and zero
    points.
    """
    inputs, outputs, k = spec.in_channels, spec.out_channels, spec.kernel_size
    ends = ArrayType((end_rows(spec), outputs), "float32")
    zeros = ArrayType((outputs,), "uint8")
    window = ArrayType((k, k, outputs), "int8")
    match spec.kind:
        case "conv" if spec.reads_image:
            levels = ArrayType((2, inputs), "float32"), ArrayType((inputs,), "uint8")
            return (*levels, ArrayType((k, k, inputs, outputs), "int8"), ends)
        case "conv":
            gating = (ArrayType((3, inputs), "float32"),) if spec.scaled else ()
            return (*gating, ArrayType((inputs, outputs), "int8"), ends)
        case "depthwise":
            return zeros, window, ends
        case "expand_depthwise":
            return ArrayType((inputs, outputs), "int8"), ends, zeros, window, ends
        case "dense":
            return ArrayType((2, inputs), "float32"), ArrayType((inputs, outputs), "int8"), ends
        case "pool" | "quantise" | "dequantise":
            return (ArrayType((2, inputs), "float32"),) if spec.kind != "pool" else ()
        case "squeeze_excite":
            raise ValueError(f"{spec.key}: int8 squeeze-excite is two dense kernels")
        case "max_pool" | "average_pool":
            raise ValueError(f"{spec.key}: there is no int8 kernel of this kind")


def layer_kernel(layer: LayerSpec, batch: int = 1, scaled: bool = False, dtype: DType = "float32") -> KernelSpec:
    """The kernel that a layer becomes.

    Args:
        layer: any layer.
        batch: images per call.
        scaled: the layer's input is the output of a squeeze-excite layer.
        dtype: of maps and constants.

    Raises:
        ValueError: only a conv can be scaled.
    """
    if scaled and layer.kind != "conv":
        raise ValueError(
            f"layer {layer.name}: a squeeze-excite layer feeds a {layer.kind} layer, only a conv can read it"
        )
    is_linear, is_windowed = layer.kind == "linear", layer.kind in WINDOWED
    return KernelSpec(
        kind=_KINDS[layer.kind],
        in_channels=layer.in_channels * (layer.in_size**2 if is_linear else 1),
        out_channels=layer.in_channels if layer.kind == "global_pool" else layer.out_channels,
        in_size=1 if is_linear else layer.in_size,
        kernel_size=layer.kernel_size if is_windowed else 1,
        stride=layer.stride if is_windowed else 1,
        activation=layer.activation,
        hidden_channels=layer.hidden_channels,
        bias=layer.norm or layer.bias,
        residual=layer.residual is not None,
        scaled=scaled,
        shifted=is_windowed and layer.is_shifted,
        valid=is_windowed and layer.padding == "none",
        groups=layer.groups,
        batch=batch,
        dtype=dtype,
    )
