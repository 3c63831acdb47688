"""Measured latencies from anywhere, one JSON object a line: ``{"config": {"ks", "e", "d", "r"}, "latency_ms"}``.

A file may also be one list of such objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, model_validator

from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.architectures import from_ofa
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import read_text
from ofa_tvm.support.json_text import json_text, parse_json
from ofa_tvm.support.typed import Milliseconds, validated

Floats = NDArray[np.float64]


class _Line(BaseModel):
    """A line; other keys are for people."""

    latency_ms: Milliseconds
    config: dict[str, Any] | None = None
    subnet: str | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.config is None) == (self.subnet is None):
            raise ValueError("it needs one of 'config' and 'subnet'")
        return self


_LINE = TypeAdapter(_Line)
HINT = 'a line reads {"config": {"ks": [...], "e": [...], "d": [...], "r": 224}, "latency_ms": 12.3}'


@dataclass(frozen=True)
class LatencyData:
    """Subnets of one space and their latencies on one device.

    Args:
        configs: n different subnets.
        latency_ms: shape (n,).
    """

    configs: tuple[SubnetConfig, ...]
    latency_ms: Floats

    def __len__(self) -> int:
        return len(self.configs)

    def __getitem__(self, rows: NDArray[np.intp]) -> LatencyData:
        return LatencyData(tuple(self.configs[row] for row in rows), self.latency_ms[rows])

    def split(self, train: int, test: int | None, seed: int) -> tuple[LatencyData, LatencyData]:
        """Random subnets to fit and others to predict.

        Args:
            train: subnets of the first.
            test: subnets of the second; None for all others.
            seed: of the order.

        Raises:
            UserError: there are too few subnets.
        """
        wanted = train + (1 if test is None else test)
        if wanted > len(self):
            raise UserError(
                f"{train} subnets to fit and {test or 'some'} to ask about are more than the {len(self)} in the file; "
                "several lines about one subnet count once",
                "give smaller --train and --test",
            )
        order = np.random.default_rng(seed).permutation(len(self))
        end = None if test is None else train + test
        return self[order[:train]], self[order[train:end]]

    def require_differences(self, what: str) -> None:
        """Refuse latencies that are all the same.

        Raises:
            UserError: they are.
        """
        if len(self) > 1 and np.ptp(self.latency_ms) == 0:
            raise UserError(
                f"{what}: all {len(self)} subnets take {self.latency_ms[0]:g} ms, there is nothing to learn",
                "measure them again: a device that answers the same for all measures something else",
            )


def read_latency_data(path: Path, space: SearchSpace) -> LatencyData:
    """Read a file of latencies; of lines about one subnet the median counts, so that no split parts them.

    Args:
        path: JSON lines, or one list; ``config`` is OFA's dict (or ``subnet`` our key), ``latency_ms`` positive.
        space: what the subnets belong to.

    Raises:
        UserError: the file cannot be read, or a line (named) is of another form or outside the space; or all
            latencies are the same.
    """
    latencies: dict[SubnetConfig, list[float]] = {}
    for where, text in _entries(path, read_text(path, "latency file", "give a file of JSON lines")):
        try:
            sample = validated(_LINE, parse_json(text))
            config = space.parse(sample.subnet) if sample.subnet is not None else from_ofa(sample.config or {}, space)
        except (UserError, ValueError) as error:
            raise UserError(f"{path}, {where}: {error}", HINT) from error
        latencies.setdefault(config, []).append(sample.latency_ms)
    if not latencies:
        raise UserError(f"latency file {path} is empty", "give a file of JSON lines")
    data = LatencyData(tuple(latencies), np.asarray([median(repeats) for repeats in latencies.values()]))
    data.require_differences(str(path))
    return data


def _entries(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Where each entry stands, and its JSON."""
    if not text.lstrip().startswith("["):
        lines = enumerate(text.split("\n"), 1)
        yield from ((f"line {number}", line) for number, line in lines if line.strip())
        return
    try:
        entries = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path} is not a list of latencies: {error}", HINT) from error
    yield from ((f"entry {number}", json_text(entry)) for number, entry in enumerate(entries, 1))
