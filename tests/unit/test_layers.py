"""The architecture: imports go one way, and only a few places know torch or TVM."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ofa_tvm

ROOT = Path(ofa_tvm.__file__).parent
VERBS = ("train", "tune", "compile", "search", "deploy", "bench", "predict", "report", "doctor", "onboard", "pack_data")
COMMANDS = {f"ofa_tvm.{verb}" for verb in VERBS}
LIGHT = (
    "spaces",
    "graph.network",
    "graph.kernel",
    "searchers",
    "cost_model",
    "support.files",
    "data",
    "hardware.machine",
    "hardware.target",
    "support.command",
)
TVM = {"tvm", "tvm_ffi"}
MAY_IMPORT_TVM = ("ofa_tvm.compiler", "ofa_tvm.tuner", "ofa_tvm.devices")
MAY_IMPORT_TORCH = ("ofa_tvm.supernet", "ofa_tvm.supernet.evaluate", "ofa_tvm.data.augment", *sorted(COMMANDS))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Modules that import statements name; ``from package import name`` is the submodule if there is one."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & TREES.keys()
            if not inner <= TREES.keys():
                names.add(node.module or "")
    return names


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not inside functions, not for the type checker only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_import(node)


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def importers(libraries: set[str]) -> set[str]:
    """Modules that import a library anywhere, in functions too."""
    return {
        module
        for module, tree in TREES.items()
        if libraries & {name.partition(".")[0] for name in imported(ast.walk(tree))}
    }


def test_no_import_cycles():
    graph = {module: imported(at_import(tree)) & TREES.keys() for module, tree in TREES.items()}
    TopologicalSorter(graph).prepare()


def test_only_the_compiler_side_imports_tvm():
    strangers = {module for module in importers(TVM) if not within(module, MAY_IMPORT_TVM)}
    assert not strangers


def test_only_the_supernet_side_imports_torch():
    strangers = {module for module in importers({"torch"}) if not within(module, MAY_IMPORT_TORCH)}
    assert not strangers


def test_nothing_imports_a_command_but_the_entry_point():
    for module, tree in TREES.items():
        if module != "ofa_tvm.__main__":
            assert not imported(ast.walk(tree)) & (COMMANDS - {module}), module


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_load_neither_torch_nor_tvm(name):
    code = f"import sys, ofa_tvm.{name}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert not {"torch", *TVM} & set(done.stdout.split())
