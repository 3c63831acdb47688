"""Constructed schedules: for the kinds of kernel that matter, a handful of register tiles, best guess first.

A template is a module with ``candidates(spec, features)``, which ranks parameters, and ``schedule(workload, spec,
parameters)``, which applies one. A new one is one file here and one line in ``TEMPLATES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ofa_tvm.compiler.cpu_features import CpuFeatures
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.tuner.templates import conv_tile, depthwise_tile

Parameters = dict[str, int]


@dataclass(frozen=True)
class Template:
    """One constructed family of schedules."""

    candidates: Callable[[KernelSpec, CpuFeatures], list[Parameters]]
    schedule: Callable[[Any, KernelSpec, Parameters], Any]


TEMPLATES: dict[str, Template] = {
    "conv_tile": Template(conv_tile.candidates, conv_tile.schedule),
    "depthwise_tile": Template(depthwise_tile.candidates, depthwise_tile.schedule),
}


def template_candidates(spec: KernelSpec, features: CpuFeatures) -> list[tuple[str, Parameters]]:
    """(template, parameters) worth a trial for a kernel, best guess first."""
    return [
        (name, parameters) for name, template in TEMPLATES.items() for parameters in template.candidates(spec, features)
    ]
