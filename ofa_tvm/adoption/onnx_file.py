"""ONNX files as operators: checked, local functions opened, constants computed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import inliner, numpy_helper, shape_inference
from onnx.external_data_helper import load_external_data_for_model, uses_external_data
from onnx.reference import ReferenceEvaluator

from ofa_tvm.adoption.operators import Array, Operator, OperatorGraph, reading, refused
from ofa_tvm.support.errors import UserError

OPSETS = range(9, 24)
MAX_BYTES = 2**31 - 1
"""Of a protobuf."""
CONTROL = ("If", "Loop", "Scan")
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger")
MAX_FOLDED = 2**28
"""Numbers that a computed constant may have."""
SEPARATE_CONSTANTS = 4
"""IR version since which constants need not be inputs, too; inferring leaves them out before."""
SMALL = 4096
"""Numbers that a constant may have whose values can matter to shapes."""
GROWING = ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "Resize", "Upsample", "Pad", "Concat", "EyeLike")
"""Operators whose result may be larger than what they read; they are computed where its size is known."""
OWN_DOMAINS = ("", "ai.onnx")


def read_onnx(path: Path, resolution: int | None = None) -> OperatorGraph:
    """The operators of an ONNX file.

    Args:
        path: the file.
        resolution: height and width of the image, where the model leaves them open.

    Raises:
        UserError: it cannot be read, or is not a model of one image and one result; names what is wrong.
    """
    with reading(str(path), "export it again"):
        return _operators(load_onnx(path), path, resolution)


def _operators(model: onnx.ModelProto, path: Path, resolution: int | None) -> OperatorGraph:
    _check_domains(model)
    source = _image(model, resolution)
    if len(model.graph.output) != 1:
        names = ", ".join(value.name for value in model.graph.output)
        raise UserError(f"{path} has {len(model.graph.output)} outputs: {names}", "export it with the logits alone")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    _leave_large_out(model, constants)
    model.ir_version = max(model.ir_version, SEPARATE_CONSTANTS)
    shapes: dict[str, tuple[int, ...]] = {}
    is_growing = True
    while is_growing:  # what is computed lets more shapes be inferred, and these more be computed
        model = _inferred(model, path)
        shapes, known = _shapes(model), len(constants)
        _fold(model, shapes, constants)
        is_growing = len(constants) > known
    operators = [_operator(node) for node in model.graph.node if node.output[0] not in constants]
    return OperatorGraph(source, model.graph.output[0].name, operators, constants, shapes)


def load_onnx(path: Path) -> onnx.ModelProto:
    """A model with its weights, its local functions opened.

    Raises:
        UserError: it cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} has {path.stat().st_size} bytes, a protobuf has at most {MAX_BYTES}")
    try:
        model = onnx.load(path, load_external_data=False)
        has_functions = bool(model.functions)
        if not model.graph.node:
            raise UserError(f"{path} is no ONNX model: it has no operators", "give an .onnx file")
    except (DecodeError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no ONNX model, or it is cut off or damaged", "export it again") from error
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        try:
            load_external_data_for_model(model, str(path.parent))
        except Exception as error:  # onnx raises many kinds, its checker's among them
            raise UserError(
                f"weights of {path} lie in another file, which cannot be read: {_said(error)}",
                "put that file beside the model, or export with external_data=False",
            ) from error
    try:
        return inliner.inline_local_functions(model) if has_functions else model
    except Exception as error:  # likewise
        raise UserError(f"{path} cannot be read: {_said(error)}", "export it again") from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_domains(model: onnx.ModelProto) -> None:
    opset = next((item.version for item in model.opset_import if item.domain in OWN_DOMAINS), None)
    if opset is None or opset not in OPSETS:
        raise UserError(
            f"the model is of opset {opset}, opsets {OPSETS[0]} to {OPSETS[-1]} are taken",
            "export it again, e.g. with opset_version=17",
        )
    for node in model.graph.node:
        where = f"{node.op_type} '{node.name or (node.output[0] if node.output else '')}'"
        if node.op_type in CONTROL:
            raise refused(where, "it is control flow", "export the model for inference, with fixed shapes")
        if node.op_type in QUANTISED:
            raise refused(where, "the model is quantised", "adopt the float32 model; --dtype int8 quantises it")
        if node.domain not in OWN_DOMAINS:
            raise refused(where, f"its domain is {node.domain}", "export the model with standard operators")


def _image(model: onnx.ModelProto, resolution: int | None) -> str:
    """The name of the image; the batch becomes 1."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise UserError(f"the model has {len(inputs)} inputs: {names}", "export it with the image alone")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        found = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise UserError(f"the model reads {found}, not float32", "export it in float32")
    dims = kind.shape.dim
    if len(dims) != 4:
        raise UserError(
            f"input '{inputs[0].name}' has {len(dims)} dimensions", "it should be (1, channels, height, width)"
        )
    dims[0].dim_value = 1
    for dim in dims[2:]:
        if dim.dim_value < 1:
            if resolution is None:
                raise UserError(
                    f"the height and width of input '{inputs[0].name}' are open", "give --resolution, e.g. 224"
                )
            dim.dim_value = resolution
    shape = tuple(dim.dim_value for dim in dims)
    if resolution is not None and shape[2:] != (resolution, resolution):
        raise UserError(f"the model reads images of {shape[2]}x{shape[3]}, not {resolution}", "leave out --resolution")
    return str(inputs[0].name)


def _inferred(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    try:
        del model.graph.value_info[:]
        return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # likewise
        raise UserError(f"the shapes of {path} do not fit: {_said(error)}", "export it again") from error


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes that are known to the last dimension."""
    graph = model.graph
    shapes = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.HasField("shape") and all(size > 0 for size in dims):
            shapes[value.name] = tuple(dims)
    return shapes


def _leave_large_out(model: onnx.ModelProto, constants: dict[str, Array]) -> None:
    """Turn weights into inputs: their shapes are all that inferring needs, and each turn copies the model."""
    small = [tensor for tensor in model.graph.initializer if constants[tensor.name].size <= SMALL]
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if constants[tensor.name].size > SMALL and tensor.name not in given:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _fold(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], constants: dict[str, Array]) -> None:
    """Add the constants that operators compute from constants."""
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        if not name or name in constants:
            continue
        found: Any = None
        if node.op_type == "Shape" and node.input[0] in shapes:
            sizes = shapes[node.input[0]]
            places = {attribute.name: attribute.i for attribute in node.attribute}
            found = np.asarray(sizes[places.get("start", 0) : places.get("end", len(sizes))], np.int64)
        elif _is_small(node, shapes) and all(source in constants for source in node.input if source):
            found = _computed(node, model, constants)
        if found is None:
            continue
        constants[name] = np.asarray(found)
        tensor = constants[name]
        if tensor.size <= SMALL:
            model.graph.initializer.append(numpy_helper.from_array(tensor, name))


def _is_small(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether an operator's one result may be computed here."""
    shape = shapes.get(node.output[0])
    fits = node.op_type not in GROWING if shape is None else math.prod(shape) <= MAX_FOLDED
    return len(node.output) == 1 and fits


def _computed(node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, Array]) -> Array | None:
    """What an operator makes of constants; None where that cannot be computed here."""
    sources = [name for name in node.input if name]
    values = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in sources]
    result = onnx.helper.make_value_info(node.output[0], onnx.TypeProto())
    graph = onnx.helper.make_graph([node], "constant", values, [result])
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        values_of = {name: constants[name] for name in sources}
        return np.asarray(ReferenceEvaluator(single).run(None, values_of)[0])  # type: ignore[index]
    except Exception:  # the operator stays, and is refused by name
        return None


def _operator(node: onnx.NodeProto) -> Operator:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    return Operator(node.op_type, node.name, list(node.input), node.output[0], texts)
