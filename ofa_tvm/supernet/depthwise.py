"""Depthwise convolution that is fast on CPUs, above all its gradients; on GPUs, where no gradients are wanted.

The library routines behind ``torch.conv2d`` take most of a training step for 5x5 and 7x7 depthwise convolutions. Where
a C compiler is found, ``depthwise.c`` is built once into the user's cache and used instead.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ofa_tvm.supernet.training_device import has_triton
from ofa_tvm.support.c_library import optional_library


def _library() -> ctypes.CDLL | None:
    return optional_library("ofa_tvm.supernet", ("depthwise.c",), "-funroll-loops", "-fopenmp", "-Wno-psabi")


def _at(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _taps(weight: Tensor) -> Tensor:
    """(channels, 1, kernel, kernel) as (kernel, kernel, channels) in memory."""
    return weight.detach()[:, 0].permute(1, 2, 0).contiguous()


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
        library = _library()
        assert library is not None
        inputs, taps = _last(inputs), _taps(weight)
        batch, channels, height, width = inputs.shape
        kernel, threads = weight.shape[-1], torch.get_num_threads()
        rows, columns = ((size + 2 * (kernel // 2) - kernel) // stride + 1 for size in (height, width))
        ctx.sizes = (batch, channels, height, width, rows, columns, stride, kernel, before, threads)
        output = torch.empty(batch, channels, rows, columns, memory_format=torch.channels_last)
        if library.depthwise_forward(_at(inputs), _at(taps), _at(output), *ctx.sizes):
            raise MemoryError("no memory for a depthwise convolution")
        ctx.save_for_backward(inputs, taps)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        library = _library()
        assert library is not None
        inputs, taps = ctx.saved_tensors
        above = _last(gradients[0])
        to_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        to_taps = torch.empty(ctx.sizes[-1], *taps.shape)
        if library.depthwise_backward(*(_at(inputs), _at(taps), _at(above), _at(to_inputs), _at(to_taps)), *ctx.sizes):
            raise MemoryError("no memory for a depthwise convolution")
        return to_inputs, to_taps.sum(0).permute(2, 0, 1)[:, None], None, None


LANES = 8
"""Channels that are processed at a time; torch does other numbers of channels than multiples of it."""
SIZES = (3, 5, 7)


def depthwise_conv2d(
    inputs: Tensor, weight: Tensor, stride: int, pads: tuple[int, int], bias: Tensor | None = None
) -> Tensor:
    """Depthwise convolution.

    Args:
        inputs: (batch, channels, height, width).
        weight: (channels, 1, kernel_size, kernel_size).
        stride: 1 or 2.
        pads: zeros before and behind the map in each direction.
        bias: (channels,).
    """
    fits = weight.shape[-1] in SIZES and weight.shape[0] % LANES == 0
    fits = fits and pads[1] == weight.shape[-1] // 2 and bias is None
    if fits and has_triton(inputs.device) and not torch.is_grad_enabled():
        from ofa_tvm.supernet.gpu_maps import Depthwise  # needs Triton

        maps = _last(inputs).permute(0, 2, 3, 1)
        return Depthwise(maps, _taps(weight), stride, pads[0]).output().permute(0, 3, 1, 2)
    is_ours = inputs.device.type == "cpu" and inputs.dtype == weight.dtype == torch.float32
    if not (fits and is_ours) or torch.is_autocast_enabled("cpu") or _library() is None:
        return padded_conv2d(inputs, weight, stride, pads, weight.shape[0], bias)
    output: Tensor = _Depthwise.apply(inputs, weight, stride, pads[0])  # type: ignore[no-untyped-call]
    return output


def padded_conv2d(
    inputs: Tensor, weight: Tensor, stride: int, pads: tuple[int, int], groups: int = 1, bias: Tensor | None = None
) -> Tensor:
    """``torch.conv2d`` with other zeros behind the map than before it."""
    if pads[0] != pads[1]:
        inputs, pads = F.pad(inputs, (*pads, *pads)), (0, 0)
    return F.conv2d(inputs, weight, bias, stride, pads[0], groups=groups)
