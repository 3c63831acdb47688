"""Save and load a fitted model as ``<stem>.ubj`` (the trees) and ``<stem>.report.json`` (everything else)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import xgboost
from pydantic import BaseModel, Field, TypeAdapter

from ofa_tvm.regression.stacked_regressor import StackedRegressor
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, require_regular, write_atomic
from ofa_tvm.support.sealed import read_sealed, write_sealed
from ofa_tvm.support.typed import Finite, Fraction, Milliseconds, NotNegative, validated

SCHEMA_VERSION = 3
AGAIN = "fit it again: python -m ofa_tvm.tune with the same --target, --space and --logs, and --samples 60"


class _Base(BaseModel):
    """Everything but the trees."""

    coefficients: Annotated[list[Finite], Field(min_length=1)]
    tree_weight: Fraction
    floor: Milliseconds
    scores: Annotated[list[NotNegative], Field(min_length=1)]


class _Content(BaseModel):
    schema_version: int = Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    space: Record
    table_sha256: str
    trees_sha256: str
    model: _Base
    report: Record


_CONTENT = TypeAdapter(_Content)


def save_model(
    folder: Path,
    stem: str,
    model: StackedRegressor,
    *,
    space: Record,
    table_digest: str,
    report: Record,
) -> None:
    """Write both files; a kill leaves the model that was there before, or this one.

    The trees lie beside the old ones until the report names their digest.

    Args:
        folder: where.
        stem: of both names.
        model: the model to keep.
        space: description of the space that the model is of, with its ``name``.
        table_digest: identity of the kernel times below the model.
        report: what is known of the model.
    """
    trees = bytes(model.booster.save_raw("ubj"))
    digest = hashlib.sha256(trees).hexdigest()
    coming = folder / _coming(stem, digest)
    write_atomic(coming, trees)
    content = {
        "schema_version": SCHEMA_VERSION,
        "space": space,
        "table_sha256": table_digest,
        "trees_sha256": digest,
        "model": model.to_json(),
        "report": report,
    }
    write_sealed(folder / f"{stem}.report.json", content)
    coming.replace(folder / f"{stem}.ubj")
    for left in folder.glob(_coming(stem, "*")):  # by a kill
        left.unlink(missing_ok=True)


def _coming(stem: str, digest: str) -> str:
    """The name of trees until they take their place."""
    return f"{stem}.{digest[:16]}.ubj"


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def load_model(
    folder: Path, stem: str, *, space: Record, table_digest: str, again: str = AGAIN
) -> tuple[StackedRegressor, Record]:
    """Read both files and check that they belong together, to this space and to this table.

    Args:
        folder: where they are.
        stem: of both names.
        space: description of the space.
        table_digest: identity of the kernel times below the model.
        again: what fits the model again, where it cannot be used.

    Returns:
        The model and its report.

    Raises:
        UserError: a file is missing or damaged, or the model is of another schema, space or table of kernel times.
    """
    path = folder / f"{stem}.report.json"
    try:
        content = validated(_CONTENT, read_sealed(path, "model file", again))
    except ValueError as error:
        raise UserError(f"model file {path} is damaged, or of another version: {error}", again) from error
    if content.space != space:
        raise UserError(f"{path} was fitted on another space than {space['name']} as it is now", again)
    if content.table_sha256 != table_digest:
        raise UserError(f"{path} was fitted on other kernel times than the present ones", again)
    coming = folder / _coming(stem, content.trees_sha256)
    require_regular(folder / f"{stem}.ubj", "model file", again)
    try:
        trees = _bytes_of(coming) or (folder / f"{stem}.ubj").read_bytes()
    except OSError as error:
        raise UserError(f"model file {folder / stem}.ubj cannot be read: {error.strerror}", again) from error
    if hashlib.sha256(trees).hexdigest() != content.trees_sha256 or not trees:
        raise UserError(f"{folder / stem}.ubj is damaged or does not belong to {path.name}", again)
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(trees))
    except xgboost.core.XGBoostError as error:
        raise UserError(f"{folder / stem}.ubj is damaged: it holds no trees", again) from error
    return StackedRegressor.from_json(content.model.model_dump(), booster), content.report
