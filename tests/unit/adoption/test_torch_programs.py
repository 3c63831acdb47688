"""Exported torch programs are read without torch, and nothing in them is trusted."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import numpy as np
import pytest

from ofa_tvm.adoption.adopted_network import adopt_operators
from ofa_tvm.adoption.torch_program import read_program
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.windows import full_window
from ofa_tvm.support.errors import UserError

SIZE = 6


def tensor(*sizes: int, dtype: int = 7) -> dict[str, Any]:
    strides = np.cumprod([1, *sizes[:0:-1]])[::-1].tolist()
    whole = [[{"as_int": int(number)} for number in numbers] for numbers in (sizes, strides)]
    return {"dtype": dtype, "sizes": whole[0], "strides": whole[1], "storage_offset": {"as_int": 0}}


def call(target: str, output: str, **arguments: Any) -> dict[str, Any]:
    inputs = [{"name": name, "arg": value} for name, value in arguments.items()]
    target = f"torch.ops.aten.{target}"
    return {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": output}}], "name": output}


def named(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


class Program:
    """A program: 3x3 convolution, ReLU in place, a sum that reads what it changed, mean, linear."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.weights = {
            "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
            "v": rng.standard_normal((4, 4, 1, 1)).astype(np.float32),
            "h": rng.standard_normal((5, 4)).astype(np.float32),
            "b": rng.standard_normal(5).astype(np.float32),
        }
        self.nodes = [
            call("conv2d.default", "t0", input=named("x"), weight=named("p_w"), padding={"as_ints": [1, 1]}),
            call("relu_.default", "t1", self=named("t0")),
            call("conv2d.default", "t2", input=named("t1"), weight=named("p_v")),
            call("add.Tensor", "t3", self=named("t2"), other=named("t0")),
            call("mean.dim", "t4", self=named("t3"), dim={"as_ints": [2, 3]}),
            call("linear.default", "t5", input=named("t4"), weight=named("p_h"), bias=named("p_b")),
        ]
        maps = {name: tensor(2, 4, SIZE, SIZE) for name in ("t0", "t1", "t2", "t3")}
        self.values = {"x": tensor(2, 3, SIZE, SIZE), **maps, "t4": tensor(2, 4), "t5": tensor(2, 5)}
        self.entries: dict[str, Any] = {
            name: {"path_name": f"weight_{name}", "use_pickle": False, "tensor_meta": tensor(*array.shape)}
            for name, array in self.weights.items()
        }
        self.outputs: list[Any] = [{"user_output": {"arg": named("t5")}}]

    def write(self, path: Any) -> Any:
        inputs = [{"parameter": {"arg": {"name": f"p_{name}"}, "parameter_name": name}} for name in self.weights]
        signature = {"input_specs": [*inputs, {"user_input": {"arg": named("x")}}], "output_specs": self.outputs}
        graph = {"nodes": self.nodes, "tensor_values": self.values}
        with zipfile.ZipFile(path, "w") as archive:
            model = {"graph_module": {"graph": graph, "signature": signature}}
            archive.writestr("m/models/model.json", json.dumps(model))
            archive.writestr("m/data/weights/model_weights_config.json", json.dumps({"config": self.entries}))
            for name, array in self.weights.items():
                archive.writestr(f"m/data/weights/weight_{name}", array.tobytes())
        return path

    def logits(self, images: Any) -> Any:
        from ofa_tvm.graph.kernel import KernelSpec

        first = KernelSpec("conv", 3, 4, SIZE, 3)
        hidden = np.maximum(full_window(first, images, self.weights["w"].transpose(2, 3, 1, 0)), 0)
        summed = hidden @ self.weights["v"][:, :, 0, 0].T + hidden
        return summed.mean((1, 2)) @ self.weights["h"].T + self.weights["b"]


def test_the_same_is_computed_also_where_a_map_is_changed_in_place(tmp_path):
    program = Program()
    adopted = adopt_operators(read_program(program.write(tmp_path / "m.pt2")).operators())
    images = np.random.default_rng(1).standard_normal((2, SIZE, SIZE, 3)).astype(np.float32)
    found = network_logits(adopted.network, adopted.weights, images)
    np.testing.assert_allclose(found, program.logits(images), rtol=1e-4, atol=1e-4)


def pickled(program: Program) -> str:
    program.entries["w"]["use_pickle"] = True
    return "w are a pickle"


def half(program: Program) -> str:
    program.entries["w"]["tensor_meta"]["dtype"] = 6
    return "w is of a type"


def beyond(program: Program) -> str:
    program.entries["w"]["tensor_meta"]["storage_offset"]["as_int"] = 10**9
    return "beyond its bytes"


def backwards(program: Program) -> str:
    program.entries["w"]["tensor_meta"]["strides"][0]["as_int"] = -1000
    return "beyond its bytes"


def missing(program: Program) -> str:
    del program.entries["w"]
    return "lacks the values of w"


def training(program: Program) -> str:
    program.outputs.insert(0, {"buffer_mutation": {"arg": named("t0"), "buffer_name": "mean"}})
    return "training mode"


def two(program: Program) -> str:
    program.outputs.append({"user_output": {"arg": named("t4")}})
    return "1 inputs and 2 outputs"


def file_opener(program: Program) -> str:
    program.nodes[1] = call("from_file.default", "t1", filename={"as_string": "/etc/passwd"})
    return "from_file"


def unknown(program: Program) -> str:
    program.nodes[3] = call("cat.default", "t3", tensors={"as_tensors": [{"name": "t2"}, {"name": "t0"}]})
    return "cat.default"


@pytest.mark.parametrize("spoil", [pickled, half, beyond, backwards, missing, training, two, file_opener, unknown])
def test_what_cannot_be_taken_is_refused(spoil, tmp_path):
    program = Program()
    said = spoil(program)
    path = program.write(tmp_path / "m.pt2")
    with pytest.raises(UserError, match=said) as refused:
        adopt_operators(read_program(path).operators())
    assert refused.value.hint


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"as_int": 0}', '"as_int": NaN}', "NaN is no number"),
        ('"as_int": 0}', '"as_int": 1%s}' % ("0" * 400), "401 digits"),
        ('"nodes"', '"nodes": [], "nodes"', "the key comes twice"),
        ('"nodes"', '"deep": ' + "[" * 100_000 + ', "nodes"', "nested more than 64 deep"),
    ],
    ids=["not a number", "digits", "twice", "nested"],
)
def test_json_that_no_other_reader_takes_is_refused(tmp_path, old, new, said):
    Program().write(tmp_path / "whole.pt2")
    with zipfile.ZipFile(tmp_path / "whole.pt2") as archive, zipfile.ZipFile(tmp_path / "m.pt2", "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            changed.writestr(
                name, content.replace(old.encode(), new.encode(), 1) if name.endswith(".json") else content
            )
    with pytest.raises(UserError, match=said):
        read_program(tmp_path / "m.pt2")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x04. a pickle"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "m.pt2"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no exported torch program"):
        read_program(path)


def test_every_cut_is_refused(tmp_path):
    whole = Program().write(tmp_path / "m.pt2").read_bytes()
    for length in range(0, len(whole), 97):
        path = tmp_path / "cut.pt2"
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_program(path)
