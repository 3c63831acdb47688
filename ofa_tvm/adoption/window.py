"""Strides and padding of the windows of convolutions and pools."""

from __future__ import annotations

from dataclasses import replace

from ofa_tvm.adoption.operators import Operator, refused
from ofa_tvm.graph.network import LayerSpec, Padding


def stride_of(operator: Operator) -> int:
    """How far its windows are apart.

    Raises:
        UserError: in the two directions differently.
    """
    strides = operator.attributes.get("strides", (1, 1))
    if strides[0] != strides[1]:
        raise refused(operator, f"its strides {tuple(strides)} differ", "equal strides are taken")
    return int(strides[0])


def padding_of(operator: Operator, window: int, size: int, out_size: int) -> Padding:
    """Where zeros are added around a map of ``size`` whose windows give ``out_size`` pixels.

    Raises:
        UserError: in a way that is not taken.
    """
    attributes, stride = operator.attributes, stride_of(operator)
    automatic = attributes.get("auto_pad", "NOTSET")
    pads = tuple(attributes.get("pads", (0, 0, 0, 0)))
    if automatic == "SAME_UPPER":
        total = max(0, (-(-size // stride) - 1) * stride + window - size)
        pads = (total // 2, total // 2, total - total // 2, total - total // 2)
    elif automatic == "SAME_LOWER":
        raise refused(operator, "it is padded as SAME_LOWER", "SAME_UPPER and equal padding are taken")
    sides = {(pads[0], pads[2]), (pads[1], pads[3])}
    probe = LayerSpec("", "conv", "", 1, 1, size, window, stride)
    choices: tuple[Padding, ...] = ("centred", "tensorflow", "none")
    for padding in choices:
        layer = replace(probe, padding=padding)
        if layer.out_size != out_size:
            continue
        # Zeros behind the map that no window reads do not matter.
        read = (out_size - 1) * stride + window - size
        if all(before == layer.pads[0] and behind >= read - before for before, behind in sides):
            return padding
    raise refused(
        operator,
        f"a window of {window} with stride {stride} is padded by {pads} on a map of {size}",
        "padding by half the window, as TensorFlow's SAME, or none is taken",
    )
