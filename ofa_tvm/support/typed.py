"""Typed values from what was read: each file has one form, and what does not fit it is named."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import damaged_line, numbered_lines, read_json
from ofa_tvm.support.text import printable, shortened

T = TypeVar("T")

MAX_MS = 1e7
"""No time is longer: it would be hours."""
Milliseconds = Annotated[float, Field(gt=0, le=MAX_MS)]
Millijoules = Annotated[float, Field(gt=0, le=1e9)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
SubnetKey = Annotated[str, Field(pattern=r"^r[0-9]{1,6}(\.[0-9]{1,6}x[0-9]{1,6}(-[0-9]{1,6}x[0-9]{1,6})*)+$")]


class NewerVersion(ValueError):
    """A later version wrote it: nothing is damaged."""


def validated(form: TypeAdapter[T], value: object) -> T:
    """A JSON value in a form; nothing is converted but whole numbers to floats.

    Raises:
        ValueError: it does not fit; says where, and what stands there.
    """
    return _of_text(form, json.dumps(value, default=str))


def _of_text(form: TypeAdapter[T], text: str | bytes) -> T:
    try:
        return form.validate_json(text, strict=True)
    except ValidationError as error:
        for one in error.errors():
            if one["loc"] == ("schema_version",) and one["type"] == "less_than_equal":
                said = f"it has schema version {one['input']}, this one reads {one['ctx']['le']}"
                raise NewerVersion(said) from None
        raise ValueError(explained(error)) from None


def explained(error: ValidationError) -> str:
    """What is wrong, of the first few fields."""
    return "; ".join(_explained(dict(problem)) for problem in error.errors()[:3])


def _explained(problem: dict[str, Any]) -> str:
    where = printable(".".join(shortened(str(key)) for key in problem["loc"]))
    match problem["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"unknown key '{where}'"
        case "missing":
            return f"missing key '{where}'"
        case "value_error":
            said = str(problem["ctx"]["error"])
        case _:
            found = json.dumps(problem["input"], default=str)
            said = problem["msg"] + (f", not {found}" if len(found) <= 40 else "")
    return f"key '{where}': {said}" if where else said


def read_form(path: Path, what: str, form: TypeAdapter[T], hint: str) -> T:
    """Read a JSON file of a form.

    Args:
        path: the file.
        what: what it is, for messages.
        form: of its value.
        hint: what to do where it is damaged.

    Raises:
        UserError: it is missing, or not of that form.
    """
    value = read_json(path, what, hint)
    try:
        return validated(form, value)
    except NewerVersion as error:
        newer = "use the version that wrote it, or give another folder"
        raise UserError(f"{what} {path} is of a later ofa_tvm: {error}", newer) from error
    except ValueError as error:
        raise UserError(f"{what} {path} is damaged: {error}", hint) from error


def read_lines(path: Path, what: str, form: TypeAdapter[T]) -> list[T]:
    """Read a file of JSON lines that all have a form; an unfinished last line is left out.

    Args:
        path: the file; nothing is read where there is none.
        what: what it is, for messages.
        form: of each line.

    Raises:
        UserError: a line is damaged; the message has its number, and a command that removes it.
    """
    return [typed_line(path, what, number, text, form) for number, text, _ in numbered_lines(path, what)]


def typed_line(path: Path, what: str, number: int, text: bytes, form: TypeAdapter[T]) -> T:
    """The value of a line that is JSON; see ``read_lines``."""
    try:
        return _of_text(form, text.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise damaged_line(path, what, number, error) from error
