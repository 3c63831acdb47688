"""The subnets that a training step trains: the same on every machine and after every resumption."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.plan import Plan
from ofa_tvm.support.errors import UserError

REUSED = 32
"""Steps of a window for each of its random subnets."""
Genes = NDArray[np.int64]


def require_only(space: SearchSpace, plan: Plan) -> None:
    """Refuse a plan for a subnet alone that is none of the space, or not at a size that is trained.

    Raises:
        UserError: it is not.
    """
    if not plan.only:
        return
    drawn = space.with_resolutions(plan.resolutions)
    try:
        drawn.validate(SubnetConfig.parse(plan.only))
    except UserError as error:
        hint = f"a subnet of the space reads like only={drawn.smallest.key} or only={drawn.largest.key}"
        raise UserError(f"only={plan.only[:80]} of a plan: {error.what}", hint) from error


def step_subnets(space: SearchSpace, plan: Plan, step: int) -> list[SubnetConfig]:
    """The largest network, and where choices are open the smallest of them, and random ones.

    This is the sandwich rule (Yu et al., "BigNAS", ECCV 2020, section 3.1). Resolutions are random, of each network or,
    where the plan says so, of them all.

    Args:
        space: the space.
        plan: the training.
        step: the step's number.
    """
    if plan.only:
        return [SubnetConfig.parse(plan.only)]
    rng = np.random.default_rng((plan.seed, step))
    full = (space.gene_sizes - 1).astype(int)
    if plan.window:
        step -= step % plan.window
    least = _least(space, plan, step)
    rows = [full.copy()]
    if not np.array_equal(least[1:], full[1:]):
        rows += [least, *_random(rng, least, full, plan, step)]
    drawn = np.stack(rows).astype(np.int8)
    trained = space.choose_resolutions(plan.resolutions)
    sizes = np.asarray([space.resolutions.index(size) for size in trained])
    resolutions = sizes[rng.integers(0, len(sizes), len(rows))]
    if plan.window:
        resolutions[2:] = sizes[drawn[2:, 0] % len(sizes)]
    drawn[:, 0] = resolutions[0] if plan.one_resolution else resolutions
    return [space.config(row) for row in space.canonical(drawn)]


def _random(rng: np.random.Generator, least: Genes, full: Genes, plan: Plan, step: int) -> Genes:
    """Genes of random subnets, drawn from the window's pool where there is a window."""
    if not plan.window:
        return rng.integers(least, full + 1, (plan.random_subnets, len(full)))
    count = max(plan.random_subnets, plan.window // REUSED)
    of_window = np.random.default_rng((plan.seed, step, 1)).integers(least, full + 1, (count, len(full)))
    of_window[:, 0] = np.arange(count)
    return of_window[rng.permutation(count)[: plan.random_subnets]]


def _least(space: SearchSpace, plan: Plan, step: int) -> np.ndarray:
    """The smallest choice of each gene that is open."""
    phase, number = plan.at(step)
    least = (space.gene_sizes - 1).astype(int)
    _, *views = space.split_genes(least[None])
    for name, view in zip(("depth", "kernel", "expand"), views, strict=True):
        if name in phase.elastic:
            view[:] = np.round((1 - phase.openness(number)) * view)
    return least
