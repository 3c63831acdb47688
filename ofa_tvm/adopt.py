"""``python -m ofa_tvm.adopt``: read a model that somebody brought as a supernet of one subnet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.support.command import JsonFlag, emit, run_command
from ofa_tvm.support.files import Record

if TYPE_CHECKING:
    from ofa_tvm.data.dataset import Preprocess

IMAGENET_MEAN, IMAGENET_STD = "0.485,0.456,0.406", "0.229,0.224,0.225"


def adopt(
    model: Annotated[
        Path,
        typer.Argument(help="An ONNX file (opset 9 to 23), an exported torch program (.pt2), or an official OFA file."),
    ],
    out: Annotated[Path, typer.Option(help="Folder that the other commands take as --supernet.")],
    mean: Annotated[
        str, typer.Option(help="Subtracted from red, green and blue between 0 and 1 (default: ImageNet's).")
    ] = IMAGENET_MEAN,
    std: Annotated[str, typer.Option(help="What they are divided by then (default: ImageNet's).")] = IMAGENET_STD,
    classes: Annotated[Path | None, typer.Option(help="File with the name of a class on each line.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Images that it is judged on, name or name:PATH (default: none).")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=8, help="Height and width of the image, where the model leaves them open.")
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="Of OFA-ResNet50: 0.65, 0.8 or 1.0, for all its stages (default: 1.0).")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Read your own model, check it against ONNX Runtime or torch, and write it as a supernet of one subnet.

    An official OFA file becomes the supernet that it holds.

    Then: tune --supernet OUT, bench --supernet OUT, deploy --supernet OUT --subnet largest.
    """
    from ofa_tvm.data import load_dataset
    from ofa_tvm.reporting.adoption_text import adoption_text
    from ofa_tvm.supernet.adopted import read_model, write_adopted
    from ofa_tvm.supernet.facts import FILE_NAME, is_torchs, read_facts
    from ofa_tvm.support.console import log, warn
    from ofa_tvm.support.errors import UserError

    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder", "give another --out")
    before = read_facts(out / FILE_NAME) if (out / FILE_NAME).exists() else None
    if before is not None and "plan" in before.training:
        raise UserError(f"{out} holds a supernet that was trained", "give another folder")
    if before is None and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} holds other things", "give a folder that is new, empty, or holds an adopted model")
    if model.is_file() and model.suffix not in (".onnx", ".pt2") and is_torchs(model):
        if classes or data or resolution or (mean, std) != (IMAGENET_MEAN, IMAGENET_STD):
            raise UserError(
                f"{model} is an official OFA file", "leave out --classes, --data, --resolution, --mean, --std"
            )
        _adopt_official(model, 1.0 if width is None else width, out, json)
        return
    if width is not None:
        raise UserError(f"{model} has no other width", "--width is for official OFA-ResNet50 files")
    names = () if classes is None else _names(classes)
    preprocess = _preprocess(mean, std)
    adopted = read_model(model, resolution)
    if data is not None:
        given, expected = len(load_dataset(data, log).class_names), adopted.space.classes
        if given != expected:
            raise UserError(f"{data} has {given} classes, the model has {expected} outputs", "give other images")
    if before is not None and before.space != adopted.space.name:
        warn(f"{out} holds another adopted model, {before.space}, which is replaced")
    write_adopted(adopted, model, out, preprocess, names, data or "")
    network = adopted.space.model
    payload: Record = {
        "out": str(out),
        "space": adopted.space.name,
        "subnet": adopted.space.largest.key,
        "resolution": network.resolution,
        "classes": network.classes,
        "layers": len(network.layers),
        "macs": network.macs,
        "parameters": network.parameters,
        "compared_with": adopted.oracle,
        "max_relative_logit_difference": adopted.difference,
        "left_out": ["softmax"] if adopted.has_softmax else [],
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "class_names": list(names),
        "data": data,
    }
    emit(payload, json, lambda: adoption_text(payload))


def _adopt_official(model: Path, width: float, out: Path, json: bool) -> None:
    from ofa_tvm.reporting.adoption_text import official_text
    from ofa_tvm.supernet.facts import FILE_NAME
    from ofa_tvm.supernet.ofa_files import read_ofa, write_converted
    from ofa_tvm.support.files import sha256_file

    supernet = read_ofa(model, width)
    write_converted(supernet, sha256_file(model), out / FILE_NAME)
    space = supernet.space
    payload: Record = {"out": str(out), "space": space.name, "classes": space.classes, "subnets": space.cardinality}
    emit(payload, json, lambda: official_text(payload))


def _preprocess(mean: str, std: str) -> Preprocess:
    from ofa_tvm.data.dataset import LEAST, MOST, Preprocess
    from ofa_tvm.support.errors import UserError

    def three(option: str, text: str) -> tuple[float, float, float]:
        try:
            red, green, blue = (float(number) for number in text.split(","))
        except ValueError as error:
            raise UserError(f"{option} is '{text}'", f"give three numbers, e.g. {IMAGENET_MEAN}") from error
        if not all(0 <= value < MOST for value in (red, green, blue)):
            raise UserError(f"{option} is '{text}'", "colours are between 0 and 1 here: divide by 255")
        return red, green, blue

    deviations = three("--std", std)
    if min(deviations) < LEAST:
        raise UserError(f"--std is '{std}'", f"give three numbers of {LEAST:g} or more")
    return Preprocess(three("--mean", mean), deviations)


def _names(path: Path) -> tuple[str, ...]:
    from ofa_tvm.data import checked_names
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.files import read_text

    hint = "give a text file with one name a line"
    names = tuple(filter(None, map(str.strip, read_text(path, "names of classes", hint).split("\n"))))
    if not names:
        raise UserError(f"{path} names no classes", hint)
    return checked_names(names, str(path))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(adopt, argv)


if __name__ == "__main__":
    sys.exit(main())
