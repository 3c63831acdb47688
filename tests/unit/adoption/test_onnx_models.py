"""ONNX models become networks that compute the same, whichever way their exporter wrote them; others are refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ofa_tvm.adoption.adopted_network import adopt_operators
from ofa_tvm.adoption.onnx_file import read_onnx
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.support.errors import UserError

pytestmark = pytest.mark.seconds(10)
SIZE = 8


class Model:
    """An ONNX model, node by node, of random weights."""

    def __init__(self, opset: int = 17, channels: int = 3) -> None:
        self.opset, self.nodes, self.constants = opset, list[Any](), list[Any]()
        self.rng = np.random.default_rng(0)
        self.last, self.channels, self.size = "image", channels, SIZE
        self.inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, SIZE, SIZE])]

    def constant(self, *shape: int, value: Any = None) -> str:
        array = self.rng.standard_normal(shape).astype(np.float32) if value is None else np.asarray(value)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(value=np.float32(value))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs or (self.last,)), [output], output, **attributes))
        self.last = output
        return output

    def conv(self, outputs: int, kernel: int = 1, source: str = "", group: int = 1, **attributes: Any) -> str:
        source = source or self.last
        weight = self.constant(outputs, self.channels // group, kernel, kernel)
        if "auto_pad" not in attributes:
            attributes.setdefault("pads", [kernel // 2] * 4)
        self.channels = outputs
        return self.add("Conv", source, weight, self.constant(outputs), group=group, **attributes)

    def head(self, classes: int = 5) -> Model:
        self.add("GlobalAveragePool")
        self.add("Flatten")
        weight, bias = self.constant(classes, self.channels), self.constant(classes)
        self.add("Gemm", self.last, weight, bias, transB=1)
        return self

    def proto(self) -> onnx.ModelProto:
        result = helper.make_empty_tensor_value_info(self.last)
        result.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "g", self.inputs, [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def stem(opset: int = 17) -> Model:
    model = Model(opset)
    model.conv(8, 3)
    return model


def relu_bounds(model: Model) -> None:
    model.add("Clip", model.last, model.number(0), model.number(6))


def open_bounds(model: Model) -> None:
    model.add("Clip", model.last, model.number(0), "")


def gated(model: Model) -> None:
    source = model.last
    model.add("Mul", source, model.add("HardSigmoid", alpha=1 / 6, beta=0.5))


def late_hard_swish(model: Model) -> None:
    source = model.last
    model.add("Add", source, model.number(3))
    model.add("Clip", model.last, model.number(0), model.number(6))
    model.add("Mul", source, model.last)
    model.add("Div", model.last, model.number(6))


def early_hard_swish(model: Model) -> None:
    source = model.last
    model.add("Add", model.number(3), source)
    model.add("Clip", model.last, model.number(0), model.number(6))
    model.add("Mul", model.last, model.number(1 / 6))
    model.add("Mul", model.last, source)


def silu(model: Model) -> None:
    source = model.last
    model.add("Mul", model.add("Sigmoid", source), source)


def gelu(halved: str) -> Callable[[Model], None]:
    def build(model: Model) -> None:
        source = model.last
        half = model.add("Mul", source, model.number(0.5)) if halved == "first" else source
        model.add("Div", source, model.number(2**0.5))
        model.add("Erf", model.last)
        model.add("Add", model.last, model.number(1))
        if halved == "gate":
            model.add("Mul", model.last, model.number(0.5))
        model.add("Mul", half, model.last)
        if halved == "last":
            model.add("Mul", model.last, model.number(0.5))

    return build


def norm(model: Model) -> None:
    variance = model.constant(value=model.rng.random(8).astype(np.float32) + 0.5)
    model.add("BatchNormalization", model.last, *(model.constant(8) for _ in range(3)), variance, epsilon=1e-3)


def affine(model: Model) -> None:
    model.add("Mul", model.last, model.constant(1, 8, 1, 1))
    model.add("Sub", model.last, model.constant(8, 1, 1))
    model.add("Relu")


def squeeze_excite(mean: str, dense: str, gate: str) -> Callable[[Model], None]:
    def build(model: Model) -> None:
        model.conv(8, 3, group=8)
        source = model.last
        if mean == "pool":
            model.add("GlobalAveragePool")
        else:
            model.add("ReduceMean", axes=[2, 3] if mean == "kept" else [-1, -2], keepdims=int(mean == "kept"))
        if dense == "Conv":
            for number, kind in enumerate(("Relu", gate)):
                inputs, outputs = (8, 4) if number == 0 else (4, 8)
                model.add("Conv", model.last, model.constant(outputs, inputs, 1, 1), model.constant(outputs))
                model.add(kind, **({"alpha": 1 / 6} if kind == "HardSigmoid" else {}))
        else:
            if mean == "pool":
                model.add("Flatten")
            model.add("MatMul", model.last, model.constant(8, 4))
            model.add("Add", model.last, model.constant(4))
            model.add("Relu")
            model.add("Gemm", model.last, model.constant(8, 4), model.constant(8), transB=1)
            model.add(gate)
            model.add("Reshape", model.last, model.constant(value=np.asarray([1, 8, 1, 1])))
        model.add("Mul", source, model.last)
        model.channels = 8
        model.conv(8)

    return build


def residual(second_first: bool) -> Callable[[Model], None]:
    def build(model: Model) -> None:
        model.add("Relu")
        source = model.last
        model.conv(8, 3)
        other = model.conv(8, 1, source) if second_first else source
        main = f"t{len(model.nodes) - 2}" if second_first else model.last
        model.add("Add", *((other, main) if second_first else (main, other)))
        model.add("Relu")

    return build


def padded(model: Model) -> None:
    model.add("Pad", model.last, model.constant(value=np.asarray([0, 0, 0, 0, 0, 0, 1, 1])))
    model.conv(8, 3, group=8, pads=[0] * 4, strides=[2, 2])


def nothing(model: Model) -> None:
    model.add("Identity")
    model.add("Dropout")
    model.add("Cast", to=1)


def computed_shape(model: Model) -> None:
    model.add("Relu")
    source = model.add("GlobalAveragePool")
    batch = model.add("Gather", model.add("Shape", source), model.constant(value=np.asarray([0])))
    shape = model.add("Concat", batch, model.constant(value=np.asarray([-1])), axis=0)
    model.add("Reshape", source, shape)
    model.add("Reshape", model.last, model.constant(value=np.asarray([1, 8, 1, 1])))


def means(first: int, second: int, keepdims: int) -> Callable[[Model], None]:
    def build(model: Model) -> None:
        model.conv(8, 3, group=8)
        source = model.last
        model.add("ReduceMean", axes=[first], keepdims=keepdims)
        model.add("ReduceMean", axes=[second], keepdims=keepdims)
        if keepdims == 0:
            model.add("Reshape", model.last, model.constant(value=np.asarray([1, 8, 1, 1])))
        for kind, inputs, outputs in (("Relu", 8, 4), ("Sigmoid", 4, 8)):
            model.add("Conv", model.last, model.constant(outputs, inputs, 1, 1), model.constant(outputs))
            model.add(kind)
        model.add("Mul", source, model.last)
        model.channels = 8
        model.conv(8)

    return build


def mean_of_pixels(model: Model) -> None:
    model.add("Relu")
    model.add("Reshape", model.last, model.constant(value=np.asarray([0, 0, -1])))
    model.add("ReduceMean", axes=[-1], keepdims=0)
    model.add("Reshape", model.last, model.constant(value=np.asarray([1, 8, 1, 1])))


def pads_of_nothing(model: Model) -> None:
    model.add("Pad", model.last, model.constant(value=np.zeros(8, np.int64)))
    model.add("AveragePool", kernel_shape=[1, 1], strides=[1, 1])
    model.conv(8, 3, group=8)


def activated_sum(model: Model) -> None:
    source = model.add("Relu")
    model.conv(8, 3)
    model.add("Add", model.add("Relu"), source)
    model.add("Relu")


PIECES: dict[str, Callable[[Model], Any]] = {
    "relu": lambda model: model.add("Relu"),
    "relu6": relu_bounds,
    "relu by clip": open_bounds,
    "hard-swish": lambda model: model.add("HardSwish"),
    "hard-swish by gate": gated,
    "hard-swish, divided last": late_hard_swish,
    "hard-swish, divided first": early_hard_swish,
    "silu": silu,
    "gelu, halved first": gelu("first"),
    "gelu, gate halved": gelu("gate"),
    "gelu, halved last": gelu("last"),
    "norm": norm,
    "affine": affine,
    "squeeze-excite": squeeze_excite("pool", "Conv", "HardSigmoid"),
    "squeeze-excite of means": squeeze_excite("kept", "Conv", "Sigmoid"),
    "squeeze-excite by matrices": squeeze_excite("pool", "MatMul", "Sigmoid"),
    "squeeze-excite of vectors": squeeze_excite("vector", "MatMul", "Sigmoid"),
    "residual": residual(second_first=False),
    "residual of two convolutions": residual(second_first=True),
    "padded as by TensorFlow": padded,
    "same": lambda model: model.conv(8, 3, auto_pad="SAME_UPPER", strides=[2, 2]),
    "unpadded": lambda model: model.conv(8, 3, pads=[0] * 4),
    "grouped": lambda model: model.conv(8, 3, group=2),
    "strided 1x1": lambda model: model.conv(12, 1, strides=[2, 2]),
    "max pool": lambda model: model.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "max pool, zeros behind": lambda model: model.add(
        "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]
    ),
    "max pool of pairs": lambda model: model.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "average pool": lambda model: model.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "nothing": nothing,
    "means of columns, then of rows": means(3, 2, 1),
    "means of rows, then of columns, as vectors": means(2, 2, 0),
    "mean of all pixels": mean_of_pixels,
    "pads of nothing": pads_of_nothing,
    "sum of two activated maps": activated_sum,
    "computed shape": computed_shape,
}


def check(model: Model, tmp_path: Any, size: int = SIZE) -> Any:
    """Both compute the same logits."""
    path = tmp_path / "model.onnx"
    proto = model.proto()
    onnx.save(proto, path)
    adopted = adopt_operators(read_onnx(path, None))
    images = np.random.default_rng(1).standard_normal((2, size, size, 3)).astype(np.float32)
    evaluator = ReferenceEvaluator(proto)
    for image in images:
        given = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
        expected = np.asarray(evaluator.run(None, {"image": given})[0]).reshape(1, -1)  # type: ignore[index]
        found = network_logits(adopted.network, adopted.weights, image[None])
        if not adopted.has_softmax:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        else:
            shares = np.exp(found - found.max())
            np.testing.assert_allclose(shares / shares.sum(), expected, rtol=1e-3, atol=1e-5)
    return adopted


@pytest.mark.parametrize("piece", PIECES)
def test_the_same_is_computed(piece, tmp_path):
    model = stem()
    PIECES[piece](model)
    check(model.head(), tmp_path)


def test_bounds_are_attributes_before_opset_11(tmp_path):
    model = stem(9)
    model.add("Clip", min=0.0, max=6.0)
    adopted = check(model.head(), tmp_path)
    assert adopted.network.layers[0].activation == "relu6"


def test_gelu_is_one_operator_since_opset_20(tmp_path):
    model = stem(20)
    model.add("Gelu")
    assert check(model.head(), tmp_path).network.layers[0].activation == "gelu"


def test_grey_images_are_refused(tmp_path):
    model = Model(channels=1)
    model.conv(8, 3)
    path = tmp_path / "model.onnx"
    onnx.save(model.head().proto(), path)
    with pytest.raises(UserError, match="1 channels"):
        adopt_operators(read_onnx(path))


def test_a_softmax_over_something_else_is_refused(tmp_path):
    model = stem().head()
    model.add("Softmax", axis=0)
    path = tmp_path / "model.onnx"
    onnx.save(model.proto(), path)
    with pytest.raises(UserError, match="over axis 0"):
        adopt_operators(read_onnx(path))


def test_constants_larger_than_memory_are_not_computed(tmp_path):
    model = stem().head()
    shape = model.constant(value=np.asarray([2**33]))
    huge = model.add("ConstantOfShape", shape)
    model.add("Add", "t3", model.add("ReduceSum", huge, keepdims=0))
    path = tmp_path / "model.onnx"
    onnx.save(model.proto(), path)
    with pytest.raises(UserError, match="ConstantOfShape"):
        adopt_operators(read_onnx(path))


def test_damaged_files_are_refused_whatever_is_in_them(tmp_path):
    whole = bytearray(stem().head().proto().SerializeToString())
    rng, path = np.random.default_rng(0), tmp_path / "model.onnx"
    for _ in range(300):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(spoilt), 3):
            spoilt[place] = rng.integers(0, 256)
        path.write_bytes(spoilt)
        with contextlib.suppress(UserError):
            adopt_operators(read_onnx(path))


def test_a_softmax_at_the_end_is_left_out(tmp_path):
    model = stem().head()
    model.add("Softmax", axis=1)
    assert check(model, tmp_path).has_softmax


def test_a_flattened_map(tmp_path):
    model = stem()
    model.add("Flatten")
    model.add("MatMul", model.last, model.constant(8 * SIZE**2, 6))
    model.add("Add", model.last, model.constant(6))
    model.add("Relu")
    model.add("Gemm", model.last, model.constant(6, 4))
    adopted = check(model, tmp_path)
    assert [layer.kind for layer in adopted.network.layers] == ["conv", "linear", "linear"]


def test_a_convolution_as_classifier(tmp_path):
    model = stem()
    model.add("GlobalAveragePool")
    model.conv(7)
    model.add("Flatten")
    assert check(model, tmp_path).network.layers[-1].kind == "linear"


def test_weights_may_be_computed_from_constants(tmp_path):
    model = stem()
    shape = model.constant(value=np.asarray([5, 8, 1, 1]))
    weight = model.add("ConstantOfShape", shape, value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5]))
    model.add("Conv", "t0", weight)
    model.channels = 5
    check(model.head(), tmp_path)


def test_an_open_batch_and_size(tmp_path):
    model = stem().head()
    model.inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])]
    path = tmp_path / "model.onnx"
    onnx.save(model.proto(), path)
    assert adopt_operators(read_onnx(path, 12)).network.resolution == 12
    with pytest.raises(UserError, match="open") as refused:
        read_onnx(path)
    assert "--resolution" in (refused.value.hint or "")


def concatenated(model: Model) -> None:
    model.add("Concat", model.last, model.last, axis=1)
    model.channels = 16


def normalised(model: Model) -> None:
    model.add("LRN", size=3)


def odd_gate(model: Model) -> None:
    model.add("HardSigmoid")


def lone_sum(model: Model) -> None:
    model.conv(72)
    first = model.add("Relu")
    second = model.add("MaxPool", first, kernel_shape=[3, 3], pads=[1] * 4)
    model.add("Add", first, second)


def sum_of_vectors(model: Model) -> None:
    model.add("GlobalAveragePool")
    source = model.add("Flatten")
    model.add("Gemm", source, model.constant(8, 8), model.constant(8), transB=1)
    model.add("Add", model.last, source)
    model.add("Reshape", model.last, model.constant(value=np.asarray([1, 8, 1, 1])))


def averaged_padding(model: Model) -> None:
    model.add("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)


def oblong(model: Model) -> None:
    weight = model.constant(8, 8, 1, 3)
    model.add("Conv", model.last, weight, pads=[0, 1, 0, 1])


def dilated(model: Model) -> None:
    model.conv(8, 3, dilations=[2, 2], pads=[2] * 4)


def quantised(model: Model) -> None:
    model.add("QuantizeLinear", model.last, model.number(1), model.constant(value=np.uint8(0)))
    model.add("DequantizeLinear", model.last, model.number(1), model.constant(value=np.uint8(0)))


def shuffled(model: Model) -> None:
    model.add("Transpose", perm=[0, 1, 3, 2])


def late_add(model: Model) -> None:
    """A squeeze-excite whose hidden activation has a term behind it."""
    model.conv(8, 3, group=8)
    source = model.last
    model.add("GlobalAveragePool")
    model.add("Conv", model.last, model.constant(4, 8, 1, 1), model.constant(4))
    model.add("Relu")
    model.add("Add", model.last, model.constant(1, 4, 1, 1))
    model.add("Conv", model.last, model.constant(8, 4, 1, 1), model.constant(8))
    model.add("Mul", source, model.add("Sigmoid"))
    model.conv(8)


def gate_along_the_width(model: Model) -> None:
    """A vector of as many numbers as the map is wide, which broadcasts along the width."""
    source = model.last
    model.add("GlobalAveragePool")
    model.add("Flatten")
    model.add("Gemm", model.last, model.constant(4, 8), model.constant(4), transB=1)
    model.add("Relu")
    model.add("Gemm", model.last, model.constant(8, 4), model.constant(8), transB=1)
    model.add("Mul", source, model.add("Sigmoid"))
    model.conv(8)


def cropped(model: Model) -> None:
    model.add("Pad", model.last, model.constant(value=np.asarray([0, 0, -1, -1, 0, 0, -1, -1])))
    model.conv(8, 3)


def mixed(model: Model) -> None:
    model.add("Flatten")
    model.add("Reshape", model.last, model.constant(value=np.asarray([1, 8 * SIZE**2, 1, 1])))
    model.channels = 8 * SIZE**2
    model.conv(8)


def window_on_a_pixel(model: Model) -> None:
    model.add("GlobalAveragePool")
    model.conv(8, 3)


def scaled_pixel(model: Model) -> None:
    model.conv(8, 3, pads=[0] * 4, strides=[6, 6])
    squeeze_excite("pool", "Conv", "Sigmoid")(model)


REFUSED: dict[str, tuple[Callable[[Model], None], str]] = {
    "concatenation": (concatenated, r"Concat \(1, the first is 't1'\)"),
    "local response": (normalised, "LRN"),
    "another hard sigmoid": (odd_gate, "alpha 0.2"),
    "a sum of no convolution": (lone_sum, "Add 't4'.*no convolution"),
    "a sum of vectors": (sum_of_vectors, "no convolution can add it"),
    "an average of padding": (averaged_padding, "AveragePool 't1'.*padded"),
    "an oblong window": (oblong, "window is"),
    "dilation": (dilated, "dilated"),
    "quantised": (quantised, "quantised"),
    "a term behind the hidden activation": (late_add, "something else than squeeze-excite"),
    "a gate along the width": (gate_along_the_width, "cannot be taken"),
    "a cropped map": (cropped, "Pad"),
    "channels mixed with pixels": (mixed, "8 channels as one of 512|turns"),
    "a window on a single pixel": (window_on_a_pixel, "single pixel"),
    "squeeze-excite of a single pixel": (scaled_pixel, "single pixel|cannot be taken"),
    "a transposed map": (shuffled, "Transpose"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_named(case, tmp_path):
    build, said = REFUSED[case]
    model = stem()
    build(model)
    path = tmp_path / "model.onnx"
    onnx.save(model.head().proto(), path)
    with pytest.raises(UserError, match=said) as refused:
        adopt_operators(read_onnx(path))
    assert refused.value.hint


def broken(model: Model, path: Any) -> str:
    path.write_bytes(model.proto().SerializeToString()[:200])
    return "damaged|no ONNX model|no operators"


def text(model: Model, path: Any) -> str:
    path.write_text("not a model")
    return "no ONNX model"


def empty(model: Model, path: Any) -> str:
    path.write_bytes(b"")
    return "no ONNX model"


def old(model: Model, path: Any) -> str:
    model.opset = 8
    onnx.save(model.proto(), path)
    return "opset 8"


def two_images(model: Model, path: Any) -> str:
    model.inputs.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    onnx.save(model.proto(), path)
    return "2 inputs: image, mask"


def two_results(model: Model, path: Any) -> str:
    proto = model.proto()
    proto.graph.output.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, None))
    onnx.save(proto, path)
    return "2 outputs"


def half(model: Model, path: Any) -> str:
    model.inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT16, [1, 3, SIZE, SIZE])]
    onnx.save(model.proto(), path)
    return "float16"


def control(model: Model, path: Any) -> str:
    branch = helper.make_graph([], "b", [], [helper.make_tensor_value_info("t0", TensorProto.FLOAT, None)])
    condition = model.constant(value=np.asarray(True))
    model.add("If", condition, then_branch=branch, else_branch=branch)
    onnx.save(model.proto(), path)
    return "control flow"


def lost_weights(model: Model, path: Any) -> str:
    onnx.save(model.proto(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    path.with_name("weights.bin").unlink()
    return "lie in another file"


def foreign(model: Model, path: Any) -> str:
    model.nodes[0].domain = "com.example"
    onnx.save(model.proto(), path)
    return "com.example"


@pytest.mark.parametrize(
    "spoil", [broken, text, empty, old, two_images, two_results, half, control, lost_weights, foreign]
)
def test_files_that_cannot_be_read_are_refused(spoil, tmp_path):
    path = tmp_path / "model.onnx"
    said = spoil(stem().head(), path)
    with pytest.raises(UserError, match=said):
        adopt_operators(read_onnx(path))
