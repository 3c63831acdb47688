"""Groups of operators that stand for one: activations and squeeze-excite as exporters write them.

Activations become ``Relu6``, ``HardSwish``, ``HardSigmoid``, ``Silu`` and ``Gelu``; squeeze-excite becomes
``SqueezeExcite``, whose inputs are the map, and weight and bias of both dense layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ofa_tvm.adoption.activations import check_activation, is_near
from ofa_tvm.adoption.operators import Operator, OperatorGraph, refused
from ofa_tvm.adoption.squeeze_excite import UNPADDED, VIEWS, mean_axes, squeeze_excite

NOTHING = ("Identity", "Dropout")
Rewrite = Callable[[OperatorGraph, Operator], bool]


def rewrite(graph: OperatorGraph) -> None:
    """Put single operators in the place of groups, until there are no more.

    Raises:
        UserError: an activation has other constants than ours.
    """
    for one in REWRITES:
        while any(one(graph, operator) for operator in list(graph.operators)):
            pass


def _drop(graph: OperatorGraph, operator: Operator) -> bool:
    attributes = operator.attributes
    is_cast = operator.kind == "Cast" and attributes.get("to") == 1
    is_pool = operator.kind in ("AveragePool", "MaxPool") and set(attributes.get("kernel_shape", ())) == {1}
    is_pixel = is_pool and not any(attributes.get("pads", ())) and {1}.issuperset(attributes.get("strides", ()))
    if operator.kind in NOTHING or is_cast or is_pixel:
        graph.remove(operator)
        return True
    return False


def _sum(graph: OperatorGraph, operator: Operator) -> bool:
    if operator.kind != "Sum" or len(operator.inputs) != 2:
        return False
    operator.kind = "Add"
    return True


def _pad(graph: OperatorGraph, operator: Operator) -> bool:
    """Zeros around a map, which the one window that reads them takes up."""
    if operator.kind != "Pad":
        return False
    pads, value = operator.attributes.get("pads"), operator.attributes.get("value", 0.0)
    if pads is None:
        pads = graph.constants.get(operator.inputs[1], np.zeros(0)).tolist()
        value = graph.number(operator.inputs[2]) if len(operator.inputs) > 2 and operator.inputs[2] else 0.0
    if not any(pads) and len(pads) == 8:
        graph.remove(operator)
        return True
    reader = graph.only_reader(operator.output)
    if reader is None or reader.kind not in ("Conv", "AveragePool"):
        return False
    is_zero = operator.attributes.get("mode", "constant") == "constant" and value == 0
    is_spatial = len(pads) == 8 and not any((*pads[:2], *pads[4:6])) and min(pads) >= 0
    is_plain = reader.attributes.get("auto_pad", "NOTSET") in UNPADDED
    if not (is_zero and is_spatial and is_plain) or len(operator.inputs) > 3:
        return False
    if reader.kind == "AveragePool" and not reader.attributes.get("count_include_pad", 0):
        return False
    own = reader.attributes.get("pads", (0, 0, 0, 0))
    reader.attributes["pads"] = [one + other for one, other in zip(own, (*pads[2:4], *pads[6:8]), strict=True)]
    graph.remove(operator)
    return True


def _means(graph: OperatorGraph, operator: Operator) -> bool:
    """The mean over columns and then over rows, or the other way round, or over all pixels in a row."""
    if operator.kind != "ReduceMean":
        return False
    first = graph.producer(operator.inputs[0])
    shape = graph.shapes.get(first.inputs[0], ()) if first is not None else ()
    if first is None or len(shape) != 4 or graph.only_reader(first.output) is None:
        return False
    between, axes = graph.shapes.get(first.output, ()), mean_axes(graph, operator)
    own = mean_axes(graph, first) if first.kind == "ReduceMean" else []
    left = range(4) if len(between) == 4 else [axis for axis in range(4) if axis not in own]
    is_both = first.kind == "ReduceMean" and sorted((*own, *(left[axis] for axis in axes))) == [2, 3]
    is_flat = first.kind in VIEWS and between == (*shape[:2], shape[2] * shape[3]) and axes == [2]
    if not (is_both or is_flat):
        return False
    mean = Operator("ReduceMean", operator.name, [first.inputs[0]], operator.output, {"axes": [2, 3]})
    graph.replace([first, operator], mean)
    return True


def bounds(graph: OperatorGraph, operator: Operator) -> tuple[float, float]:
    """Smallest and largest result of a ``Clip``, of whatever opset.

    Raises:
        UserError: they are computed.
    """
    found = []
    for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        given = operator.inputs[index] if len(operator.inputs) > index else ""
        value = graph.number(given) if given else operator.attributes.get(name, default)
        if value is None:
            raise refused(operator, "its bounds are computed", "export the model with constant bounds")
        found.append(float(value))
    return found[0], found[1]


def _clip(graph: OperatorGraph, operator: Operator) -> bool:
    if operator.kind != "Clip":
        return False
    low, high = bounds(graph, operator)
    kinds = {(0.0, 6.0): "Relu6", (0.0, math.inf): "Relu"}
    kind = kinds.get((low, math.inf if high > 1e30 else high))
    if kind is None:
        return False
    operator.kind, operator.inputs, operator.attributes = kind, operator.inputs[:1], {}
    return True


def _scaled(graph: OperatorGraph, operator: Operator | None, factor: float) -> str | None:
    """What an operator multiplies by a factor; None where it does something else."""
    if operator is None or operator.kind not in ("Mul", "Div"):
        return None
    source, constant = graph.operands(operator)
    number = graph.number(constant or "")
    if operator.kind == "Div":
        number = 1 / number if number and operator.inputs[1] == constant else None
    return source if is_near(number, factor) else None


def _shifted(graph: OperatorGraph, operator: Operator | None, term: float) -> str | None:
    """What an operator adds a number to."""
    if operator is None or operator.kind != "Add":
        return None
    source, constant = graph.operands(operator)
    return source if is_near(graph.number(constant or ""), term) else None


def _hard_sigmoid(graph: OperatorGraph, operator: Operator) -> bool:
    """``Relu6(x + 3) / 6``."""
    clipped = _scaled(graph, operator, 1 / 6)
    clip = graph.producer(clipped or "")
    if clip is None or clip.kind != "Relu6" or graph.only_reader(clip.output) is None:
        return False
    shift = graph.producer(clip.inputs[0])
    source = _shifted(graph, shift, 3)
    if source is None or shift is None or graph.only_reader(shift.output) is None:
        return False
    attributes = {"alpha": 1 / 6, "beta": 0.5}
    graph.replace(
        [shift, clip, operator], Operator("HardSigmoid", operator.name, [source], operator.output, attributes)
    )
    return True


def _gated(graph: OperatorGraph, operator: Operator) -> bool:
    """``x * HardSigmoid(x)``, ``x * Sigmoid(x)``."""
    if operator.kind != "Mul":
        return False
    for source, gated in (operator.inputs, operator.inputs[::-1]):
        gate = graph.producer(gated)
        if gate is None or gate.inputs[0] != source or graph.only_reader(gate.output) is None:
            continue
        if gate.kind in ("HardSigmoid", "Sigmoid"):
            kind = {"HardSigmoid": "HardSwish", "Sigmoid": "Silu"}[gate.kind]
            check_activation(gate)
            graph.replace([gate, operator], Operator(kind, operator.name, [source], operator.output))
            return True
    return False


def _late_hard_swish(graph: OperatorGraph, operator: Operator) -> bool:
    """``x * Relu6(x + 3) / 6``, divided last."""
    product = graph.producer(_scaled(graph, operator, 1 / 6) or "")
    if product is None or product.kind != "Mul" or graph.only_reader(product.output) is None:
        return False
    for source, gated in (product.inputs, product.inputs[::-1]):
        clip = graph.producer(gated)
        shift = graph.producer(clip.inputs[0]) if clip is not None and clip.kind == "Relu6" else None
        if clip is not None and shift is not None and _shifted(graph, shift, 3) == source:
            graph.replace(
                [shift, clip, product, operator], Operator("HardSwish", operator.name, [source], operator.output)
            )
            return True
    return False


def _gelu(graph: OperatorGraph, operator: Operator) -> bool:
    """``x * (1 + Erf(x / sqrt(2))) / 2``, halved anywhere."""
    if operator.kind != "Erf":
        return False
    scale = graph.producer(operator.inputs[0])
    source = _scaled(graph, scale, 0.5**0.5)
    shift = graph.only_reader(operator.output)
    if source is None or scale is None or shift is None or _shifted(graph, shift, 1) is None:
        return False
    group, last = [scale, operator, shift], shift
    is_halved, is_multiplied = False, False
    while not (is_halved and is_multiplied):
        reader = graph.only_reader(last.output)
        if reader is None or reader.kind not in ("Mul", "Div"):
            return False
        if not is_halved and _scaled(graph, reader, 0.5) == last.output:
            is_halved = True
        else:
            other = next((name for name in reader.inputs if name != last.output), "")
            half = graph.producer(other)
            if other != source and not is_halved and _scaled(graph, half, 0.5) == source and half is not None:
                is_halved, group = True, [half, *group]
            elif other != source or reader.kind != "Mul":
                return False
            is_multiplied = True
        group, last = [*group, reader], reader
    graph.replace(group, Operator("Gelu", last.name, [source], last.output))
    return True


REWRITES: tuple[Rewrite, ...] = (
    _drop,
    _sum,
    _pad,
    _means,
    _clip,
    _hard_sigmoid,
    _late_hard_swish,
    _gated,
    _gelu,
    squeeze_excite,
)
