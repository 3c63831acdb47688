"""The structure of the package: ``python benchmarks/structure.py [FOLDER]``, of any checkout's package folder.

A place is a room (a folder with modules) or a file at the top. An arrow leads from a place to another one that it
imports, at the top of a file or inside a function; a module that a string names counts as imported.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SHOWN = 8
MAX_PARAMETERS = 7
IMPORTERS = ("import_module", "__import__")


@dataclass(frozen=True)
class Package:
    """Modules of a package by name, parsed."""

    name: str
    trees: dict[str, ast.Module]
    folders: frozenset[str]

    @classmethod
    def read(cls, folder: Path) -> Package:
        """Parse all modules below a folder."""
        trees, folders = {}, set()
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            is_folder = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_folder else parts)
            trees[name] = ast.parse(path.read_text())
            if is_folder:
                folders.add(name)
        return cls(folder.name, trees, frozenset(folders))

    def room(self, module: str) -> str:
        """The room of a module, e.g. ``compiler.cpu``; empty for the top level."""
        place = module if module in self.folders else module.rpartition(".")[0]
        return place.removeprefix(self.name).removeprefix(".")

    def imports(self, module: str, *, everywhere: bool = True) -> set[str]:
        """What a module imports: own modules, and each part of a library's name.

        Args:
            module: its name.
            everywhere: in functions, for the type checker and by name, too; otherwise only what importing it loads.
        """
        tree = self.trees[module]
        names: set[str] = set()
        for node in ast.walk(tree) if everywhere else _at_import(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    raise ValueError(f"{module}: relative import of {node.module}")
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= inner & self.trees.keys()
                if not inner <= self.trees.keys():
                    names.add(node.module or "")
            elif everywhere and isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= {node.value} & self.trees.keys() - {self.name}
            elif everywhere and isinstance(node, ast.Call) and _imports_by_name(node):
                names |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
        libraries = {part for name in names - self.trees.keys() for part in name.split(".")}
        return names & self.trees.keys() | libraries

    def place(self, module: str) -> str:
        """The room of a module; at the top, where files lie beside each other, the file itself."""
        return self.room(module) or module.removeprefix(f"{self.name}.")

    def imports_by_name(self, module: str) -> bool:
        """Whether a module calls what imports a module that a string names."""
        return any(isinstance(node, ast.Call) and _imports_by_name(node) for node in ast.walk(self.trees[module]))

    def arrows(self) -> dict[tuple[str, str], list[str]]:
        """(place, place that it imports) with what imports what."""
        found: dict[tuple[str, str], list[str]] = {}
        for module in self.trees:
            for other in self.imports(module) & self.trees.keys():
                ends = (self.place(module), self.place(other))
                if ends[0] != ends[1]:
                    found.setdefault(ends, []).append(f"{module} -> {other}")
        return found

    def top_level(self) -> list[str]:
        """Files that lie at the top."""
        tops = (module.removeprefix(f"{self.name}.") for module in self.trees.keys() - self.folders)
        return sorted(name for name in tops if "." not in name and name != "__main__")


def _imports_by_name(call: ast.Call) -> bool:
    return ast.unparse(call.func).endswith(IMPORTERS)


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not inside functions, not for the type checker only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _at_import(node)


def levels(package: Package) -> str:
    """How many places stand above each other, or which ones stand in a circle."""
    below: dict[str, set[str]] = {}
    for place, other in package.arrows():
        below.setdefault(place, set()).add(other)
    height: dict[str, int] = {}
    try:
        for place in TopologicalSorter(below).static_order():
            height[place] = 1 + max((height[other] for other in below.get(place, ())), default=0)
    except CycleError as error:
        return f"a circle: {' -> '.join(error.args[1])}"
    return str(max(height.values(), default=0))


def functions(package: Package) -> list[tuple[int, int, str]]:
    """Lines, parameters and name of every function."""
    rows = []
    for module, tree in package.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                rows.append((lines, sum(one.arg not in ("self", "cls") for one in given), f"{module}:{node.name}"))
    return rows


VAGUE = ("found", "one", "made", "given", "known", "own", "beside")
"""Names that say nothing of what a variable holds."""


def type_words(package: Package) -> Counter[str]:
    """How often ``Any``, ``dict[str, Any]`` and ``Record`` stand in the code: the last is a JSON object."""
    counted: Counter[str] = Counter()
    for tree in package.trees.values():
        for node in ast.walk(tree):
            for name in ("Any", "Record"):
                counted[name] += isinstance(node, ast.Name) and node.id == name
            counted["dict[str, Any]"] += isinstance(node, ast.Subscript) and ast.unparse(node) == "dict[str, Any]"
    return counted


def vague_names(package: Package) -> Counter[str]:
    """How often a variable or an argument gets a name of ``VAGUE``."""
    nodes = [node for tree in package.trees.values() for node in ast.walk(tree)]
    variables = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    arguments = [node.arg for node in nodes if isinstance(node, ast.arg)]
    return Counter(name for name in (*variables, *arguments) if name in VAGUE)


def main() -> None:
    """Print the figures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "ofa_tvm"
    package = Package.read(folder.resolve())
    rooms = {package.room(module) for module in package.trees} - {""}
    tops = package.top_level()
    print(f"modules  {len(package.trees)}")
    print(f"places   {len(rooms) + len(tops)}: {len(rooms)} rooms, {len(tops)} files at the top")
    print(f"arrows   {len(package.arrows())}")
    print(f"levels   {levels(package)}")
    rows = functions(package)
    print("longest functions")
    for lines, parameters, name in sorted(rows, reverse=True)[:SHOWN]:
        print(f"  {lines:4} lines, {parameters:2} parameters  {name}")
    print("most parameters")
    for lines, parameters, name in sorted(rows, key=lambda row: row[1], reverse=True)[:SHOWN]:
        print(f"  {parameters:2} parameters, {lines:3} lines  {name}")
    commands = {f"{package.name}.{name}" for name in tops}
    inside = [row for row in rows if row[2].partition(":")[0] not in commands]
    many = sum(row[1] > MAX_PARAMETERS for row in inside)
    print(f"outside the commands: longest {max(inside)[0]} lines, {many} have over {MAX_PARAMETERS} parameters")
    lengths = {name: len((folder / f"{name}.py").read_text().splitlines()) for name in tops}
    longest = max(lengths, key=lambda name: lengths[name])
    print(f"longest command: {longest}, {lengths[longest]} lines")
    print(f"types: {dict(type_words(package))}")
    print(f"vague names: {dict(vague_names(package))}")


if __name__ == "__main__":
    main()
