"""Names of CPUs and of their features that LLVM knows; of others it makes code for any CPU, without an error."""

from __future__ import annotations

import difflib
import platform
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from ofa_tvm.support.json_text import parse_json

TRIPLE = re.compile(r"[a-z0-9_]+-([a-z0-9]+-)?linux-gnu")
"""A system with glibc, as bundles need it."""
Names = dict[str, list[str]]


@cache
def known_names() -> dict[str, Names]:
    """By architecture the 64-bit ``cpus`` and the ``features`` of the LLVM in the TVM that is required."""
    known: dict[str, Names] = parse_json(files("ofa_tvm.hardware").joinpath("llvm_names.json").read_bytes())
    return known


def check_names(triple: str | None, cpu: str, features: Sequence[str]) -> None:
    """Refuse names that LLVM does not know; of architectures without a list here, only LLVM itself can tell.

    Args:
        triple: what code is made for; None for this machine.
        cpu: its CPU; ``native`` for this machine's.
        features: each after a + or -.

    Raises:
        ValueError: naming the nearest names that LLVM knows.
    """
    architecture = (triple or platform.machine()).partition("-")[0]
    known = known_names().get(architecture)
    if triple is not None and not TRIPLE.fullmatch(triple):
        raise ValueError(f"mtriple '{triple}' is no system that bundles run on; write {architecture}-linux-gnu")
    if known is None:
        if meant := difflib.get_close_matches(architecture, known_names(), n=1):
            raise ValueError(f"LLVM knows no architecture '{architecture}' of mtriple; it knows {meant[0]}")
        return
    if cpu != "native" and cpu not in known["cpus"]:
        raise ValueError(f"LLVM knows no mcpu '{cpu}' for {architecture}{_nearest(cpu, known['cpus'])}")
    for feature in features:
        if feature[:1] not in ("+", "-") or feature[1:] not in known["features"]:
            near = _nearest(feature.lstrip("+-"), known["features"], feature[:1] if feature[:1] == "-" else "+")
            raise ValueError(f"LLVM knows no mattr '{feature}' for {architecture}{near}")


def _nearest(name: str, known: Sequence[str], sign: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=4, cutoff=0)
    return f"; it knows {', '.join(sign + one for one in near)}"
