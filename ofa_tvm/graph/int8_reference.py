"""What int8 kernels compute, bit for bit.

Products of u8 and s8 add up in int32. What follows is float32 with fused multiply-adds, rounded to the nearest even
number and saturated to u8; ``kernel.quantised_arrays`` describes the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.biased_sums import BIAS, biased_ends, sums_are_biased
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.windows import depthwise, full_window

Values = NDArray[Any]
Floats = NDArray[np.float32]


def random_int8_inputs(spec: KernelSpec, seed: int = 0) -> list[Values]:
    """Random inputs of an int8 kernel, in the order of ``numpy_reference.input_types``, that keep outputs in range."""
    rng = np.random.default_rng(seed)
    arrays: list[Values] = [_random(rng, spec.input_type.dtype, spec.input_type.shape)]
    if spec.scaled:
        arrays.append(rng.random((spec.batch, spec.in_channels), np.float32))
    for index, constant in enumerate(spec.weight_types):
        if constant.dtype != "float32" or len(constant.shape) != 2:
            arrays.append(_random(rng, constant.dtype, constant.shape))
        elif index == 0:
            arrays.append(_random_inputs(rng, *constant.shape, is_map=spec.kind == "dequantise"))
        else:
            is_last = index == len(spec.weight_types) - 1
            arrays.append(_random_ends(rng, spec, _depth(spec, is_last)))
    if spec.residual:
        arrays.append(_random(rng, "uint8", spec.output_shape))
    return arrays


def _depth(spec: KernelSpec, is_last: bool) -> int:
    """Products of a sum that goes into a kernel's last, or first, ends."""
    if spec.kind == "depthwise" or (spec.kind == "expand_depthwise" and is_last):
        return spec.kernel_size**2
    return spec.in_channels * (spec.kernel_size**2 if spec.reads_image else 1)


