"""Plans and the subnets of their steps. No torch."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.supernet.plan import RECIPES, make_plan
from ofa_tvm.supernet.sampling import require_only, step_subnets
from ofa_tvm.support.errors import UserError

SPACE = MBV3_CIFAR


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("steps", [10, 33, 1000, 45_001])
def test_a_plan_has_the_steps_that_were_asked_for(recipe, steps):
    plan = make_plan(recipe, steps)
    assert plan.steps == steps
    assert plan.at(0)[1] == 0
    last, number = plan.at(steps - 1)
    assert (last, number) == (plan.phases[-1], last.steps - 1)
    with pytest.raises(IndexError):
        plan.at(steps)


def test_values_are_taken_as_texts():
    plan = make_plan("single-stage", 10, ema="0.5", one_resolution="true", batch="64")
    assert (plan.ema, plan.one_resolution, plan.batch) == (0.5, True, 64)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ema", "1", "ema of a plan cannot be '1'"),
        ("ema", "nan", "ema of a plan cannot be"),
        ("batch", "1", "batch of a plan cannot be '1'"),
        ("precision", "int8", "precision of a plan cannot be"),
        ("seed", 2**40, "seed of a plan cannot be"),
        ("random_subnets", "999999999999", "random_subnets of a plan cannot be '999999999999'"),
        ("window", 10**18, "window of a plan cannot be"),
        ("moon", "1", "a plan has no 'moon'"),
        ("phases", "1", "a plan has no 'phases'"),
        ("recipe", "progressive", "a plan has no 'recipe'"),
        ("steps", "5", "a plan has no 'steps'"),
        ("random_subnets", "17", "random_subnets of a plan cannot be '17'"),
    ],
)
def test_values_that_cannot_be_are_refused(name, value, said):
    with pytest.raises(UserError, match=said):
        make_plan("single-stage", 10, **{name: value})


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("r99.3x2", "resolution 99 is not in"),
        ("r32.3x2", "has 3 stages"),
        ("r32.7x4-7x4.7x4-7x4.7x4-7x5", "expand 5 is not in"),
        ("r24.7x4-7x4.7x4-7x4.7x4-7x4", "resolution 24 is not in"),
        ("large", "is not a subnet key"),
    ],
)
def test_a_subnet_alone_is_one_of_the_space(key, said):
    require_only(SPACE, make_plan("single-stage", 10, only=SPACE.smallest.key))
    plan = make_plan("single-stage", 10, only=key, resolutions=(32,))
    with pytest.raises(UserError, match=f"only={key} of a plan: .*{said}") as caught:
        require_only(SPACE, plan)
    assert SPACE.largest.key in caught.value.hint


def test_choices_open_from_the_largest_on():
    plan = make_plan("single-stage", 1000, random_subnets=3)
    assert [len(step_subnets(SPACE, plan, step)) for step in (0, 20, 500)] == [1, 1, 5], "closed at first"
    half = [config for step in range(160, 190) for config in step_subnets(SPACE, plan, step)]
    assert {len(stage) for config in half for stage in config.stages} <= {2, 3}
    late = [step_subnets(SPACE, plan, step) for step in range(400, 500)]
    assert {subnets[0].stages for subnets in late} == {SPACE.largest.stages}
    assert {subnets[1].stages for subnets in late} == {SPACE.smallest.stages}
    blocks = [block for subnets in late for config in subnets[2:] for stage in config.stages for block in stage]
    assert set(blocks) == {(kernel, expand) for kernel in (3, 5, 7) for expand in (2, 3, 4)}
    assert {config.resolution for subnets in late for config in subnets} == set(SPACE.resolutions)


def test_the_phases_of_progressive_shrinking():
    plan = make_plan("progressive", 330)
    assert [len(step_subnets(SPACE, plan, step)) for step in (0, 199, 329)] == [1, 1, 3]
    kernels = [step_subnets(SPACE, plan, step) for step in range(200, 220)]
    for largest, smallest, random in kernels:
        assert largest.stages == SPACE.largest.stages
        assert smallest.stages == SPACE.uniform(32, 3, 3, 4).stages
        assert random.depths == (3, 3, 3)
        assert {expand for stage in random.stages for _, expand in stage} == {4}
    assert [phase.sorts for phase in plan.phases] == [False, False, False, True]


def test_a_step_has_the_same_subnets_every_time():
    plan = make_plan("single-stage", 1000)
    assert step_subnets(SPACE, plan, 700) == step_subnets(SPACE, plan, 700)
    others = {tuple(step_subnets(SPACE, plan, step)) for step in range(700, 720)}
    assert len(others) == 20
    assert step_subnets(SPACE, make_plan("single-stage", 1000, seed=1), 700) != step_subnets(SPACE, plan, 700)


def test_the_networks_of_a_step_may_share_their_resolution():
    plan = make_plan("single-stage", 1000, one_resolution=True)
    drawn = [{config.resolution for config in step_subnets(SPACE, plan, step)} for step in range(50)]
    assert all(len(one) == 1 for one in drawn)
    assert set().union(*drawn) == set(SPACE.resolutions)


def test_openness_is_between_none_and_all():
    (phase,) = make_plan("single-stage", 1000).phases
    values = [phase.openness(step) for step in range(1000)]
    assert values[:50] == [0.0] * 50
    assert (np.diff(values) >= 0).all()
    assert values[300:] == [1.0] * 700
