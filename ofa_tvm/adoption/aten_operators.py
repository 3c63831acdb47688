"""Calls of torch's operators in ONNX's words. A new operator is one line in ``TRANSLATIONS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ofa_tvm.adoption.operators import Operator, OperatorGraph, refused

ATEN = "torch.ops.aten."
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of a torch operator: what it is called by, what it is given by name, and what it gives."""

    target: str
    arguments: Arguments
    output: str
    name: str

    @property
    def is_in_place(self) -> bool:
        """Whether it changes the first tensor that it is given."""
        return self.target.removeprefix(ATEN).split(".")[0].endswith("_")


@dataclass(frozen=True)
class TensorName:
    """An argument that is a tensor."""

    name: str


def operator_of(call: Call, graph: OperatorGraph) -> Operator:
    """A call in ONNX's words; one that has none keeps its name.

    Raises:
        UserError: it has arguments that are not understood.
    """
    name = call.target.removeprefix(ATEN).split(".")[0].rstrip("_")
    translate = TRANSLATIONS.get(name) if call.target.startswith(ATEN) else None
    inputs = [value.name for value in call.arguments.values() if isinstance(value, TensorName)]
    if translate is None:
        return Operator(call.target, call.name, inputs, call.output)
    unknown = {key for key, value in call.arguments.items() if value not in UNSET and key not in ARGUMENTS}
    if unknown:
        raise refused(f"{call.target} '{call.name}'", f"it has {', '.join(sorted(unknown))}", "leave that out")
    kind, attributes = translate(call, graph)
    if kind in ("Add", "Mul", "Sub", "Div"):
        inputs = _operands(call, graph)
    elif kind == "BatchNormalization":
        inputs = _norm_inputs(call, graph)
    return Operator(kind, call.name, inputs, call.output, attributes)


UNSET: tuple[Any, ...] = (None, False)
"""Values of arguments that ask for nothing."""
ARGUMENTS = {
    *("self", "other", "input", "weight", "bias", "stride", "padding", "dilation", "groups", "alpha", "eps"),
    *("running_mean", "running_var", "training", "momentum", "cudnn_enabled", "min_val", "max_val", "min", "max"),
    *("dim", "keepdim", "output_size", "kernel_size", "ceil_mode", "count_include_pad", "start_dim", "end_dim"),
    *("size", "shape", "p", "pad", "mode", "value", "approximate", "memory_format"),
}
"""Arguments of torch's operators that are understood."""


Translation = Callable[[Call, OperatorGraph], tuple[str, dict[str, Any]]]


def _plain(kind: str, **attributes: float) -> Translation:
    return lambda call, graph: (kind, dict(attributes))


def _pair(value: int | list[int]) -> list[int]:
    items = [value] if isinstance(value, int) else list(value)
    return items * 2 if len(items) == 1 else items


def _window(call: Call) -> dict[str, Any]:
    arguments = call.arguments
    padding = arguments.get("padding", [0])
    if isinstance(padding, str):
        automatic = {"same": "SAME_UPPER", "valid": "NOTSET"}[padding]
        pads, attributes = [0, 0], {"auto_pad": automatic}
    else:
        pads, attributes = _pair(padding), {}
    return {**attributes, "pads": [*pads, *pads], "dilations": _pair(arguments.get("dilation", [1]))}


