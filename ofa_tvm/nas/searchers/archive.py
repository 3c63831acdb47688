"""Archive: everything a search has asked and been told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from moocore import is_nondominated
from numpy.typing import NDArray

from ofa_tvm.spaces import Genomes, SearchSpace

Floats = NDArray[np.float64]

_PATIENCE = 50
_MIN_BATCH = 128
_SPARE = 1.25
"""Proposals for each genome wanted: some were asked before, and a second round costs more than a few too many."""


class Archive:
    """Keeps proposals new and knows the front.

    Args:
        space: the space of the genomes.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._asked: set[bytes] = set()
        self._rows: dict[bytes, int] = {}
        self._answers: list[tuple[Genomes, Floats, Floats]] = []
        self._told = 0

    def new(self, count: int, propose: Callable[[int], Genomes], patience: int = _PATIENCE) -> Genomes:
        """Collect genomes that were neither asked nor told before, and count them as asked.

        Args:
            count: rows wanted.
            propose: gives about as many canonical genomes as it is asked for.
            patience: proposals without a new genome after which it gives up.

        Returns:
            Shape (count, genes), with fewer rows after giving up or at the end of the space.
        """
        fresh = [np.empty((0, len(self._space.gene_sizes)), dtype=np.int8)]
        missing, idle = count, 0
        while missing > 0 and idle < patience and len(self._asked) < self._space.cardinality:
            genomes = propose(max(int(missing * _SPARE), _MIN_BATCH))
            rows = self._claim(row_keys(genomes), missing)
            fresh.append(genomes[rows])
            missing -= len(rows)
            idle = 0 if rows else idle + 1
        return np.concatenate(fresh)

    def _claim(self, keys: list[bytes], most: int) -> list[int]:
        """Count the first ``most`` new keys as asked; their positions."""
        rows = []
        for row, key in enumerate(keys):
            if key not in self._asked:
                self._asked.add(key)
                rows.append(row)
                if len(rows) == most:
                    break
        return rows

    def record(self, genomes: Genomes, objectives: Floats, violations: Floats) -> tuple[Genomes, Floats, Floats]:
        """Keep what was told; a later answer about the same subnet replaces an earlier one.

        Returns:
            The three arrays: canonical, checked, each subnet once.

        Raises:
            ValueError: shapes disagree, a number is not finite, or a violation is negative.
        """
        genomes, objectives, violations = checked(self._space, genomes, objectives, violations)
        last = {key: row for row, key in enumerate(row_keys(genomes))}
        rows = np.fromiter(last.values(), dtype=np.intp, count=len(last))
        told = genomes[rows], objectives[rows], violations[rows]
        self._asked.update(last)
        self._rows.update(zip(last, range(self._told, self._told + len(last)), strict=True))
        self._told += len(last)
        self._answers.append(told)
        return told

    def front(self) -> tuple[Genomes, Floats]:
        """Feasible non-dominated subnets told so far, in the order of the first objective."""
        if not self._told:
            return np.empty((0, len(self._space.gene_sizes)), dtype=np.int8), np.empty((0, 0))
        genomes, objectives, violations = map(np.concatenate, zip(*self._answers, strict=True))
        rows = np.fromiter(self._rows.values(), dtype=np.intp, count=len(self._rows))
        rows = rows[feasible_front(objectives[rows], violations[rows])]
        return genomes[rows], objectives[rows]


def row_keys(genomes: Genomes) -> list[bytes]:
    """The bytes of each row: equal exactly when the rows are equal."""
    genomes = np.ascontiguousarray(genomes, dtype=np.int8)
    rows: NDArray[Any] = genomes.view(np.dtype((np.void, genomes.shape[1])))
    return rows.ravel().tolist()


def checked(
    space: SearchSpace, genomes: Genomes, objectives: Floats, violations: Floats
) -> tuple[Genomes, Floats, Floats]:
    """What a searcher is told, as arrays of the right types, canonical.

    Raises:
        ValueError: shapes disagree, a number is not finite, or a violation is negative.
    """
    genomes = space.canonical(genomes)
    objectives = np.asarray(objectives, dtype=np.float64)
    violations = np.asarray(violations, dtype=np.float64)
    if objectives.ndim != 2 or not len(genomes) == len(objectives) == len(violations):
        raise ValueError("objectives must be (n, m) and violations (n,) for n genomes")
    if not (np.isfinite(objectives).all() and np.isfinite(violations).all() and (violations >= 0).all()):
        raise ValueError("objectives and violations must be finite, violations not negative")
    return genomes, objectives, violations


def feasible_front(objectives: Floats, violations: Floats) -> NDArray[np.intp]:
    """Rows without violation that no other such row dominates, in the order of the first objective."""
    rows = np.flatnonzero(violations == 0)
    if len(rows):
        rows = rows[is_nondominated(objectives[rows], keep_weakly=True)]
    return rows[np.lexsort(objectives[rows].T[::-1])]
