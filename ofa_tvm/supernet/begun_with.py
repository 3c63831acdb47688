"""What the settings that a training was begun with have other than those it is now asked for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ofa_tvm.support.files import Record
from ofa_tvm.support.text import printable

OPTIONS = ("steps", "batch", "seed", "precision", "recipe", "folds", "space")
"""Settings with an option of their own and one value."""
UNSAID = ("init", "teacher", "phases")
"""Settings whose values, hashes or lists, tell a reader nothing."""
NOUNS = {
    "data": "set of images",
    "steps": "number of steps",
    "folds": "number of folds",
    "resolutions": "choice of resolutions",
    "init": "start (--init)",
    "phases": "list of phases",
}
"""What "another" comes before, where that is not the setting's name."""
THE_SAME = {"data": "the same images in --data", "init": "the same --init", "teacher": "the same --teacher"}
"""How a setting is asked for that has no value to paste."""
APART = ("plan", "steps_done", "part_of", "images")
"""What of a training's facts is no setting to compare as it is."""
FOLLOWING = {"folds": "data", "recipe": "phases", "steps": "phases"}
"""Settings with those that differ because of them."""


def differences(before: Record, now: Record) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, each with its values then and now.

    Args:
        before: settings as JSON; their key ``plan`` holds the plan, ``images`` the number of images, where it is kept.
        now: likewise.
    """
    then, asked = _flat(before), _flat(now)
    if "part_of" in now and "part_of" not in before:  # a state of a version that did not keep it
        asked["folds"] = then["folds"]
    found = {
        name: (then.get(name), asked.get(name)) for name in sorted({*then, *asked}) if then.get(name) != asked.get(name)
    }
    if "data" in found:  # a digest tells nobody anything
        found["data"] = (before.get("images"), now.get("images"))
    implied = {FOLLOWING.get(name) for name in found}
    return {name: values for name, values in found.items() if name not in implied}


def told(found: Mapping[str, tuple[Any, Any]]) -> str:
    """``differences`` in words that follow "another"."""
    words = []
    for name, (then, now) in found.items():
        is_unsaid = name in UNSAID or (name == "data" and None in (then, now))
        others = " others" if then == now else ""
        words.append(NOUNS.get(name, name) + ("" if is_unsaid else f" ({then} there, {now}{others} here)"))
    return printable(", ".join(words))


def options(found: Mapping[str, tuple[Any, Any]]) -> str:
    """The options that ask for what a training was begun with; empty where they do not tell all."""
    words = []
    for name, (value, _) in found.items():
        if name in THE_SAME:
            words.append(f"(without --{name})" if value is None and name != "data" else THE_SAME[name])
            continue
        if name in UNSAID or value is None:
            return ""
        if name == "resolutions":
            words += [f"--resolution {size}" for size in value] or ["(without --resolution)"]
        else:
            words.append(f"--{name} {value}" if name in OPTIONS else f"--set {name}={shlex.quote(str(value))}")
    return printable(" ".join(words))


def _flat(settings: Record) -> Record:
    plan = dict(settings.get("plan", {}))
    phases = plan.get("phases", [])
    steps = sum(phase.get("steps", 0) for phase in phases)
    others = {name: value for name, value in settings.items() if name not in APART}
    return {**plan, "steps": steps, "folds": settings.get("part_of", 1), **others}
