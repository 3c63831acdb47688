"""Plans of a training: phases that open one dimension of the supernet after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Elastic = Literal["kernel", "depth", "expand"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Phase:
    """Epochs with the given dimensions elastic; the learning rate falls along a cosine between two values."""

    name: str
    elastic: tuple[Elastic, ...]
    epochs: int
    rate_start: float
    rate_end: float
    warmup_epochs: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A whole training.

    ``precision`` is that of convolutions (float32 is TF32 on GPUs, as torch has it); weights, norms and losses are
    float32.
    """

    phases: tuple[Phase, ...]
    batch: int = 128
    momentum: float = 0.9
    weight_decay: float = 2.5e-4
    label_smoothing: float = 0.1
    clip_norm: float = 5.0
    random_subnets: int = 1
    seed: int = 0
    precision: Precision = "float32"

    def scaled(self, factor: float) -> Plan:
        """The plan with each phase's epochs scaled (at least one epoch each)."""
        phases = (replace(phase, epochs=max(1, round(phase.epochs * factor))) for phase in self.phases)
        return replace(self, phases=tuple(phases))


DEFAULT_PLAN = Plan(
    phases=(
        Phase("largest", (), 20, 0.2, 0.01, warmup_epochs=1.0),
        Phase("kernel", ("kernel",), 2, 0.06, 0.03),
        Phase("depth", ("kernel", "depth"), 3, 0.06, 0.03),
        Phase("expand", ("kernel", "depth", "expand"), 8, 0.06, 0.0),
    )
)
