"""What a training will cost, from a few of its steps."""

from __future__ import annotations

from dataclasses import replace

from ofa_tvm.supernet.training import Trainer
from ofa_tvm.support.ledger import Cost, Meter

WARM_UP = 2
PLACES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)
"""Where in the plan the steps are taken: later ones train more and smaller networks."""


def expected_cost(trainer: Trainer) -> Cost:
    """Cost of all steps that are left, without evaluation; spoils the trainer, which keeps nothing of it."""
    plan, done = trainer.plan, trainer.steps_done
    trainer.supernet.train()
    for _ in range(WARM_UP):
        trainer.steps_done = int(PLACES[0] * plan.steps)
        trainer.step()
    meter = Meter(uses_gpu=trainer.device.type == "cuda")
    for place in PLACES:
        trainer.steps_done = int(place * plan.steps)
        trainer.step()
    cost = meter.read("expected")
    times = (plan.steps - done) / len(PLACES)
    numbers = ("wall_s", "cpu_s", "energy_kwh", "energy_low_kwh", "energy_high_kwh")
    return replace(cost, **{name: times * getattr(cost, name) for name in numbers})
