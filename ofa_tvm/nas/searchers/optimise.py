"""Run a searcher against vectorised objectives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.nas.searchers.base import Searcher
from ofa_tvm.spaces import Genomes

Floats = NDArray[np.float64]
Score = Callable[[Genomes], tuple[Floats, Floats]]
"""From genomes (n, genes) to objectives (n, m), all minimised, and violations (n,)."""


def optimise(searcher: Searcher, score: Score, evaluations: int, population: int, start: Genomes | None = None) -> None:
    """Ask and tell until the evaluations are used up or the space is exhausted.

    Args:
        searcher: the searcher.
        score: what it optimises.
        evaluations: how many subnets to score.
        population: how many at once.
        start: subnets to tell first (a warm start).
    """
    if start is not None and len(start):
        searcher.tell(start, *score(start))
    done = 0
    while done < evaluations:
        genomes = searcher.ask(population)
        if not len(genomes):
            return
        searcher.tell(genomes, *score(genomes))
        done += len(genomes)
