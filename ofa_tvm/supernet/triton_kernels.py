"""Kernels of a training step on NVIDIA GPUs, in Triton: depthwise convolutions, batch norms, sums and scales of maps.

Maps are (batch, height, width, channels) in memory; a row is one pixel. cuDNN compiles a plan for every shape of a
depthwise convolution it meets, and a supernet meets hundreds: these take sizes at run time, and only the kernel size
and the stride are compiled in. ``groups`` are the channels in eights, so that Triton sees that rows are aligned.
"""

from __future__ import annotations

import triton
import triton.language as tl

GROUP = tl.constexpr(8)
"""Channels are multiples of this."""
SIZES = ["rows", "groups", "span", "height", "width", "out_height", "out_width", "before", "area", "chunks", "kind"]


@triton.jit
def _activated(value, kind):
    """``kind`` as in ``norm_activation.KINDS``."""
    relu = tl.maximum(value, 0.0)
    swish = value * tl.minimum(tl.maximum(value + 3.0, 0.0), 6.0) / 6.0
    return tl.where(kind == 0, value, tl.where(kind == 1, relu, tl.where(kind == 2, swish, tl.minimum(relu, 6.0))))


@triton.jit
def _slope(value, kind):
    """The activation's derivative."""
    relu = tl.where(value > 0.0, 1.0, 0.0)
    swish = tl.where(value < -3.0, 0.0, tl.where(value > 3.0, 1.0, value / 3.0 + 0.5))
    relu6 = tl.where(value < 6.0, relu, 0.0)
    return tl.where(kind == 0, 1.0, tl.where(kind == 1, relu, tl.where(kind == 2, swish, relu6)))


@triton.jit(do_not_specialize=SIZES)
def norm_sums(inputs, partial, rows, groups, span, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums of values and of their squares, of each ``span`` of rows: partial (chunks, 2, channels)."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(0) * span
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, tl.minimum(first + span, rows), ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < channels)[None, :]
        value = tl.load(inputs + row[:, None] * channels + column[None, :], inside, 0.0).to(tl.float32)
        sums += value
        squares += value * value
    place = partial + tl.program_id(0) * 2 * channels + column
    tl.store(place, tl.sum(sums, 0), column < channels)
    tl.store(place + channels, tl.sum(squares, 0), column < channels)


@triton.jit
def _summed(partial, column, channels, chunks, CHUNKS: tl.constexpr, COLUMNS: tl.constexpr):
    """The two rows of partial sums (chunks, 2, channels), each summed."""
    first = tl.zeros((CHUNKS, COLUMNS), tl.float32)
    second = tl.zeros((CHUNKS, COLUMNS), tl.float32)
    for start in range(0, chunks, CHUNKS):
        chunk = start + tl.arange(0, CHUNKS)
        inside = (chunk < chunks)[:, None] & (column < channels)[None, :]
        place = partial + chunk[:, None] * 2 * channels + column[None, :]
        first += tl.load(place, inside, 0.0)
        second += tl.load(place + channels, inside, 0.0)
    return tl.sum(first, 0), tl.sum(second, 0)


