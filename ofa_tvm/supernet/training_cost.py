"""What a training will cost, from a few of its steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from ofa_tvm.supernet.training import Trainer
from ofa_tvm.support.ledger import Cost, Meter

PLACES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)
"""Where in the plan the steps are taken: later ones train more and smaller networks."""
WARM_UP = {"cpu": PLACES[:1] * 2, "cuda": PLACES * 2}
"""A GPU's step runs once, is recorded the second time, and has its final speed from then on."""
ROUNDS = {"cpu": 1, "cuda": 3}


def expected_cost(trainer: Trainer) -> Cost:
    """Cost of the remaining steps, without evaluation; the trainer cannot be used afterwards, and saves nothing."""
    device, left = trainer.device.type, trainer.plan.steps - trainer.steps_done
    trainer.supernet.train()
    _take(trainer, WARM_UP[device])
    meter = Meter(uses_gpu=device == "cuda")
    taken = PLACES * ROUNDS[device]
    _take(trainer, taken)
    cost = meter.read("expected")
    times = left / len(taken)
    numbers = ("wall_s", "cpu_s", "energy_kwh", "energy_low_kwh", "energy_high_kwh")
    return replace(cost, **{name: times * getattr(cost, name) for name in numbers})


def _take(trainer: Trainer, places: Iterable[float]) -> None:
    for place in places:
        trainer.steps_done = int(place * trainer.plan.steps)
        trainer.step()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
