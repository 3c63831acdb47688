"""Training plans: everything that decides a training's result, in steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from ofa_tvm.support.errors import UserError

Elastic = Literal["kernel", "depth", "expand"]
Precision = Literal["float32", "bfloat16"]
Device = Literal["cpu", "cuda"]
Recipe = Literal["single-stage", "progressive", "fine-tune"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
MAX_STEPS = 10**9
MAX_SEED = 2**40 - 1
"""A generator of 64 bits takes a seed times a million."""
MAX_RANDOM, MAX_WINDOW = 16, 10**6
EVERYTHING: tuple[Elastic, ...] = get_args(Elastic)


@dataclass(frozen=True)
class Phase:
    """Steps with the given dimensions elastic; the learning rate falls along a cosine between two values.

    Args:
        name: for people.
        elastic: dimensions that vary between a step's subnets; the others are at their largest.
        steps: how many.
        rate_start: learning rate at the beginning, after the warm-up.
        rate_end: at the end.
        warmup: share of the steps in which the rate rises to the cosine.
        closed: share of the steps in which nothing is elastic yet.
        opened: share after which all choices are open; in between they open evenly, from the largest on.
        sorts: whether channels are sorted by importance before it.
    """

    name: str
    elastic: tuple[Elastic, ...]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    rate_start: Positive
    rate_end: NotNegative = 0.0
    warmup: Share = 0.0
    closed: Share = 0.0
    opened: Share = 0.0
    sorts: bool = False

    def openness(self, step: int) -> float:
        """Share of the choices that a step may take, 0 (the largest alone) to 1."""
        if not self.elastic:
            return 0.0
        done = step / self.steps
        if done >= self.opened:
            return 1.0
        return max(0.0, (done - self.closed) / (self.opened - self.closed))


@dataclass(frozen=True)
class Plan:
    """A whole training.

    Args:
        recipe: its name.
        phases: one after the other.
        batch: images a step.
        rate_scale: factor on the phases' learning rates.
        body_rate: further factor on the learning rates of all layers but the classifier.
        momentum: of SGD with Nesterov momentum.
        weight_decay: of weights, not of norms and biases.
        label_smoothing: of the largest network's labels; the others learn from its answers.
        clip_norm: the gradient's largest norm.
        random_subnets: random subnets that a step trains besides the largest and the smallest.
        window: steps that share a pool of random subnets, one subnet for every 32 steps; 0 for new ones each step.
        mixed: share of the steps in which the largest network learns from pairs of images (CutMix).
        ema: decay of the running mean of weights that is the result; 0 for the weights themselves.
        one_resolution: whether the networks of a step share one resolution.
        resolutions: that are trained; empty for all of the space.
        teacher_share: share of a teacher's answers in the largest network's loss, where there is a teacher.
        only: key of a subnet that is trained alone; empty where all are trained.
        seed: of weights, order, augmentation and subnets.
        precision: type of convolutions (float32 is TF32 on GPUs, as torch has it); the rest is float32.
    """

    recipe: Recipe
    phases: tuple[Phase, ...]
    batch: Annotated[int, Field(ge=2)] = 128
    rate_scale: Positive = 1.0
    body_rate: NotNegative = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 2.5e-4
    label_smoothing: Share = 0.1
    clip_norm: Positive = 5.0
    random_subnets: Annotated[int, Field(ge=0, le=MAX_RANDOM)] = 1
    window: Annotated[int, Field(ge=0, le=MAX_WINDOW)] = 0
    mixed: Share = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    one_resolution: bool = False
    resolutions: tuple[int, ...] = ()
    teacher_share: Share = 0.5
    only: str = ""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    precision: Precision = "float32"

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase of a step, and the step's number in it."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise IndexError("the plan has fewer steps")


def _single_stage(steps: int) -> tuple[Phase, ...]:
    return (Phase("all", EVERYTHING, steps, 0.2, 0.0, warmup=0.03, closed=0.05, opened=0.3),)


def _progressive(steps: int) -> tuple[Phase, ...]:
    """Shares of OFA's phases (Cai et al., ICLR 2020, section 3.3) that worked best at small scale."""
    kernel, depth, expand = (max(1, round(share * steps)) for share in (2 / 33, 3 / 33, 8 / 33))
    largest = max(1, steps - kernel - depth - expand)
    return (
        Phase("largest", (), largest, 0.2, 0.01, warmup=0.05),
        Phase("kernel", ("kernel",), kernel, 0.06, 0.03),
        Phase("depth", ("kernel", "depth"), depth, 0.06, 0.03),
        Phase("expand", EVERYTHING, expand, 0.06, 0.0, sorts=True),
    )


def _fine_tune(steps: int) -> tuple[Phase, ...]:
    """The largest network knows much already, so choices open sooner and rates are lower."""
    return (Phase("all", EVERYTHING, steps, 0.1, 0.0, warmup=0.05, closed=0.02, opened=0.25),)


RECIPES: Mapping[Recipe, Callable[[int], tuple[Phase, ...]]] = {
    "single-stage": _single_stage,
    "progressive": _progressive,
    "fine-tune": _fine_tune,
}
VALUES: Mapping[Recipe, Mapping[str, Any]] = {"fine-tune": {"body_rate": 0.3, "weight_decay": 1e-4}}
"""Values of a plan that differ from the defaults in a recipe."""
FIXED = ("recipe", "phases")
"""Fields of a plan that its recipe decides."""


def make_plan(recipe: Recipe, steps: int, /, **values: Any) -> Plan:
    """The plan of a recipe.

    Args:
        recipe: its name.
        steps: in all.
        values: of other fields, as numbers or as texts.

    Raises:
        UserError: there is no such field, or its value is invalid.
    """
    names = [field.name for field in fields(Plan) if field.name not in FIXED]
    for name in values:
        if name not in names:
            raise UserError(f"a plan has no '{name}'", f"it has {', '.join(names)}")
    try:
        plan = asdict(Plan(recipe, RECIPES[recipe](steps)))
        return TypeAdapter(Plan).validate_python({**plan, **VALUES.get(recipe, {}), **values})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UserError(f"{name} of a plan cannot be {first['input']!r}: {first['msg'].lower()}") from error
