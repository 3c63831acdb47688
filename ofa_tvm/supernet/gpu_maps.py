"""What a training step does to maps on a GPU: the Triton kernels, launched for tensors.

Maps are (batch, height, width, channels), contiguous, of float32 or bfloat16; channels are a multiple of eight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.supernet import triton_kernels as kernels
from ofa_tvm.supernet.norm_activation import BN_MOMENTUM, KINDS

GROUP = 8
PROGRAMS = 528
"""Programs that keep a GPU busy: four for each of the 132 multiprocessors of an H100."""
CHUNKS = 128
COLUMNS, TILE = 32, 4096
"""Channels of a program: a multiple of most widths, and 64 bytes in a row; and numbers it has at a time."""
WHOLE: dict[str, int] = {"ROWS": TILE // COLUMNS, "COLUMNS": COLUMNS, "num_warps": 4}
SUMS: dict[str, int] = {"ROWS": 2 * TILE // COLUMNS, "COLUMNS": COLUMNS, "num_warps": 8}
"""Launch settings of programs that sum: they keep more loads in flight."""


class Norm:
    """A batch norm's statistics of one batch, and what follows the norm in its layer.

    Args:
        inputs: (batch, height, width, channels), contiguous.
        affine: weight and bias, (channels,), with gradients that ``gradient`` adds to.
        running: mean and variance, which the batch moves.
        spec: the layer.
        epsilon: added to the variance.
    """

    def __init__(
        self,
        inputs: Tensor,
        affine: tuple[Tensor, Tensor],
        running: tuple[Tensor, Tensor],
        spec: LayerSpec,
        epsilon: float,
    ) -> None:
        self._inputs, self._affine, self._kind = inputs, affine, KINDS[spec.activation]
        self._rows, channels = inputs.numel() // inputs.shape[-1], inputs.shape[-1]
        self._groups, self._blocks = channels // GROUP, _over(channels, COLUMNS)
        self._span, self._chunks = _spans(self._rows, SUMS["ROWS"], PROGRAMS // self._blocks)
        self._norm = torch.empty(4, channels, device=inputs.device)
        partial = self._partial()
        kernels.norm_sums[(self._chunks, self._blocks)](inputs, partial, self._rows, self._groups, self._span, **SUMS)
        kernels.norm_statistics[(self._blocks,)](
            *(partial, *affine, *running, self._norm, self._rows, self._groups, self._chunks, BN_MOMENTUM, epsilon),
            CHUNKS=CHUNKS,
            COLUMNS=COLUMNS,
        )

    def apply(self, residual: Tensor | None) -> Tensor:
        """Normalised, activated, the residual added."""
        output = torch.empty_like(self._inputs)
        kernels.norm_apply[self._grid](
            *(self._inputs, self._norm, residual, output, self._rows, self._groups, self._kind),
            HAS_RESIDUAL=residual is not None,
            **WHOLE,
        )
        return output

    def gradient(self, above: Tensor) -> Tensor:
        """The inputs' gradient; those of weight and bias are added to."""
        partial, means = self._partial(), torch.empty(2, self._inputs.shape[-1], device=above.device)
        kernels.norm_gradient_sums[(self._chunks, self._blocks)](
            *(self._inputs, above, self._norm, partial, self._rows, self._groups, self._span, self._kind),
            **SUMS,
        )
        weight, bias = self._affine
        kernels.norm_gradient_means[(self._blocks,)](
            *(partial, weight.grad, bias.grad, means, self._rows, self._groups, self._chunks),
            CHUNKS=CHUNKS,
            COLUMNS=COLUMNS,
        )
        below = torch.empty_like(self._inputs)
        kernels.norm_gradient[self._grid](
            *(self._inputs, above, self._norm, means, below, self._rows, self._groups, self._kind), **WHOLE
        )
        return below

    def _partial(self) -> Tensor:
        return torch.empty(self._chunks, 2, self._inputs.shape[-1], device=self._inputs.device)

    @property
    def _grid(self) -> tuple[int, int]:
        return _over(self._rows, TILE // COLUMNS), self._blocks


class Depthwise:
    """A depthwise convolution of one batch.

    Args:
        inputs: (batch, height, width, channels), contiguous.
        taps: (kernel_size, kernel_size, channels) float32, contiguous.
        stride: 1 or 2.
        before: zeros before the map in each direction.
    """

    def __init__(self, inputs: Tensor, taps: Tensor, stride: int, before: int) -> None:
        self._inputs, self._taps = inputs, taps
        self._kinds = {"KERNEL": len(taps), "STRIDE": stride}
        batch, height, width, channels = inputs.shape
        rows, columns = ((size + 2 * (len(taps) // 2) - len(taps)) // stride + 1 for size in (height, width))
        self._out_shape = (batch, rows, columns, channels)
        self._sizes = (height, width, rows, columns, before)
        self._groups, self._blocks = channels // GROUP, _over(channels, COLUMNS)

    def output(self) -> Tensor:
        """The convolution."""
        output = self._inputs.new_empty(self._out_shape)
        self._run(kernels.depthwise, self._inputs, output)
        return output

    def to_inputs(self, above: Tensor) -> Tensor:
        """The inputs' gradient."""
        below = torch.empty_like(self._inputs)
        self._run(kernels.depthwise_to_inputs, above, below)
        return below

    def to_taps(self, above: Tensor) -> Tensor:
        """The gradient of the taps, in their shape."""
        size, channels = len(self._taps), self._inputs.shape[-1]
        rows, high = above.numel() // channels, TILE // 4 // COLUMNS
        span, chunks = _spans(rows, high, 2 * PROGRAMS // (self._blocks * size))
        partial = torch.empty(chunks, size, size, channels, device=above.device)
        kernels.depthwise_to_taps[(chunks, self._blocks, size)](
            *(self._inputs, above, partial, rows, self._groups, span, *self._sizes),
            **self._kinds,
            ROWS=high,
            COLUMNS=COLUMNS,
        )
        return partial.sum(0)

    def _run(self, kernel: Any, read: Tensor, written: Tensor) -> None:
        rows, high = written.numel() // written.shape[-1], TILE // 2 // COLUMNS
        kernel[(_over(rows, high), self._blocks)](
            *(read, self._taps, written, rows, self._groups, *self._sizes),
            **self._kinds,
            ROWS=high,
            COLUMNS=COLUMNS,
            num_warps=4,
        )


def map_sums(inputs: Tensor, other: Tensor | None = None) -> Tensor:
    """Sums over each map, of the inputs or of their product with others, (batch, channels) float32."""
    batch, height, width, channels = inputs.shape
    sums = torch.empty(batch, channels, device=inputs.device)
    kernels.map_sums[(batch, _over(channels, COLUMNS))](
        *(inputs, other, sums, height * width, channels // GROUP), HAS_OTHER=other is not None, **WHOLE
    )
    return sums


def map_affine(inputs: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    """``inputs * scale + shift``, with scale and shift (batch, channels) float32."""
    batch, height, width, channels = inputs.shape
    rows = batch * height * width
    output = torch.empty_like(inputs)
    kernels.map_affine[(_over(rows, TILE // COLUMNS), _over(channels, COLUMNS))](
        *(inputs, scale, shift, output, rows, height * width, channels // GROUP),
        HAS_SHIFT=shift is not None,
        **WHOLE,
    )
    return output


def _spans(rows: int, high: int, wanted: int) -> tuple[int, int]:
    """Rows of each chunk, in tiles, and how many chunks there are."""
    span = _over(_over(rows, max(1, wanted)), high) * high
    return span, _over(rows, span)


def _over(whole: int, part: int) -> int:
    return -(-whole // part)
