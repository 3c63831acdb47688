"""Exported torch programs (``.pt2``) as operators, read without torch.

Such a file is a zip archive: the graph as JSON, each tensor as plain bytes (torch's
``torch/_export/serde/schema.py`` defines both). ``torch.export.load`` would also open pickles; here nothing does.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ofa_tvm.adoption.operators import Array, Operator, OperatorGraph, reading, refused
from ofa_tvm.support.errors import UserError

MAX_BYTES = 2**32
DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 7: np.float32, 8: np.float64}
"""Of torch's ``ScalarType`` in such files."""
ATEN = "torch.ops.aten."
AGAIN = "export it again: torch.export.save(torch.export.export(model.eval(), (image,)), FILE)"
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


@dataclass(frozen=True, eq=False)
class TorchProgram:
    """An exported program of one image and one result.

    Args:
        input: name of the image.
        output: name of the result.
        calls: in order.
        constants: weights and buffers, by the names that calls use.
        shapes: of all tensors, for one image.
    """

    input: str
    output: str
    calls: tuple[Call, ...]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]

    def operators(self) -> OperatorGraph:
        """The program in ONNX's words.

        Raises:
            UserError: something cannot be taken.
        """
        with reading("the program", AGAIN):
            return self._operators()

    def _operators(self) -> OperatorGraph:
        graph = OperatorGraph(self.input, self.output, [], dict(self.constants), dict(self.shapes))
        changed: dict[str, str] = {}
        for call in self.calls:
            with reading(f"the call {call.name} of {call.target}", AGAIN):
                operator = _operator(call, graph)
            operator.inputs = [changed.get(name, name) for name in operator.inputs]
            graph.operators.append(operator)
            if call.is_in_place:  # whoever reads that tensor from now on reads what became of it
                source = _source(call)
                changed |= {name: call.output for name, last in changed.items() if last == changed.get(source)}
                changed[source] = call.output
        graph.output = changed.get(self.output, self.output)
        return graph


def read_program(path: Path) -> TorchProgram:
    """Read a ``.pt2`` file.

    Raises:
        UserError: it is damaged, holds pickles, or is no program of one image and one result.
    """
    with reading(f"{path} is no exported torch program, or", AGAIN), zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES} bytes", AGAIN)
        return _program(archive, path)


def _program(archive: zipfile.ZipFile, path: Path) -> TorchProgram:
    names = [name for name in archive.namelist() if name.endswith("/models/model.json")]
    if len(names) != 1:
        raise UserError(f"{path} is no exported torch program: it holds {len(names)} models", AGAIN)
    root = names[0].removesuffix("models/model.json")
    module = json.loads(archive.read(names[0]))["graph_module"]
    graph, signature = module["graph"], module["signature"]
    images, weights = list[str](), dict[str, str]()
    for spec in signature["input_specs"]:
        (kind, value), *_ = spec.items()
        argument = value["arg"]
        name = argument["as_tensor"]["name"] if "as_tensor" in argument else argument["name"]
        if kind == "user_input":
            images.append(name)
        else:
            weights[name] = value[next(key for key in value if key.endswith("_name"))]
    results = [
        spec["user_output"]["arg"]["as_tensor"]["name"] for spec in signature["output_specs"] if "user_output" in spec
    ]
    if len(images) != 1 or len(results) != 1:
        raise UserError(f"{path} has {len(images)} inputs and {len(results)} outputs", "export it from image to logits")
    if len(results) != len(signature["output_specs"]):
        raise UserError(f"{path} changes its own buffers: it is in training mode", AGAIN)
    stored = _tensors(archive, root)
    missing = [name for name in weights.values() if name not in stored]
    if missing:
        raise UserError(f"{path} lacks the values of {missing[0]}", AGAIN)
    shapes = _shapes(graph["tensor_values"], images[0])
    calls = tuple(_call(node) for node in graph["nodes"])
    constants = {name: stored[key] for name, key in weights.items()}
    return TorchProgram(images[0], results[0], calls, constants, shapes)


def _tensors(archive: zipfile.ZipFile, root: str) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for kind, file in (("weights", "model_weights_config.json"), ("constants", "model_constants_config.json")):
        name = f"{root}data/{kind}/{file}"
        config = json.loads(archive.read(name))["config"] if name in archive.namelist() else {}
        for key, entry in config.items():
            if entry.get("use_pickle"):
                raise UserError(f"the values of {key} are a pickle, which is never opened", AGAIN)
            meta = entry["tensor_meta"]
            if meta["dtype"] not in DTYPES:
                raise UserError(f"{key} is of a type that is not taken ({meta['dtype']})", "export it in float32")
            content = np.frombuffer(archive.read(f"{root}data/{kind}/{entry['path_name']}"), DTYPES[meta["dtype"]])
            found[key] = _strided(content, meta)
    return found


def _strided(content: Array, meta: Mapping[str, Any]) -> Array:
    """The tensor that lies in some bytes; refuses one that would reach beyond them."""
    sizes = [int(size["as_int"]) for size in meta["sizes"]]
    strides = [int(stride["as_int"]) for stride in meta["strides"]]
    first = int(meta["storage_offset"]["as_int"])
    last = first + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    is_beyond = 0 not in sizes and (last >= content.size or math.prod(sizes) > content.size)
    if min([first, *sizes, *strides], default=0) < 0 or is_beyond:
        raise ValueError("a tensor reaches beyond its bytes")
    steps = [stride * content.itemsize for stride in strides]
    return np.array(as_strided(content[first:], sizes, steps))


def _shapes(values: Mapping[str, Any], image: str) -> dict[str, tuple[int, ...]]:
    """Shapes that are known to the last dimension, the batch aside, which becomes 1."""
    sizes = {name: [size.get("as_int") for size in value["sizes"]] for name, value in values.items()}
    batch, rank = sizes[image][0], len(sizes[image])
    shapes = {}
    for name, found in sizes.items():
        is_batched = rank == 4 and len(found) in (2, 4) and found[0] == batch
        shape = [1, *found[1:]] if is_batched else found
        if all(isinstance(size, int) for size in shape):
            shapes[name] = tuple(shape)
    return shapes


def _call(node: Mapping[str, Any]) -> Call:
    arguments = {entry["name"]: _value(entry["arg"]) for entry in node["inputs"]}
    outputs = [value["as_tensor"]["name"] for value in node["outputs"] if "as_tensor" in value]
    if len(outputs) != 1:
        raise refused(node["target"], f"it gives {len(outputs)} tensors", "operators with one result are taken")
    return Call(node["target"], arguments, outputs[0], node.get("name") or outputs[0])


def _value(argument: Mapping[str, Any]) -> Any:  # noqa: ANN401  # torch's operators take anything
    """An argument in Python's terms."""
    (kind, value), *_ = argument.items()
    if kind == "as_tensor":
        return TensorName(value["name"])
    if kind == "as_none":
        return None
    if kind in ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string"):
        return value
    if kind in ("as_sym_int", "as_sym_ints"):
        items = value if isinstance(value, list) else [value]
        numbers = [item.get("as_int", -1) for item in items]
        return numbers if isinstance(value, list) else numbers[0]
    return argument


# In ONNX's words --------------------------------------------------------------------------------------------------


def _operator(call: Call, graph: OperatorGraph) -> Operator:
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
    wanted, source = _pair(call.arguments["output_size"]), _source(call)
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


def _source(call: Call) -> str:
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