def _random(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Values:
    if dtype == "float32":
        return rng.standard_normal(shape, np.float32)
    low, high = (0, 256) if dtype == "uint8" else (-127, 128)
    return rng.integers(low, high, shape).astype(dtype)


def _random_inputs(rng: np.random.Generator, rows: int, channels: int, is_map: bool) -> Floats:
    """Of a dense kernel or a conversion (2 rows), or of channel scales (3 rows); or a map's scales and zero points."""
    ratio = 0.5 + rng.random(channels)
    if is_map:
        return np.stack([ratio, np.rint(100 * ratio)]).astype(np.float32)
    zeros = np.full(channels, 12.0)
    rows_of = [30 * ratio, np.full(channels, 100.0)] if rows == 2 else [ratio, -10 * ratio, zeros]
    return np.stack(rows_of).astype(np.float32)


def _random_ends(rng: np.random.Generator, spec: KernelSpec, depth: int) -> Floats:
    """Ends whose outputs spread over the levels, some beyond them."""
    spread = 127 * 74 * depth**0.5
    if spec.kind == "dense":
        scale = (0.5 + rng.random(spec.out_channels)) * 3 / spread
        plus = rng.standard_normal(spec.out_channels)
        gate = [scale / 6, plus / 6 + 0.5, np.zeros(spec.out_channels)]
    else:
        scale = (0.5 + rng.random(spec.out_channels)) * 60 / spread
        plus = 100 + 20 * rng.standard_normal(spec.out_channels)
        gate = [scale / 20, plus / 200, np.full(spec.out_channels, 9.0)]
    rows = [scale, plus, *(gate if spec.activation == "hard_swish" else [])]
    if spec.residual:
        rows.append(0.5 + 0.2 * rng.random(spec.out_channels))
    return np.stack(rows).astype(np.float32)


def int8_compute(spec: KernelSpec, inputs: Sequence[Values]) -> list[Values]:
    """An int8 kernel's outputs: [map], [sums]."""
    source, *rest = inputs
    scales = rest.pop(0) if spec.scaled else None
    residual = rest.pop() if spec.residual else None
    match spec.kind:
        case "pool":
            return [source.sum((1, 2), np.int64, keepdims=True).astype(np.float32)]
        case "quantise":
            return [_levels(_fused(source, *rest[0]))]
        case "dequantise":
            scale, zero = rest[0]
            return [(source.astype(np.float32) - zero) * scale]
        case "dense":
            return [_dense(spec, source, *rest)]
        case "conv" if spec.reads_image:
            result = _image(spec, source, *rest)
        case "conv":
            if scales is not None:
                source = _scaled(source, scales, rest.pop(0))
            weight, ends = rest
            result = _end(spec, _product(source, weight), ends, residual, spec.in_channels)
        case "depthwise":
            result = _depthwise(spec, source, *rest)
        case _:
            weight, ends, *deep = rest
            expanded = _end(spec, _product(source, weight), ends, None, spec.in_channels)
            result = _depthwise(spec, expanded, *deep)
    sums = [result.sum((1, 2), np.int64).astype(np.float32)] if spec.pooled else []
    return [result, *sums] if spec.has_map else sums


def _product(levels: Values, weight: Values) -> NDArray[np.float64]:
    """Exact sums of products; numpy multiplies matrices of integers without BLAS, many times slower."""
    total: NDArray[np.float64] = levels.astype(np.float64) @ weight.astype(np.float64)
    return total


def _fused(factor: Values, other: Values, plus: Values | float) -> Floats:
    """A fused multiply-add: rounded once."""
    product = factor.astype(np.float64) * other.astype(np.float64)
    total: Floats = (product + np.asarray(plus, np.float64)).astype(np.float32)
    return total


def _levels(values: Floats) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _swish(sums: Floats, ends: Floats) -> Floats:
    gate = np.clip(_fused(sums, ends[2], ends[3]), np.float32(0), np.float32(1))
    return _fused(_fused(sums, ends[0], ends[1]), gate, ends[4])


def _end(
    spec: KernelSpec, sums: Values, ends: Floats, residual: Values | None, depth: int | None = None
) -> NDArray[np.uint8]:
    """Levels from sums of ``depth`` products."""
    floats = sums.astype(np.float32)
    if depth is not None and sums_are_biased(depth):
        floats, ends = floats + np.float32(BIAS), biased_ends(ends, depth)
    if spec.activation == "hard_swish":
        return _levels(_swish(floats, ends))
    plus: Values = ends[1] if residual is None else _fused(residual, ends[-1], ends[1])
    return _levels(_fused(floats, ends[0], plus))


def _scaled(source: Values, scales: Floats, gating: Floats) -> NDArray[np.uint8]:
    factor = scales * gating[0]
    plus = _fused(scales, gating[1], gating[2])
    return _levels(_fused(source, factor[:, None, None, :], plus[:, None, None, :]))


def _image(
    spec: KernelSpec, source: Floats, inputs: Floats, zeros: Values, weight: Values, ends: Floats
) -> NDArray[np.uint8]:
    """A convolution of an image's levels, padded by their zero points."""
    shifted = _levels(_fused(source, inputs[0], inputs[1])).astype(np.float64) - zeros
    sums = full_window(spec, shifted, weight.astype(np.float64))
    sums += zeros.astype(np.float64) @ weight.astype(np.float64).sum((0, 1))
    return _end(spec, sums, ends, None, spec.kernel_size**2 * spec.in_channels)


def _depthwise(spec: KernelSpec, source: Values, zeros: Values, weight: Values, ends: Floats) -> NDArray[np.uint8]:
    """Padded by the zero points of its channels, which are 0 once they are subtracted."""
    shifted = source.astype(np.int32) - zeros.astype(np.int32)
    sums = depthwise(spec, shifted, weight.astype(np.int32))
    sums += zeros.astype(np.int32) * weight.sum((0, 1), np.int32)
    return _end(spec, sums, ends, None, spec.kernel_size**2)


def _dense(spec: KernelSpec, source: Floats, inputs: Floats, weight: Values, ends: Floats) -> Floats:
    levels = _levels(_fused(source.reshape(spec.batch, -1), inputs[0], inputs[1]))
    sums = _product(levels, weight).astype(np.float32)
    if sums_are_biased(spec.in_channels):
        sums, ends = sums + np.float32(BIAS), biased_ends(ends, spec.in_channels)
    if spec.activation == "hard_swish":
        return _swish(sums, ends)
    total = _fused(sums, ends[0], ends[1])
    results = {
        "none": total,
        "relu": np.maximum(total, 0),
        "relu6": np.clip(total, 0, 6),
        "hard_sigmoid": np.clip(total, 0, 1),
    }
    return results[spec.activation]
