"""ofa_tvm: train one supernet, tune its kernels once per device, ship any subnet in seconds."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ofa_tvm.support.version import VERSION

if TYPE_CHECKING:
    from ofa_tvm.api.bundles import Bundle, load_bundle
    from ofa_tvm.api.latency import Predictor, measure, predict
    from ofa_tvm.api.loading import SupernetFile, Target, load_space, load_supernet, load_target
    from ofa_tvm.api.searching import FinishedSearch, deploy, search
    from ofa_tvm.api.subnets import describe, sample
    from ofa_tvm.api.tuning import tune

__version__ = VERSION
__all__ = [
    "Bundle",
    "FinishedSearch",
    "Predictor",
    "SupernetFile",
    "Target",
    "deploy",
    "describe",
    "load_bundle",
    "load_space",
    "load_supernet",
    "load_target",
    "measure",
    "predict",
    "sample",
    "search",
    "tune",
]
_HOMES = {
    "bundles": ("Bundle", "load_bundle"),
    "latency": ("Predictor", "measure", "predict"),
    "loading": ("SupernetFile", "Target", "load_space", "load_supernet", "load_target"),
    "searching": ("FinishedSearch", "deploy", "search"),
    "subnets": ("describe", "sample"),
    "tuning": ("tune",),
}
"""Modules that define what a Python program calls; each is loaded when it is first used."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"ofa_tvm.api.{module}"), name)
    raise AttributeError(f"module 'ofa_tvm' has no attribute '{name}'")
