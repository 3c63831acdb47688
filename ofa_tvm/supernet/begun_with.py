"""What the settings that a training was begun with have other than those it is now asked for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ofa_tvm.support.files import Record
from ofa_tvm.support.text import printable

OPTIONS = ("steps", "batch", "seed", "precision", "recipe", "folds", "space")
"""Settings with an option of their own and one value."""
UNSAID = ("data", "init", "teacher", "phases")
"""Settings whose values, hashes or lists, tell a reader nothing."""
FOLLOWING = {"folds": "data", "recipe": "phases", "steps": "phases"}
"""Settings with those that differ because of them."""


def differences(before: Record, now: Record) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, each with its values then and now.

    Args:
        before: settings as JSON; their key ``plan`` holds the plan.
        now: likewise.
    """
    then, asked = _flat(before), _flat(now)
    if "part_of" in now and "part_of" not in before:  # a state of a version that did not keep it
        asked["folds"] = then["folds"]
    found = {
        name: (then.get(name), asked.get(name)) for name in sorted({*then, *asked}) if then.get(name) != asked.get(name)
    }
    implied = {FOLLOWING.get(name) for name in found}
    return {name: values for name, values in found.items() if name not in implied}


def told(found: Mapping[str, tuple[Any, Any]]) -> str:
    """``differences`` in words."""
    words = (name if name in UNSAID else f"{name} ({then} there, {now} here)" for name, (then, now) in found.items())
    return printable(", ".join(words))


def options(found: Mapping[str, tuple[Any, Any]]) -> str:
    """The options that ask for what a training was begun with; empty where they do not tell all."""
    words = []
    for name, (value, _) in found.items():
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
    others = {name: value for name, value in settings.items() if name not in ("plan", "steps_done", "part_of")}
    return {**plan, "steps": steps, "folds": settings.get("part_of", 1), **others}