@triton.jit(do_not_specialize=SIZES)
def norm_statistics(
    partial,
    weight,
    bias,
    running_mean,
    running_variance,
    norm,
    rows,
    groups,
    chunks,
    momentum,
    epsilon,
    CHUNKS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """What a batch norm does to each channel: norm (4, channels) of mean, 1 / deviation, scale, shift."""
    channels = groups * GROUP
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels
    sums, squares = _summed(partial, column, channels, chunks, CHUNKS, COLUMNS)
    mean = sums / rows
    variance = tl.maximum(squares / rows - mean * mean, 0.0)
    rstd = 1.0 / tl.sqrt(variance + epsilon)
    scale = tl.load(weight + column, inside, 0.0) * rstd
    shift = tl.load(bias + column, inside, 0.0) - mean * scale
    tl.store(norm + column, mean, inside)
    tl.store(norm + channels + column, rstd, inside)
    tl.store(norm + 2 * channels + column, scale, inside)
    tl.store(norm + 3 * channels + column, shift, inside)
    before = tl.load(running_mean + column, inside, 0.0)
    tl.store(running_mean + column, before + momentum * (mean - before), inside)
    before = tl.load(running_variance + column, inside, 0.0)
    unbiased = variance * (rows / tl.maximum(rows - 1, 1))
    tl.store(running_variance + column, before + momentum * (unbiased - before), inside)


@triton.jit(do_not_specialize=SIZES)
def norm_apply(
    inputs,
    norm,
    residual,
    outputs,
    rows,
    groups,
    kind,
    HAS_RESIDUAL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``activation(inputs * scale + shift) + residual``."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < rows)[:, None] & (column < channels)[None, :]
    place = row[:, None] * channels + column[None, :]
    scale = tl.load(norm + 2 * channels + column, column < channels, 0.0)
    shift = tl.load(norm + 3 * channels + column, column < channels, 0.0)
    value = tl.load(inputs + place, inside, 0.0).to(tl.float32)
    value = _activated(value * scale[None, :] + shift[None, :], kind)
    if HAS_RESIDUAL:
        value += tl.load(residual + place, inside, 0.0).to(tl.float32)
    tl.store(outputs + place, value.to(outputs.dtype.element_ty), inside)


@triton.jit(do_not_specialize=SIZES)
def norm_gradient_sums(
    inputs, above, norm, partial, rows, groups, span, kind, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sums of the gradient before the activation, and of its product with the normalised inputs."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(0) * span
    has_channel = column < channels
    mean = tl.load(norm + column, has_channel, 0.0)[None, :]
    rstd = tl.load(norm + channels + column, has_channel, 0.0)[None, :]
    scale = tl.load(norm + 2 * channels + column, has_channel, 0.0)[None, :]
    shift = tl.load(norm + 3 * channels + column, has_channel, 0.0)[None, :]
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, tl.minimum(first + span, rows), ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & has_channel[None, :]
        place = row[:, None] * channels + column[None, :]
        value = tl.load(inputs + place, inside, 0.0).to(tl.float32)
        gradient = tl.load(above + place, inside, 0.0).to(tl.float32) * _slope(value * scale + shift, kind)
        sums += gradient
        products += gradient * (value - mean) * rstd
    place = partial + tl.program_id(0) * 2 * channels + column
    tl.store(place, tl.sum(sums, 0), has_channel)
    tl.store(place + channels, tl.sum(products, 0), has_channel)


@triton.jit(do_not_specialize=SIZES)
def norm_gradient_means(
    partial, to_weight, to_bias, means, rows, groups, chunks, CHUNKS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Add to the gradients of weight and bias; means (2, channels) of both sums over the rows."""
    channels = groups * GROUP
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels
    sums, products = _summed(partial, column, channels, chunks, CHUNKS, COLUMNS)
    tl.store(to_bias + column, tl.load(to_bias + column, inside, 0.0) + sums, inside)
    tl.store(to_weight + column, tl.load(to_weight + column, inside, 0.0) + products, inside)
    tl.store(means + column, sums / rows, inside)
    tl.store(means + channels + column, products / rows, inside)


@triton.jit(do_not_specialize=SIZES)
def norm_gradient(inputs, above, norm, means, below, rows, groups, kind, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The gradient of a batch norm's inputs."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    has_channel = column < channels
    inside = (row < rows)[:, None] & has_channel[None, :]
    place = row[:, None] * channels + column[None, :]
    mean = tl.load(norm + column, has_channel, 0.0)[None, :]
    rstd = tl.load(norm + channels + column, has_channel, 0.0)[None, :]
    scale = tl.load(norm + 2 * channels + column, has_channel, 0.0)[None, :]
    shift = tl.load(norm + 3 * channels + column, has_channel, 0.0)[None, :]
    mean_gradient = tl.load(means + column, has_channel, 0.0)[None, :]
    mean_product = tl.load(means + channels + column, has_channel, 0.0)[None, :]
    value = tl.load(inputs + place, inside, 0.0).to(tl.float32)
    gradient = tl.load(above + place, inside, 0.0).to(tl.float32) * _slope(value * scale + shift, kind)
    result = scale * (gradient - mean_gradient - (value - mean) * rstd * mean_product)
    tl.store(below + place, result.to(below.dtype.element_ty), inside)


@triton.jit(do_not_specialize=SIZES)
def depthwise(
    inputs,
    taps,
    outputs,
    rows,
    groups,
    height,
    width,
    out_height,
    out_width,
    before,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Depthwise convolution with taps (KERNEL, KERNEL, channels); rows are of the outputs."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    has_channel = column < channels
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    left = row % out_width * STRIDE - before
    top = row // out_width % out_height * STRIDE - before
    image = row // (out_width * out_height)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in range(KERNEL):
        y = top + i
        for j in tl.static_range(KERNEL):
            x = left + j
            inside = (row < rows) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            place = ((image * height + y) * width + x)[:, None] * channels + column[None, :]
            value = tl.load(inputs + place, inside[:, None] & has_channel[None, :], 0.0).to(tl.float32)
            total += value * tl.load(taps + (i * KERNEL + j) * channels + column, has_channel, 0.0)[None, :]
    place = row[:, None] * channels + column[None, :]
    tl.store(outputs + place, total.to(outputs.dtype.element_ty), (row < rows)[:, None] & has_channel[None, :])


@triton.jit(do_not_specialize=SIZES)
def depthwise_to_inputs(
    above,
    taps,
    below,
    rows,
    groups,
    height,
    width,
    out_height,
    out_width,
    before,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradient of a depthwise convolution's inputs; rows are of the inputs."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    has_channel = column < channels
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    right = row % width + before
    bottom = row // width % height + before
    image = row // (width * height)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in range(KERNEL):
        y = (bottom - i) // STRIDE
        meets = (row < rows) & (bottom >= i) & ((bottom - i) % STRIDE == 0) & (y < out_height)
        for j in tl.static_range(KERNEL):
            x = (right - j) // STRIDE
            inside = meets & (right >= j) & ((right - j) % STRIDE == 0) & (x < out_width)
            place = ((image * out_height + y) * out_width + x)[:, None] * channels + column[None, :]
            value = tl.load(above + place, inside[:, None] & has_channel[None, :], 0.0).to(tl.float32)
            total += value * tl.load(taps + (i * KERNEL + j) * channels + column, has_channel, 0.0)[None, :]
    place = row[:, None] * channels + column[None, :]
    tl.store(below + place, total.to(below.dtype.element_ty), (row < rows)[:, None] & has_channel[None, :])


@triton.jit
def _at(place, x, j, inside, width, channels):
    """Inputs under the tap of a column."""
    return tl.load(place + j * channels, inside & (x + j >= 0) & (x + j < width), 0.0).to(tl.float32)


@triton.jit(do_not_specialize=SIZES)
def depthwise_to_taps(
    inputs,
    above,
    partial,
    rows,
    groups,
    span,
    height,
    width,
    out_height,
    out_width,
    before,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradient of one row of taps from a ``span`` of output rows: partial (chunks, KERNEL, KERNEL, channels)."""
    channels = groups * GROUP
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    has_channel = column < channels
    i = tl.program_id(2)
    first = tl.program_id(0) * span
    # A variable for each tap: Triton has no arrays of registers.
    tap0 = tl.zeros((ROWS, COLUMNS), tl.float32)
    tap1 = tl.zeros((ROWS, COLUMNS), tl.float32)
    tap2 = tl.zeros((ROWS, COLUMNS), tl.float32)
    tap3 = tl.zeros((ROWS, COLUMNS), tl.float32)
    tap4 = tl.zeros((ROWS, COLUMNS), tl.float32)
    tap5 = tl.zeros((ROWS, COLUMNS), tl.float32)
    tap6 = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, tl.minimum(first + span, rows), ROWS):
        row = start + tl.arange(0, ROWS)
        y = row // out_width % out_height * STRIDE - before + i
        x = (row % out_width * STRIDE - before)[:, None]
        inside = ((row < rows) & (y >= 0) & (y < height))[:, None] & has_channel
        gradient = tl.load(above + row[:, None] * channels + column, inside, 0.0).to(tl.float32)
        place = inputs + ((row // (out_width * out_height) * height + y) * width)[:, None] * channels
        place += x * channels + column
        tap0 += gradient * _at(place, x, 0, inside, width, channels)
        tap1 += gradient * _at(place, x, 1, inside, width, channels)
        tap2 += gradient * _at(place, x, 2, inside, width, channels)
        if KERNEL > 3:
            tap3 += gradient * _at(place, x, 3, inside, width, channels)
            tap4 += gradient * _at(place, x, 4, inside, width, channels)
        if KERNEL > 5:
            tap5 += gradient * _at(place, x, 5, inside, width, channels)
            tap6 += gradient * _at(place, x, 6, inside, width, channels)
    place = partial + (tl.program_id(0) * KERNEL + i) * KERNEL * channels + column
    tl.store(place, tl.sum(tap0, 0)[None, :], has_channel)
    tl.store(place + channels, tl.sum(tap1, 0)[None, :], has_channel)
    tl.store(place + 2 * channels, tl.sum(tap2, 0)[None, :], has_channel)
    if KERNEL > 3:
        tl.store(place + 3 * channels, tl.sum(tap3, 0)[None, :], has_channel)
        tl.store(place + 4 * channels, tl.sum(tap4, 0)[None, :], has_channel)
    if KERNEL > 5:
        tl.store(place + 5 * channels, tl.sum(tap5, 0)[None, :], has_channel)
        tl.store(place + 6 * channels, tl.sum(tap6, 0)[None, :], has_channel)


@triton.jit(do_not_specialize=SIZES)
def map_sums(inputs, other, sums, area, groups, HAS_OTHER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums over each map, of the inputs or of their product with another map: (batch, channels)."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    has_channel = column < channels
    image = tl.program_id(0)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, area, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < area)[:, None] & has_channel[None, :]
        place = (image * area + row)[:, None] * channels + column[None, :]
        value = tl.load(inputs + place, inside, 0.0).to(tl.float32)
        if HAS_OTHER:
            value *= tl.load(other + place, inside, 0.0).to(tl.float32)
        total += value
    tl.store(sums + image * channels + column, tl.sum(total, 0), has_channel)


@triton.jit(do_not_specialize=SIZES)
def map_affine(
    inputs,
    scale,
    shift,
    outputs,
    rows,
    area,
    groups,
    HAS_SHIFT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``inputs * scale + shift`` with scale and shift (batch, channels)."""
    channels = groups * GROUP
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < rows)[:, None] & (column < channels)[None, :]
    place = row[:, None] * channels + column[None, :]
    of_map = (row // area)[:, None] * channels + column[None, :]
    value = tl.load(inputs + place, inside, 0.0).to(tl.float32) * tl.load(scale + of_map, inside, 0.0)
    if HAS_SHIFT:
        value += tl.load(shift + of_map, inside, 0.0)
    tl.store(outputs + place, value.to(outputs.dtype.element_ty), inside)
