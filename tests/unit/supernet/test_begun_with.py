"""What differs between two trainings' settings is told with both values, and with options to paste."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ofa_tvm.supernet.begun_with import differences, options, told
from ofa_tvm.supernet.plan import make_plan


def settings(recipe="single-stage", steps=3, more=None, **values):
    return {"plan": asdict(make_plan(recipe, steps, **values)), "data": "d", "space": "tiny", **(more or {})}


BEGUN = settings(steps=2, more={"steps_done": 2})


@pytest.mark.parametrize(
    ("asked", "said", "hint"),
    [
        (settings(), "steps (2 there, 3 here)", "--steps 2"),
        (
            settings("progressive", 50, seed=4),
            "recipe (single-stage there, progressive here), seed (0 there, 4 here), steps (2 there, 50 here)",
            "--recipe single-stage --seed 0 --steps 2",
        ),
        (settings(steps=2, resolutions=(12,)), "resolutions (() there, (12,) here)", "(without --resolution)"),
        (settings(steps=2, more={"data": "e", "folds": 4}), "folds (1 there, 4 here)", "--folds 1"),
        (settings(steps=2, more={"init": "hash"}), "init", ""),
        (settings(steps=2, window=64), "window (0 there, 64 here)", "--set window=0"),
    ],
)
def test_differences_are_told(asked, said, hint):
    found = differences(BEGUN, asked)
    assert (told(found), options(found)) == (said, hint)


@pytest.mark.parametrize(
    ("kept", "said"), [({"part_of": 4}, "folds (4 there, 3 here)"), ({}, "data")], ids=["now", "before it was kept"]
)
def test_parts_of_another_cross_validation(kept, said):
    before = settings(more={"data": "a part of four", **kept})
    assert told(differences(before, settings(more={"data": "a part of three", "part_of": 3}))) == said
    assert differences(before, settings(more={"data": "a part of four", "part_of": 4})) == {}


def test_equal_settings_do_not_differ():
    assert differences(BEGUN, settings(steps=2)) == {}
