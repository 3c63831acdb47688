"""Spaces, supernets and targets by name or by file; nothing here needs torch or TVM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ofa_tvm.api.arguments import AtLeastOne, checked
from ofa_tvm.hardware.target_files import load_target as load_spec
from ofa_tvm.spaces import SearchSpace, get_space
from ofa_tvm.supernet.facts import SupernetFacts, checkpoint_path, read_facts
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.shipped import shipped_supernet
from ofa_tvm.tuner.tuned_space import Target

__all__ = ["SupernetFile", "Target", "load_space", "load_supernet", "load_target"]


Classes = Annotated[int, Field(ge=2, strict=True)]


@dataclass(frozen=True)
class SupernetFile:
    """A trained supernet that has not been loaded.

    Args:
        path: its checkpoint.
        facts: what the checkpoint says about itself.
        space: of its subnets, with its classes.
    """

    path: Path
    facts: SupernetFacts
    space: SearchSpace


@checked
def load_space(name: str, classes: Classes | None = None) -> SearchSpace:
    """A space by its name.

    Args:
        name: of the space.
        classes: None for those of the space.

    Raises:
        UserError: there is none of that name.
    """
    space = get_space(name)
    return space if classes is None else space.with_classes(classes)


@checked
def load_supernet(path: Path | str | None = None) -> SupernetFile:
    """A supernet's facts and space.

    Args:
        path: its folder or file, or the name of one that ships; None for the first that ships.

    Raises:
        UserError: it cannot be read.
    """
    file = checkpoint_path(shipped_supernet() if path is None else Path(path))
    facts = read_facts(file)
    return SupernetFile(file, facts, facts.search_space)


@checked
def load_target(
    name: Path | str = "x86",
    *,
    threads: AtLeastOne | None = None,
    batch: AtLeastOne | None = None,
    dtype: DType | None = None,
    device: str | None = None,
    logs: Path | str | None = None,
) -> Target:
    """A target by its name in ``targets/``, or by its file.

    Args:
        name: or file.
        threads: instead of the target's.
        batch: images of one call, instead of the target's.
        dtype: of maps and weights, instead of the target's.
        device: where code runs, as ``--device`` takes it.
        logs: folder of tuning logs.

    Raises:
        UserError: it cannot be read.
    """
    source = str(name)
    spec = load_spec(source, threads, batch, device, dtype)
    return Target(source, spec, device, None if logs is None else Path(logs))
