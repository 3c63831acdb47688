"""The tile that a schedule of a template names, checked: logs that hold schedules may be damaged."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec

Tile = TypeVar("Tile")


def checked_tile(spec: KernelSpec, schedule: KernelSchedule, tile: Callable[..., Tile]) -> Tile:
    """A tile with a schedule's parameters.

    Args:
        spec: the kernel that the schedule is of.
        schedule: ``{"parameters": {...}}``.
        tile: frozen dataclass of numbers and strings.

    Raises:
        ValueError: it has other parameters, or numbers that are not positive.
    """
    try:
        parameters = vars(tile(**schedule.get("parameters", {})))
        made: Tile = _tile_type(tile).validate_python(parameters)
    except (TypeError, ValidationError) as error:
        said = str(error).splitlines()
        raise ValueError(f"schedule {schedule} of kernel {spec.key}: {' '.join(said[:3])}") from error
    if not all(value > 0 for value in vars(made).values() if isinstance(value, int)):
        raise ValueError(f"schedule {schedule} of kernel {spec.key}: sizes must be positive")
    return made


@functools.cache
def _tile_type(tile: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(tile)
