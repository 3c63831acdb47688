"""A model that somebody brought, as a supernet of one subnet, checked against what runs it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray

from ofa_tvm.adoption.adopted_network import AdoptedNetwork, adopt_operators
from ofa_tvm.adoption.onnx_file import load_onnx, read_onnx
from ofa_tvm.adoption.torch_program import TorchProgram, read_program
from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.spaces.own_model import OwnModel, fixed_model
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.facts import FILE_NAME, SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.program_run import run_program
from ofa_tvm.support.errors import OfaTvmError, UserError
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.text import has_controls, printable

MAX_DIFFERENCE = 1e-4
"""Of the logits from the model's own, over the largest."""
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Adopted:
    """What became of a model.

    Args:
        space: its space of one.
        supernet: its weights.
        oracle: what its logits were compared with.
        difference: largest difference of logits over the largest logit.
        has_softmax: whether it ended in a softmax, which is left out.
    """

    space: OwnModel
    supernet: Supernet
    oracle: str
    difference: float
    has_softmax: bool


def read_model(model: Path, resolution: int | None = None) -> Adopted:
    """Read a model, and check that the same is computed.

    Args:
        model: an ONNX file, or an exported torch program (``.pt2``).
        resolution: height and width of the image, where the model leaves them open.

    Raises:
        UserError: the model cannot be taken.
        OfaTvmError: what was read does not compute what the model does.
    """
    if not model.is_file():
        what = f"{model} is no file" if model.exists() else f"there is no model {model}"
        raise UserError(what, "give an .onnx or .pt2 file")
    if model.suffix != ".pt2" and is_zipfile(model):
        raise UserError(f"{model} is an archive, no ONNX model", "name an exported torch program .pt2")
    if model.suffix == ".pt2":
        if not is_zipfile(model):
            raise UserError(
                f"{model} is no archive, as exported torch programs are", "export it again, or name it .onnx"
            )
        program = read_program(model)
        size = program.shapes.get(program.input, ())[-1:]
        if resolution is not None and size != (resolution,):
            raise UserError(f"the program was exported for {size[0] if size else 'other'} pixels", "export it again")
        adopted = adopt_operators(program.operators())
        name, logits_of = "torch", _torch_oracle(program, adopted)
    else:
        adopted = adopt_operators(read_onnx(model, resolution))
        name, logits_of = _onnx_oracle(model, adopted)
    space = fixed_model(_title(model), adopted.network)
    supernet = channels_last(_supernet(space, adopted)).eval()
    images = _images(space.model.in_channels, space.model.resolution)
    with torch.inference_mode():
        found = supernet(torch.from_numpy(images), space.largest).numpy()
    expected = np.concatenate([logits_of(image[None]).reshape(1, -1) for image in images])
    difference = _difference(found, expected, model)
    if difference > MAX_DIFFERENCE:
        raise OfaTvmError(
            f"what was read of {model} does not compute what {name} does: logits differ by {difference:.1e}",
            "nothing was written; please report the model and the version of its exporter",
        )
    return Adopted(space, supernet, name, difference, adopted.has_softmax)


def _images(channels: int, size: int) -> Images:
    """Images (n, channels, size, size) that reach the ends of activations, too: noise, strong noise, plain ones."""
    noise = np.random.default_rng(0).standard_normal((2, channels, size, size), np.float32)
    ramp = np.broadcast_to(np.linspace(-3, 3, size, dtype=np.float32), (1, channels, size, size))
    return np.concatenate([noise, 5 * noise[:1], ramp, np.full_like(ramp, 3), np.full_like(ramp, -3)])


def _difference(found: Images, expected: Images, model: Path) -> float:
    """Largest difference of logits over the largest; and of how images differ, as constant terms hide the rest.

    Raises:
        UserError: the model gives what is no number.
    """
    if not np.isfinite(expected).all():
        raise UserError(f"{model} gives logits that are no numbers", "its weights must be finite, and not too large")
    whole = relative_error(found, expected)
    changes, changed = expected - expected.mean(0), found - found.mean(0)
    usual = float(np.median(np.abs(changes).max(0)))
    rounding = 1e-6 * float(np.abs(expected).max())
    hidden = max(0.0, float(np.median(np.abs(changed - changes).max(0))) - rounding)
    return max(whole, hidden / usual if usual > 0 else 0.0)


def write_adopted(
    adopted: Adopted, model: Path, out: Path, preprocess: Preprocess, class_names: tuple[str, ...], data: str
) -> None:
    """Write a supernet folder that holds a model.

    Args:
        adopted: the model.
        model: its file.
        out: the folder.
        preprocess: what turns an image into the model's input.
        class_names: what its outputs mean; empty where unknown.
        data: images that it is judged on, ``name:PATH``; empty where there are none.

    Raises:
        UserError: there are other class names than outputs, or the images' name is no text.
    """
    space = adopted.space
    _check_classes(class_names, space.classes)
    if has_controls(data):
        raise UserError(f"the name of the images cannot be kept: {printable(data)}", "rename their folder")
    training: dict[str, Any] = {"adopted": printable(model.name), "source": sha256_file(model)}
    if not class_names:
        training["unnamed"] = True
    names = class_names or tuple(map(str, range(space.classes)))
    facts = SupernetFacts(space.name, data, names, preprocess, training, space.own)
    out.mkdir(parents=True, exist_ok=True)
    save_supernet(out / FILE_NAME, adopted.supernet, facts)


def _check_classes(class_names: tuple[str, ...], classes: int) -> None:
    if class_names and len(class_names) != classes:
        raise UserError(
            f"{len(class_names)} classes are named, the model has {classes} outputs",
            "give a file with one name a line, in the order of the outputs",
        )


def _title(model: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", model.stem).strip("-.")[:40] or "model"


def _supernet(space: OwnModel, adopted: AdoptedNetwork) -> Supernet:
    supernet = Supernet(space)
    parameters = supernet.state_dict()
    with torch.no_grad():
        for layer in space.model.layers:
            for name, array in adopted.weights.items():
                if name.startswith(f"{layer.name}."):
                    target = parameters[f"layers.{name}"]
                    target.copy_(torch.from_numpy(np.array(array)).reshape(target.shape))
    return supernet


def _torch_oracle(program: TorchProgram, adopted: AdoptedNetwork) -> Callable[[Images], Images]:
    return lambda images: run_program(program, images, adopted.logits)


def _onnx_oracle(path: Path, adopted: AdoptedNetwork) -> tuple[str, Callable[[Images], Images]]:
    """Something that runs an ONNX file up to the logits: ONNX Runtime, or onnx's own slow reference."""
    import onnx

    model = load_onnx(path)
    if adopted.logits not in [value.name for value in model.graph.output]:
        logits = onnx.helper.make_tensor_value_info(adopted.logits, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(logits)
    constants = {tensor.name for tensor in model.graph.initializer}
    image = next(value.name for value in model.graph.input if value.name not in constants)
    if find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        return "onnx's reference", lambda images: _first(evaluator.run([adopted.logits], {image: images}))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many kinds of its own
        said = " ".join(str(error).split())[:200]
        raise UserError(f"ONNX Runtime refuses {path}: {said}", "export it again") from error
    return "ONNX Runtime", lambda images: _first(session.run([adopted.logits], {image: images}))


def _first(outputs: Any) -> Images:  # noqa: ANN401  # of two libraries, with types of their own
    found: Images = np.asarray(outputs[0], np.float32)
    return found
