"""What a Python program may hand over: checked by the annotations, and explained where it does not fit."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar

from pydantic import ConfigDict, Field, ValidationError, validate_call

from ofa_tvm.support.errors import UserError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

Count = Annotated[int, Field(ge=0, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function whose arguments must fit its annotations.

    Raises:
        UserError: one does not; named, with what was expected.
    """
    validated = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)

    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return validated(*args, **kwargs)
        except ValidationError as error:
            first = error.errors()[0]
            place = first["loc"][0]
            name = names[place] if isinstance(place, int) else place
            what = first["msg"].replace("a dictionary or ", "")
            raise UserError(
                f"{function.__name__}: argument {name}: {what}, not {first['input']!r:.80}", "see docs/python.md"
            ) from error

    return call
