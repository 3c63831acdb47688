"""What a supernet's checkpoint says about itself, read without its weights."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from safetensors import SafetensorError, safe_open

from ofa_tvm.data import SOURCES
from ofa_tvm.data.dataset import ClassName, Preprocess
from ofa_tvm.spaces import SearchSpace, described_space, get_space
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.json_text import parse_json
from ofa_tvm.support.shipped import shipped_supernets
from ofa_tvm.support.typed import Count, Positive, validated

FILE_NAME = "supernet.safetensors"
FORMAT, OLD_FORMAT = "ofa_tvm.supernet/2", "ofa_tvm.supernet/1"
FACTS_SEAL, TENSORS_SEAL = "facts_sha256", "tensors_sha256"
"""Hashes in a header; one of the old format has none."""
KEYS = {FORMAT: {"format", "facts", FACTS_SEAL, TENSORS_SEAL}, OLD_FORMAT: {"format", "facts"}}
"""Of a header."""
DEFAULT_SPACE = "mbv3-cifar"


class _Plan(BaseModel):
    resolutions: list[Positive] = []


class _Training(BaseModel):
    """What is used of a training's facts; the others are for people, and for the training itself."""

    plan: _Plan = _Plan()
    folds: Positive = 1
    steps_done: Count = 0
    unnamed: bool = False


_TRAINING = TypeAdapter(_Training)


def _checked(training: Record) -> Record:
    validated(_TRAINING, training)
    return training


