"""Exported torch programs (``.pt2``) as operators, read without torch.

Such a file is a zip archive: the graph as JSON, each tensor as plain bytes (torch's
``torch/_export/serde/schema.py`` defines both). ``torch.export.load`` would also open pickles; here nothing does.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ofa_tvm.adoption.aten_operators import Call, TensorName, operator_of, source_of
from ofa_tvm.adoption.operators import Array, OperatorGraph, reading, refused
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.json_text import parse_json

MAX_BYTES = 2**32
DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 7: np.float32, 8: np.float64}
"""Of torch's ``ScalarType`` in such files."""
AGAIN = "export it again: torch.export.save(torch.export.export(model.eval(), (image,)), FILE)"


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
                operator = operator_of(call, graph)
            operator.inputs = [changed.get(name, name) for name in operator.inputs]
            graph.operators.append(operator)
            if call.is_in_place:  # whoever reads that tensor from now on reads what became of it
                source = source_of(call)
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
    module = parse_json(archive.read(names[0]))["graph_module"]
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
        config = parse_json(archive.read(name))["config"] if name in archive.namelist() else {}
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
