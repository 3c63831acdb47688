"""Depthwise convolution whose weight gradient is fast on CPUs.

The library routine behind ``torch.conv2d`` takes ten times as long for the weight gradient of a 5x5 or 7x7
depthwise convolution as for the forward pass, and is most of a training step. Where a C compiler is found,
``depthwise_gradient.c`` is built once into the user's cache and used instead; otherwise torch's own is.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ofa_tvm.support.c_library import native_library


def _library() -> ctypes.CDLL | None:
    return native_library("ofa_tvm.supernet", "depthwise_gradient.c", "-funroll-loops", "-fopenmp", "-Wno-psabi")


def weight_gradient(inputs: Tensor, gradient: Tensor, kernel_size: int, stride: int) -> Tensor | None:
    """Gradient of the weights, shape (channels, 1, kernel_size, kernel_size), or None if torch should do it."""
    library = _library()
    if library is None or inputs.dtype != torch.float32:
        return None
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = inputs.shape
    rows, columns = gradient.shape[2:]
    threads = torch.get_num_threads()
    sums = torch.zeros(threads, kernel_size, kernel_size, channels)
    sizes = (batch, channels, height, width, rows, columns, stride, kernel_size, threads)
    pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (inputs, gradient, sums))
    if library.depthwise_weight_gradient(*pointers, *sizes) != 0:
        return None
    return sums.sum(0).permute(2, 0, 1)[:, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride = stride
        return F.conv2d(inputs, weight, stride=stride, padding=weight.shape[-1] // 2, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        kernel_size, stride = weight.shape[-1], ctx.stride
        to_weight = weight_gradient(inputs, gradients[0], kernel_size, stride)
        to_inputs, library_gradient, _ = torch.ops.aten.convolution_backward(
            gradients[0],
            inputs,
            weight,
            None,
            [stride, stride],
            [kernel_size // 2] * 2,
            [1, 1],
            False,
            [0, 0],
            weight.shape[0],
            [ctx.needs_input_grad[0], to_weight is None, False],
        )
        return to_inputs, library_gradient if to_weight is None else to_weight, None


def depthwise_conv2d(inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise convolution with padding ``kernel_size // 2``.

    Args:
        inputs: (batch, channels, height, width).
        weight: (channels, 1, kernel_size, kernel_size).
        stride: 1 or 2.
    """
    if inputs.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return F.conv2d(inputs, weight, stride=stride, padding=weight.shape[-1] // 2, groups=weight.shape[0])
    output: Tensor = _Depthwise.apply(inputs, weight, stride)  # type: ignore[no-untyped-call]
    return output
