"""The default plan of a training; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofa_tvm.supernet.plan import Plan, Recipe, make_plan

SPACE = "mbv3-cifar"
EPOCHS, KNOWING_EPOCHS = 60.0, 10.0
"""Epochs from random weights, and from trained ones."""
MAX_EPOCHS = 1e6
MIN_STEPS = 2000
"""Steps that a plan has at least, however few images there are."""
SMALL = 10_000
"""Training images below which a batch is smaller, so that an epoch has more steps."""
BATCH, SMALL_BATCH = 128, 64
GPU_BATCH, GPU_RATE_SCALE = 512, 2.0
"""On a GPU, whose launches take equally long for every batch size."""
MIN_WINDOW, MAX_WINDOW, WINDOWS = 32, 1024, 40
"""Steps of a window of random subnets on a GPU, and windows of a training."""
FOLDS, ENOUGH = 4, 1000
"""Parts of a cross-validation, used where fewer images than the second number could be held out."""


def plan_for(
    images: int,
    recipe: Recipe,
    *,
    fewest: int | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    knows: bool = False,
    is_graphed: bool = False,
    values: Mapping[str, Any],
) -> Plan:
    """The plan for so many training images.

    Args:
        images: how many.
        recipe: of the training.
        fewest: images of the smallest part of a cross-validation, which takes the same batch; None where there is none.
        epochs: times each is seen; None for the default, and ``MIN_STEPS`` at least.
        steps: in all, instead of epochs.
        batch: images a step; None for the default.
        knows: the training starts from trained weights.
        is_graphed: steps are replayed as graphs, on a GPU.
        values: of other fields of the plan.

    Raises:
        UserError: there is no such field, or its value is invalid.
    """
    if batch is None and is_graphed and images >= SMALL:
        batch, values = GPU_BATCH, {"rate_scale": GPU_RATE_SCALE, **values}
    batch = batch or (max(2, min(SMALL_BATCH, fewest or images)) if images < SMALL else BATCH)
    if steps is None:
        steps = max(1, round((epochs or (KNOWING_EPOCHS if knows else EPOCHS)) * images / batch))
        steps = steps if epochs is not None else max(MIN_STEPS, steps)
    if is_graphed:
        values = {"window": min(MAX_WINDOW, max(MIN_WINDOW, steps // WINDOWS)), **values}
    return make_plan(recipe, steps, batch=batch, **values)