@dataclass(frozen=True)
class SupernetFacts:
    """What a checkpoint says about itself.

    Args:
        space: name of the search space.
        data: name of the data set that it was trained on.
        class_names: what the outputs mean.
        preprocess: what turns an image into its input.
        training: plan, images, progress, and parts of the cross-validation.
        own: of a model that somebody brought, see ``SearchSpace.own``.
    """

    space: str
    data: str
    class_names: Annotated[tuple[ClassName, ...], Field(min_length=1)]
    preprocess: Preprocess
    training: Annotated[Record, AfterValidator(_checked)] = field(default_factory=dict)
    own: str = ""

    @property
    def folds(self) -> int:
        """Parts of the cross-validation beside it, where it was trained on all images; 1 where some were held out."""
        return int(self.training.get("folds", 1))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def is_named(self) -> bool:
        """Whether the names of its classes are known; otherwise they are numbers."""
        return "unnamed" not in self.training

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes that it was trained at; empty for all of the space."""
        return tuple(self.training.get("plan", {}).get("resolutions", ()))

    @property
    def search_space(self) -> SearchSpace:
        """The space, with the supernet's number of classes.

        Raises:
            UserError: an unknown space.
        """
        return described_space(self.space, len(self.class_names), self.own)

    def space_unless_other(self, asked: str | None) -> SearchSpace:
        """``search_space``, unless another one is asked for.

        Raises:
            UserError: ``asked`` names another space.
        """
        if asked not in (None, self.space):
            raise UserError(f"the supernet is of space {self.space}, not {asked}", "leave out --space")
        return self.search_space


def checkpoint_path(path: Path) -> Path:
    """The checkpoint that a file, a training folder or a shipped supernet's name stands for.

    An official OFA file stands for what it was converted to.

    Raises:
        UserError: it is a torch file, but not an official OFA checkpoint.
    """
    if not path.exists() and path == Path(path.name):
        path = next((folder for folder in shipped_supernets() if folder.name == path.name), path)
    if path.suffix in (".onnx", ".pt2") and path.is_file():
        raise UserError(f"{path} is a model, not a supernet", f"adopt it first: adopt {path} --out FOLDER")
    if path.is_dir():
        path = path / FILE_NAME
    if path.is_file() and path.suffix != ".npz" and is_torchs(path):
        from ofa_tvm.supernet.ofa_files import converted

        return converted(path)
    return path


def is_torchs(path: Path) -> bool:
    """Whether a file begins like those that torch writes, a zip archive or a pickle, and not like ours.

    Ours begin with a length, whose bytes may be the same ones, and then have a brace.
    """
    with path.open("rb") as file:
        start = file.read(9)
    return start[:2] in (b"PK", b"\x80\x02", b"\x80\x04") and start[8:] != b"{"


def chosen_space(supernet: Path | None, name: str | None, classes: int | None = None) -> SearchSpace:
    """The space of a supernet, or of that name, or the default; with a number of classes, where that is asked for.

    Raises:
        UserError: the supernet cannot be read, is of another space or has other classes, or there is no space of that
            name.
    """
    if supernet is None:
        space = get_space(name or DEFAULT_SPACE)
        return space if classes is None else space.with_classes(classes)
    facts = read_facts(checkpoint_path(supernet))
    if classes not in (None, facts.classes):
        raise UserError(f"the supernet has {facts.classes} classes, not {classes}", "leave out --classes")
    return facts.space_unless_other(name)


def space_and_checkpoint(
    supernet: Path | None, name: str | None, classes: int | None
) -> tuple[SearchSpace, Path | None]:
    """``chosen_space``, and the checkpoint of that supernet, or else of the one that ships for the space, if any does.

    Raises:
        UserError: see ``chosen_space``.
    """
    space = chosen_space(supernet, name, classes)
    if supernet is not None:
        return space, checkpoint_path(supernet)
    shipped = (folder / FILE_NAME for folder in shipped_supernets() if folder.name == space.name)
    return space, next((path for path in shipped if read_facts(path).classes == space.classes), None)


def trained_resolutions(supernet: Path | None) -> tuple[int, ...]:
    """Input sizes that a supernet was trained at; empty for all of its space, or without a supernet.

    Raises:
        UserError: the supernet cannot be read.
    """
    return () if supernet is None else read_facts(checkpoint_path(supernet)).resolutions


def untrained(sizes: Iterable[int], trained: Collection[int]) -> str:
    """What to say of a supernet that was not trained at some input sizes; empty where there are none of those."""
    others = sorted(set(sizes) - set(trained)) if trained else []
    asked, known = (", ".join(map(str, several)) for several in (others, trained))
    return f"was not trained at input size {asked}, only at {known}" if others else ""


def require_same_classes(found: tuple[str, ...], source: str, facts: SupernetFacts, named: Path) -> None:
    """Refuse images of other classes than a supernet's; their order may differ, and so may names that are not known.

    Args:
        found: names of the images' classes.
        source: where the images come from, for the message.
        facts: the supernet's.
        named: what the user named as the supernet, for the message.

    Raises:
        UserError: they differ.
    """
    wanted = facts.class_names
    if set(found) == set(wanted) or (not facts.is_named and len(found) == len(wanted)):
        return
    other = next((name for name in found if name not in wanted), None)
    told = f"'{other}' is none of its" if other is not None else f"it has {len(found)} of"
    kind = facts.data.partition(":")[0]
    option = f"--data {kind if kind in SOURCES else 'imagefolder'}:PATH"
    images = f"give the images of {facts.data}: {option}" if facts.data else "give others by --data"
    raise UserError(f"{source} has other classes than {named} was trained on: {told} {len(wanted)} classes", images)


def damaged(path: Path, error: Exception) -> UserError:
    """The error of a checkpoint that cannot be read."""
    aside = f"mv {shlex.quote(str(path))} {shlex.quote(str(path))}.damaged"
    return UserError(f"checkpoint {path} is damaged: {error}", f"restore it from a copy, or train it again: {aside}")


def read_facts(path: Path) -> SupernetFacts:
    """Read the header of a checkpoint's file.

    Raises:
        UserError: missing, damaged, or not a supernet of this format.
    """
    if path.suffix == ".npz":
        raise UserError(f"{path} predicts accuracies and has no weights", "give a supernet that was trained")
    if not path.exists():
        names = " and ".join(folder.name for folder in shipped_supernets())
        raise UserError(f"checkpoint {path} does not exist", f"train one: python -m ofa_tvm.train; {names} ship")
    if not path.is_file():
        raise UserError(f"{path} is no regular file", "give a training's folder or a checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
        written = header.get("format", "")
        if written not in KEYS:
            raise UserError(f"{path} is not a supernet checkpoint of format {FORMAT}")
        if header.keys() != KEYS[written]:
            raise ValueError(f"its header has other keys than format {written}")
        text = header["facts"]
        if written == FORMAT and header[FACTS_SEAL] != digest_of_facts(text):
            raise ValueError("its facts are not what their hash says")
        return validated(_FACTS, parse_json(text))
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path, error) from error


_FACTS = TypeAdapter(SupernetFacts)


def digest_of_facts(text: str) -> str:
    """Hex SHA-256 of facts as a header holds them."""
    return hashlib.sha256(text.encode()).hexdigest()