def _conv(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
    strides = _pair(call.arguments.get("stride", [1]))
    return "Conv", {**_window(call), "strides": strides, "group": call.arguments.get("groups", 1)}


def _pool(kind: str) -> Translation:
    def translated(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
        window = _pair(call.arguments["kernel_size"])
        strides = _pair(call.arguments.get("stride") or window)
        attributes = {**_window(call), "kernel_shape": window, "strides": strides}
        if kind == "AveragePool":
            attributes["count_include_pad"] = int(call.arguments.get("count_include_pad", True))
            del attributes["dilations"]
        return kind, attributes

    return translated


def _adaptive(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
    wanted, source = _pair(call.arguments["output_size"]), source_of(call)
    if wanted == [1, 1]:
        return "GlobalAveragePool", {}
    if tuple(wanted) == graph.shapes.get(source, ())[2:]:
        return "Identity", {}
    return call.target, {}


def _pad(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
    sides = call.arguments.get("pad", ())
    if len(sides) != 4:
        return call.target, {}
    left, right, top, bottom = sides
    mode = call.arguments.get("mode", "constant")
    return "Pad", {
        "pads": [0, 0, top, left, 0, 0, bottom, right],
        "mode": mode,
        "value": call.arguments.get("value") or 0.0,
    }


def _softmax(kind: str) -> Translation:
    return lambda call, graph: (kind, {"axis": call.arguments.get("dim", -1)})


def _mean(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
    return "ReduceMean", {"axes": list(call.arguments.get("dim") or ())}


def _clip(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
    low = call.arguments.get("min_val", call.arguments.get("min"))
    high = call.arguments.get("max_val", call.arguments.get("max"))
    bounds = {"min": -1.0 if low is None and "hardtanh" in call.target else low, "max": high}
    if "hardtanh" in call.target and high is None:
        bounds["max"] = 1.0
    return "Clip", {name: float(bound) for name, bound in bounds.items() if bound is not None}


def _gelu(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
    return "Gelu", {"approximate": call.arguments.get("approximate", "none")}


def _norm(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
    training = int(bool(call.arguments.get("training", False)))
    return "BatchNormalization", {"training_mode": training, "epsilon": call.arguments.get("eps", 1e-5)}


def _arithmetic(kind: str) -> Translation:
    def translated(call: Call, graph: OperatorGraph) -> tuple[str, dict[str, Any]]:
        return (kind if call.arguments.get("alpha", 1) == 1 else call.target), {}

    return translated


def source_of(call: Call) -> str:
    """The first tensor that a call is given."""
    return next((value.name for value in call.arguments.values() if isinstance(value, TensorName)), "")


def _operands(call: Call, graph: OperatorGraph) -> list[str]:
    """Both inputs of a sum or product; a number becomes a constant."""
    names = []
    for part in ("self", "other"):
        value = call.arguments[part]
        if isinstance(value, TensorName):
            names.append(value.name)
        else:
            names.append(f"{call.output}.{part}")
            graph.constants[names[-1]] = np.asarray(value, np.float32)
    return names


def _norm_inputs(call: Call, graph: OperatorGraph) -> list[str]:
    """Map, weight, bias, mean and variance; weight and bias may be left out."""
    names = []
    for part, default in (("input", 0), ("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
        value = call.arguments.get(part)
        if isinstance(value, TensorName):
            names.append(value.name)
        else:
            names.append(f"{call.output}.{part}")
            graph.constants[names[-1]] = np.full(graph.shapes[names[0]][1], default, np.float32)
    return names


TRANSLATIONS: dict[str, Translation] = {
    "conv2d": _conv,
    "batch_norm": _norm,
    "relu": _plain("Relu"),
    "relu6": _plain("Relu6"),
    "hardtanh": _clip,
    "clamp": _clip,
    "hardswish": _plain("HardSwish"),
    "hardsigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "silu": _plain("Silu"),
    "sigmoid": _plain("Sigmoid"),
    "gelu": _gelu,
    "add": _arithmetic("Add"),
    "sub": _arithmetic("Sub"),
    "mul": _arithmetic("Mul"),
    "div": _arithmetic("Div"),
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive,
    "max_pool2d": _pool("MaxPool"),
    "avg_pool2d": _pool("AveragePool"),
    "linear": _plain("Gemm", transB=1),
    "flatten": _plain("Flatten"),
    "view": _plain("Reshape"),
    "reshape": _plain("Reshape"),
    "squeeze": _plain("Squeeze"),
    "unsqueeze": _plain("Unsqueeze"),
    "dropout": _plain("Identity"),
    "feature_dropout": _plain("Identity"),
    "pad": _pad,
    "constant_pad_nd": _pad,
    "alias": _plain("Identity"),
    "clone": _plain("Identity"),
    "contiguous": _plain("Identity"),
    "softmax": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"),
}
"""From the names of torch's operators, without overload and the underscore of those in place."""
