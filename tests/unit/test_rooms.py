"""The architecture: every module a room, imports go one way, and only a few places know torch or TVM."""

from __future__ import annotations

import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from structure import Package

from ofa_tvm.__main__ import VERBS, module_of

ROOT = Path(__file__).parents[2]
PACKAGE = Package.read(ROOT / "ofa_tvm")
COMPILER: tuple[str, ...] = (
    *("compiler.tvm_api", "compiler.native", "compiler.assembly", "compiler.scheduled", "compiler.cpu.emit"),
    *("compiler.cpu", "compiler.cuda.emit", "compiler.cuda", "compiler"),
)
GROUND = ("support", "hardware", "timing", "graph", "spaces")
BELOW_DEVICES = (*GROUND, *COMPILER, "tuner")
DEVICES: tuple[str, ...] = ("devices.workers", "devices.pack", "devices.local", "devices.rpc", "devices.emulation")
DEVICES = (
    *("devices.workers", "devices.pack", "devices.local", "devices.rpc", "devices.emulation", "devices.estimate"),
    "devices",
)
ROOMS: dict[str, tuple[str, ...]] = {
    "support": (),
    "hardware": ("support",),
    "timing": ("support",),
    "graph": ("support",),
    "spaces": ("support", "graph"),
    "adoption": ("support", "graph"),
    "data": ("support",),
    "regression": ("support",),
    "supernet": ("support", "graph", "spaces", "adoption", "data"),
    "compiler.tvm_api": ("support",),
    "compiler.native": (),
    "compiler.assembly": ("support", "graph", "compiler.tvm_api", "compiler.native"),
    "compiler.scheduled": ("support", "graph", "compiler.tvm_api"),
    "compiler.cpu.emit": ("graph", "compiler.tvm_api"),
    "compiler.cpu": (
        *("support", "graph", "compiler.tvm_api", "compiler.native", "compiler.assembly", "compiler.cpu.emit"),
    ),
    "compiler.cuda.emit": ("support", "graph"),
    "compiler.cuda": (
        *("support", "graph", "compiler.tvm_api", "compiler.native", "compiler.assembly", "compiler.scheduled"),
        "compiler.cuda.emit",
    ),
    "compiler": ("support", "hardware", "graph", "spaces", *COMPILER[:-1]),
    "tuner": (*GROUND, *COMPILER),
    "devices.workers": BELOW_DEVICES,
    "devices.pack": (*BELOW_DEVICES, "devices.workers"),
    "devices.local": (*BELOW_DEVICES, "devices.workers", "devices.pack"),
    "devices.rpc": (*BELOW_DEVICES, "devices.workers"),
    "devices.emulation": (*BELOW_DEVICES, "devices.workers", "devices.rpc"),
    "devices.estimate": (*BELOW_DEVICES, "devices.workers", "devices.emulation"),
    "devices": (*BELOW_DEVICES, *DEVICES),
    "cost_model": ("support", "graph", "spaces", "regression"),
    "accuracy": ("support", "spaces", "regression"),
    "training": ("support", "data", "spaces", "supernet", "regression", "accuracy"),
    "measurement": (*BELOW_DEVICES, *DEVICES, "cost_model", "accuracy"),
    "engines": ("support", "timing", "hardware", "graph", "supernet", *COMPILER, "tuner"),
    "nas.searchers": ("support", "spaces"),
    "nas": (
        *(*GROUND, "data", "supernet", "tuner", "devices", "cost_model", "accuracy", "measurement"),
        "nas.searchers",
    ),
    "bundle": (*BELOW_DEVICES, *DEVICES, "data", "supernet", "cost_model", "measurement", "engines", "nas"),
    "reporting": (
        *("support", "hardware", "timing", "spaces", "tuner", "cost_model", "accuracy", "training", "measurement"),
        *("nas", "bundle"),
    ),
    "checks": ("support", "hardware", "graph", *COMPILER, "tuner", *DEVICES),
    "api": (
        *("support", "hardware", "spaces", "data", "supernet", "compiler", "tuner", "devices", "cost_model"),
        *("accuracy", "measurement", "nas", "bundle"),
    ),
}
"""Every room and the rooms that it may import, each of which stands before it."""

KNOW_TVM = ("compiler.tvm_api",)
BY_NAME = {
    "ofa_tvm",
    *(f"ofa_tvm.{name}" for name in ("__main__", "devices", "devices.workers.worker", "checks.machine_checks")),
}
KNOW_TORCH = ("supernet",)
LIGHT = (
    *("spaces", "graph.network", "graph.kernel", "nas.searchers", "cost_model", "support.files", "data"),
    *("hardware.machine", "hardware.target_files", "support.command"),
)


def importers(*libraries: str) -> set[str]:
    return {module for module in PACKAGE.trees if set(libraries) & PACKAGE.imports(module)}


def test_every_room_stands_in_the_list_after_those_that_it_may_import():
    places = list(ROOMS)
    assert {PACKAGE.room(module) for module in PACKAGE.trees} - {""} == set(places)
    for room, allowed in ROOMS.items():
        assert {other for other in allowed if places.index(other) >= places.index(room)} <= {room}, room


def test_no_arrow_runs_against_the_list():
    wrong = [
        f"{room} may not import {other}: {', '.join(who)}"
        for (room, other), who in PACKAGE.arrows().items()
        if room in ROOMS and other not in ROOMS[room]
    ]
    assert not wrong


def test_the_entrance_leads_to_support_and_the_api_alone():
    ends = {other for (place, other) in PACKAGE.arrows() if place in ("ofa_tvm", "__main__")}
    assert ends == {"support", "api"}


def test_imports_by_name_are_few_and_known():
    """A dict of names is imported lazily there; anything else is a plain import inside a function."""
    assert set(filter(PACKAGE.imports_by_name, PACKAGE.trees)) == BY_NAME


def test_every_file_at_the_top_is_a_command():
    assert PACKAGE.top_level() == sorted(map(module_of, VERBS))


def test_no_import_cycles():
    graph = {module: PACKAGE.imports(module, everywhere=False) & PACKAGE.trees.keys() for module in PACKAGE.trees}
    TopologicalSorter(graph).prepare()


def test_tvm_has_one_door():
    assert {PACKAGE.room(module) for module in importers("tvm", "tvm_ffi")} == set(KNOW_TVM)


def test_torch_is_known_where_supernets_are():
    assert {PACKAGE.room(module) for module in importers("torch")} == set(KNOW_TORCH)


def test_nothing_imports_a_command():
    commands = {f"ofa_tvm.{module_of(verb)}" for verb in VERBS}
    assert {module for module in PACKAGE.trees if (PACKAGE.imports(module) - {module}) & commands} == set()


def test_the_architecture_page_describes_every_room():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    described = set(re.findall(r"`([a-z_/]+)/`", page))
    assert {room.replace(".", "/") for room in ROOMS} <= described


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_load_neither_torch_nor_tvm(name):
    code = f"import sys, ofa_tvm.{name}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "tvm", "tvm_ffi"} & set(done.stdout.split())
