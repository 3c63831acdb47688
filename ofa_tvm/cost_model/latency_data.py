"""Measured latencies from anywhere, one JSON object a line: ``{"config": {"ks", "e", "d", "r"}, "latency_ms"}``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.architectures import from_ofa
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LatencyData:
    """Subnets of one space and their latencies on one device.

    Args:
        configs: n subnets.
        latency_ms: shape (n,).
    """

    configs: tuple[SubnetConfig, ...]
    latency_ms: Floats

    def __len__(self) -> int:
        return len(self.configs)

    def __getitem__(self, rows: NDArray[np.intp]) -> LatencyData:
        return LatencyData(tuple(self.configs[row] for row in rows), self.latency_ms[rows])

    def split(self, train: int, test: int | None, seed: int) -> tuple[LatencyData, LatencyData]:
        """Random lines to fit and others to predict.

        Args:
            train: lines of the first.
            test: lines of the second; None for all others.
            seed: of the order.

        Raises:
            UserError: there are too few lines.
        """
        wanted = train + (1 if test is None else test)
        if wanted > len(self):
            raise UserError(
                f"{train} subnets to fit and {test or 'some'} to ask about are more than the {len(self)} in the file",
                "give smaller --train and --test",
            )
        order = np.random.default_rng(seed).permutation(len(self))
        end = None if test is None else train + test
        return self[order[:train]], self[order[train:end]]


def read_latency_data(path: Path, space: SearchSpace) -> LatencyData:
    """Read a file of latencies.

    Args:
        path: JSON lines; ``config`` is OFA's dict (or ``subnet`` a key of ours), ``latency_ms`` a positive number.
        space: what the subnets belong to.

    Raises:
        UserError: the file cannot be read, or a line (named) is of another form or outside the space.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"latency file {path} cannot be read: {error}", "give a file of JSON lines") from error
    configs, latencies = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            config, latency_ms = _parse(json.loads(line), space)
        except (UserError, ValueError, TypeError, KeyError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            hint = 'a line reads {"config": {"ks": [...], "e": [...], "d": [...], "r": 224}, "latency_ms": 12.3}'
            raise UserError(f"{path}, line {number}: {what}", hint) from error
        configs.append(config)
        latencies.append(latency_ms)
    if not configs:
        raise UserError(f"latency file {path} is empty", "give a file of JSON lines")
    return LatencyData(tuple(configs), np.asarray(latencies))


def _parse(line: Record, space: SearchSpace) -> tuple[SubnetConfig, float]:
    config = space.parse(line["subnet"]) if "subnet" in line else from_ofa(line["config"], space)
    latency_ms = float(line["latency_ms"])
    if not 0 < latency_ms < math.inf:
        raise ValueError(f"latency_ms is {latency_ms}, not a positive number")
    return config, latency_ms
