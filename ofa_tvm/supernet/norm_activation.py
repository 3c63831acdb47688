"""Batch norm with the residual and the activation behind it; fused on CPUs.

Where a C compiler is found, ``norm_activation.c`` is built once into the user's cache and used for float32 maps in
channels_last order; otherwise torch's operators do it one after the other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ofa_tvm.graph.network import Activation
from ofa_tvm.support.c_library import optional_library

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.1
KINDS: dict[Activation, int] = {"none": 0, "relu": 1, "hard_swish": 2, "relu6": 3}
Pointer = ctypes.c_void_p
OTHERS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
}


def _library() -> ctypes.CDLL | None:
    return optional_library("ofa_tvm.supernet", ("norm_activation.c",), "-fopenmp", "-fno-trapping-math")


def finish(inputs: Tensor, activation: Activation, residual: Tensor | None = None) -> Tensor:
    """The residual added, and activated; the inputs may be overwritten."""
    if residual is not None:
        inputs = inputs + residual
    if activation == "relu":
        return F.relu(inputs, inplace=True)
    if activation == "relu6":
        return F.relu6(inputs)
    return OTHERS[activation](inputs) if activation in OTHERS else inputs


def norm_activate(
    inputs: Tensor,
    statistics: tuple[Tensor, Tensor],
    affine: tuple[Tensor, Tensor],
    activation: Activation,
    residual: Tensor | None = None,
    training: bool = True,
    momentum: float = BN_MOMENTUM,
    epsilon: float = BN_EPSILON,
) -> Tensor:
    """Normalise by the batch's statistics (by the running ones unless ``training``), add, activate.

    Args:
        inputs: (batch, channels, height, width).
        statistics: running mean and variance, (channels,), which training moves.
        affine: weight and bias, (channels,).
        activation: what follows.
        residual: what is added before it, like the inputs.
        training: whether the batch's statistics count.
        momentum: how far the running statistics move towards the batch's.
        epsilon: added to the variance.
    """
    if _is_fused(inputs, activation, residual):
        if training:
            how = (KINDS[activation], momentum, epsilon)
            output: Tensor = _Fused.apply(inputs, *affine, residual, *statistics, *how)  # type: ignore[no-untyped-call]
            return output
        if not torch.is_grad_enabled():
            mean, variance = statistics
            scale = affine[0] * (variance + epsilon).rsqrt()
            return _scaled(inputs, residual, scale, affine[1] - mean * scale, KINDS[activation])
    output = F.batch_norm(inputs, *statistics, *affine, training, momentum, epsilon)
    return finish(output, activation, residual)


def _scaled(inputs: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor, kind: int) -> Tensor:
    """``activation(inputs * scale + shift + residual)`` in one pass."""
    library = _library()
    assert library is not None
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    output, channels = torch.empty_like(inputs), inputs.shape[1]
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    residual_at = None if residual is None else _at(residual)
    size = (ctypes.c_long(inputs.numel() // channels), ctypes.c_int(channels))
    threads = torch.get_num_threads()
    library.norm_forward(_at(inputs), residual_at, _at(output), *size, _at(scale), _at(shift), kind, threads)
    return output


def _is_fused(inputs: Tensor, activation: Activation, residual: Tensor | None) -> bool:
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or _library() is None:
        return False
    return activation in KINDS and (residual is None or (activation == "none" and residual.dtype == torch.float32))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        running_mean: Tensor,
        running_variance: Tensor,
        kind: int,
        momentum: float,
        epsilon: float,
    ) -> Tensor:
        library = _library()
        assert library is not None
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        channels = inputs.shape[1]
        rows, threads = inputs.numel() // channels, torch.get_num_threads()
        mean, variance = torch.empty(2, channels)
        sums = torch.empty(threads, 2, channels, dtype=torch.float64)
        size = (ctypes.c_long(rows), ctypes.c_int(channels))
        library.norm_statistics(
            _at(inputs), *size, ctypes.c_float(epsilon), _at(mean), _at(variance), _at(sums), threads
        )
        running_mean.lerp_(mean, momentum)
        running_variance.lerp_(variance * (rows / max(1, rows - 1)), momentum)
        rstd = (variance + epsilon).rsqrt()
        scale = weight.detach() * rstd
        shift = bias.detach() - mean * scale
        output = _scaled(inputs, residual, scale, shift, kind)
        ctx.save_for_backward(inputs, mean, rstd, scale, shift)
        ctx.kind, ctx.sums, ctx.threads = kind, sums, threads
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        library = _library()
        assert library is not None
        inputs, mean, rstd, scale, shift = ctx.saved_tensors
        above = gradients[0].contiguous(memory_format=torch.channels_last)
        channels = inputs.shape[1]
        size = (ctypes.c_long(inputs.numel() // channels), ctypes.c_int(channels))
        below = torch.empty_like(inputs)
        to_weight, to_bias = torch.empty(2, channels)
        work = torch.empty(ctx.threads + 1, 2, channels)
        library.norm_backward(
            *(_at(inputs), _at(above), _at(below), *size, _at(scale), _at(shift), _at(mean), _at(rstd)),
            *(_at(to_weight), _at(to_bias), ctx.kind, _at(ctx.sums), _at(work), ctx.threads),
        )
        return below, to_weight, to_bias, (above if ctx.needs_input_grad[3] else None), *(None,) * 5


def _at(tensor: Tensor) -> Pointer:
    return Pointer(tensor.data_ptr())
