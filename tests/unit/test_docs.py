"""The pages: every command that they show is one, every option stands in the reference, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import typer
from write_cli_docs import PAGE, page

from ofa_tvm.__main__ import VERBS, module_of
from ofa_tvm.support.command import app_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"])
OURS = re.compile(r"(?:\S*python|\$PY) -m ofa_tvm\.([a-z_]+)|ofa-tvm ([a-z-]+)")
EVERY = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def shell_lines(path: Path) -> list[str]:
    """Lines of the page's shell blocks, and commands of ours in its text, without their comments."""
    text = path.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    spoken = [said for said in re.findall(r"`([^`\n]+)`", prose) if OURS.match(said)]
    return [re.split(r"\s{2,}#|^#", line)[0].strip() for line in [*lines, *spoken]]


@cache
def parser(verb: str) -> Callable[[list[str]], object]:
    """What parses a command's arguments and runs nothing."""
    module = import_module(f"ofa_tvm.{module_of(verb)}")
    commands: list[Callable[..., None]] = []

    def keep(function: Callable[..., None], *rest: object, **saved: object) -> int:
        commands.append(function)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_command", keep)
        module.main([])
    command = typer.main.get_command(app_of(commands[0]))
    return lambda arguments: command.make_context(verb, arguments)


def shown(path: Path) -> list[tuple[str, list[str]]]:
    """(verb, arguments) of each command of ours that a page shows."""
    found = []
    for line in shell_lines(path):
        for part in re.split(r"&&|;|\|", line):
            match = OURS.search(part)
            if match and (match[2] is None or match[2] in VERBS):
                verb = next(name for name in VERBS if name == match[2] or module_of(name) == match[1])
                found.append((verb, shlex.split(part[match.end() :].partition(" #")[0])))
    return found


@EVERY
def test_every_command_parses(path):
    for verb, arguments in shown(path):
        if arguments != ["--help"]:
            parser(verb)(arguments)


def test_commands_are_found_on_the_pages_and_wrong_ones_refused():
    assert len([command for path in PAGES for command in shown(path)]) > 30
    assert {verb for path in PAGES for verb, _ in shown(path)} >= {"train", "tune", "search", "deploy", "doctor"}
    with pytest.raises(Exception, match="No such option: --no-such-option"):
        parser("tune")(["--no-such-option"])


@EVERY
def test_every_target_of_make_is_one(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    said = {word for line in shell_lines(path) for word in re.findall(r"\bmake ([a-z][a-z-]*)", line)}
    said |= set(re.findall(r"`(?:sudo )?make ([a-z][a-z-]*)", path.read_text()))
    assert said <= targets


def test_the_reference_is_that_of_the_commands():
    assert PAGE.read_text() == page(), "write it anew: make docs"


def test_every_command_stands_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert all(f"| `{verb}` |" in text for verb in VERBS)


def anchors(path: Path) -> set[str]:
    """Names of a page's headings, as they are linked to."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@EVERY
def test_every_link_leads_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@EVERY
def test_every_file_that_is_named_is_there(path):
    """Python, C and TOML files in backticks, by their path or, of the package, by their name."""
    if path.name == "CHANGELOG.md":
        return
    names = {file.name for folder in ("ofa_tvm", "runtime", "tests", "tools") for file in (ROOT / folder).rglob("*.*")}
    for said in re.findall(r"`([\w/.-]+\.(?:py|cc|c|h|toml))`", path.read_text()):
        assert any((root / said).exists() for root in (ROOT, ROOT / "ofa_tvm", path.parent)) or said in names, said
