"""What differs between two trainings' settings is told with both values, and with options to paste."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ofa_tvm.supernet.begun_with import differences, options, told
from ofa_tvm.supernet.plan import make_plan


def settings(recipe="single-stage", steps=3, more=None, **values):
    return {"plan": asdict(make_plan(recipe, steps, **values)), "data": "d", "space": "tiny", **(more or {})}


BEGUN = settings(steps=2, more={"steps_done": 2, "images": 150})


@pytest.mark.parametrize(
    ("asked", "said", "hint"),
    [
        (settings(), "number of steps (2 there, 3 here)", "--steps 2"),
        (
            settings("progressive", 50, seed=4),
            "recipe (single-stage there, progressive here), seed (0 there, 4 here), number of steps (2 there, 50 here)",
            "--recipe single-stage --seed 0 --steps 2",
        ),
        (
            settings(steps=2, resolutions=(9,)),
            "choice of resolutions (() there, (9,) here)",
            "(without --resolution)",
        ),
        (settings(steps=2, more={"data": "e", "folds": 4}), "number of folds (1 there, 4 here)", "--folds 1"),
        (settings(steps=2, more={"init": "hash"}), "start (--init)", "(without --init)"),
        (settings(steps=2, more={"data": "e"}), "set of images", "the same images in --data"),
        (
            settings(steps=3, more={"data": "e", "images": 160}),
            "set of images (150 there, 160 here), number of steps (2 there, 3 here)",
            "the same images in --data --steps 2",
        ),
        (
            settings(steps=2, more={"data": "e", "images": 150}),
            "set of images (150 there, 150 others here)",
            "the same images in --data",
        ),
        (settings(steps=2, more={"images": 160}), "", ""),
        (settings(steps=2, window=64), "window (0 there, 64 here)", "--set window=0"),
    ],
)
def test_differences_are_told(asked, said, hint):
    found = differences(BEGUN, asked)
    assert (told(found), options(found)) == (said, hint)


@pytest.mark.parametrize(
    ("kept", "said"),
    [({"part_of": 4}, "number of folds (4 there, 3 here)"), ({}, "set of images")],
    ids=["now", "before it was kept"],
)
def test_parts_of_another_cross_validation(kept, said):
    before = settings(more={"data": "a part of four", **kept})
    assert told(differences(before, settings(more={"data": "a part of three", "part_of": 3}))) == said
    assert differences(before, settings(more={"data": "a part of four", "part_of": 4})) == {}


def test_equal_settings_do_not_differ():
    assert differences(BEGUN, settings(steps=2)) == {}
