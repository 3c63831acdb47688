"""Save and load a fitted model as ``<stem>.ubj`` (the trees) and ``<stem>.report.json`` (everything else)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import xgboost

from ofa_tvm.regression.stacked_regressor import StackedRegressor
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, read_json, write_atomic, write_json

SCHEMA_VERSION = 2
_AGAIN = "fit it again: python -m ofa_tvm.tune with the same --target, --space and --logs"


def save_model(
    folder: Path,
    stem: str,
    model: StackedRegressor,
    *,
    space: Record,
    table_digest: str,
    report: Record,
) -> None:
    """Write both files, each atomically; the second names the digest of the first.

    Args:
        folder: where.
        stem: of both names.
        model: the model to keep.
        space: description of the space that the model is of, with its ``name``.
        table_digest: identity of the kernel times below the model.
        report: what is known of the model.
    """
    trees = bytes(model.booster.save_raw("ubj"))
    write_atomic(folder / f"{stem}.ubj", trees)
    content = {
        "schema_version": SCHEMA_VERSION,
        "space": space,
        "table_sha256": table_digest,
        "trees_sha256": hashlib.sha256(trees).hexdigest(),
        "model": model.to_json(),
        "report": report,
    }
    write_json(folder / f"{stem}.report.json", content)


def load_model(folder: Path, stem: str, *, space: Record, table_digest: str) -> tuple[StackedRegressor, Record]:
    """Read both files and check that they belong together, to this space and to this table.

    Returns:
        The model and its report.

    Raises:
        UserError: a file is missing or damaged, or the model is of another schema, space or table of kernel times.
    """
    path = folder / f"{stem}.report.json"
    content = read_json(path, "model file")
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{path} is not a model of schema {SCHEMA_VERSION}", _AGAIN)
    if content.get("space") != space:
        raise UserError(f"{path} was fitted on another space than {space['name']} as it is now", _AGAIN)
    if content.get("table_sha256") != table_digest:
        raise UserError(f"{path} was fitted on other kernel times than the present ones", _AGAIN)
    try:
        trees = (folder / f"{stem}.ubj").read_bytes()
    except OSError as error:
        raise UserError(f"model file {folder / stem}.ubj cannot be read: {error.strerror}", _AGAIN) from error
    if hashlib.sha256(trees).hexdigest() != content.get("trees_sha256"):
        raise UserError(f"{folder / stem}.ubj is damaged or does not belong to {path.name}", _AGAIN)
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(trees))
    try:
        return StackedRegressor.from_json(content["model"], booster), dict(content["report"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}", _AGAIN) from error
