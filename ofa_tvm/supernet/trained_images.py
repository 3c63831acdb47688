"""Whether images are those that a supernet was trained on: only of those is it known which were held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ofa_tvm.data.dataset import Dataset
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.support.errors import UserError


def other_images(dataset: Dataset, facts: SupernetFacts, named: Path) -> str:
    """What to say of images that are not those of a supernet's training; empty where they are, or where none are known.

    Their content decides, not where they are stored.

    Args:
        dataset: all images, with their classes in the supernet's order.
        facts: what the supernet's checkpoint says.
        named: what the user named as the supernet.
    """
    trained = facts.training.get("data")
    whole = replace(dataset, held_out=0) if facts.folds > 1 else dataset
    if trained is None or trained == whole.digest:
        return ""
    if dataset.name == facts.data:
        return f"the images of {facts.data} have changed since {named} was trained on them"
    return f"{dataset.name} has other images than {named} was trained on, {facts.data}"


def require_trained_images(dataset: Dataset, facts: SupernetFacts, named: Path) -> None:
    """Refuse images of which it is not known whether a supernet was trained on them; see ``other_images``.

    Raises:
        UserError: they are not those of its training.
    """
    if not (said := other_images(dataset, facts, named)):
        return
    if "part_of" in facts.training:
        raise UserError(
            f"{named} is a part of a cross-validation: which images it has not seen is known with all parts only",
            f"give the folder of the whole training: {(named if named.is_dir() else named.parent).absolute().parent}",
        )
    raise UserError(
        f"{said}: held-out images cannot be told from those that it was trained on",
        "restore the images (or give those by --data), or train again into another --out",
    )
