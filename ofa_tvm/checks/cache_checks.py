"""What lies in the cache: what can be made again, what is damaged, what killed processes left, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ofa_tvm.checks.machine_checks import Check
from ofa_tvm.support.files import cache_folder
from ofa_tvm.support.made_again import MB, VARIABLE, CacheFacts, compiled_folder

CLEAR = "python -m ofa_tvm.doctor --clear-cache"
NAMED = 3
"""Files that are named; of more, the number."""


def cache_checks(facts: CacheFacts) -> Iterator[Check]:
    """What a look at the cache found, see ``support.made_again``."""
    size = f"{facts.files} files, {_mb(facts.size_bytes)} of at most {_mb(facts.most_bytes)} ({VARIABLE})"
    yield Check("compiled code", "ok", f"{size}, in {compiled_folder()}")
    if facts.damaged:
        fix = f"nothing to do: each is made again when it is needed; or remove everything compiled: {CLEAR}"
        yield Check("damaged", "warn", _named(facts.damaged), fix)
    else:
        yield Check("damaged", "ok", "none")
    if facts.leftovers:
        fix = f"nothing to do: they go when something is compiled again; or at once: {CLEAR}"
        yield Check("left by kills", "warn", _named(facts.leftovers), fix)
    else:
        yield Check("left by kills", "ok", "nothing")
    yield Check("what else is kept", "ok", _others() or "nothing")


def _named(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{len(paths)}: " + ", ".join(map(str, paths[:NAMED])) + more


def _others() -> str:
    """What else is there: data sets, measured accuracies, the emulator, what older versions compiled."""
    root = cache_folder()
    found = sorted(set(root.glob("[!.]*")) - {compiled_folder()})
    return ", ".join(f"{path.name} {_mb(_size(path))}" for path in found)


def _size(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() else (path,)
    return sum(each.lstat().st_size for each in inside if each.is_file() and not each.is_symlink())


def _mb(size: int) -> str:
    return f"{size / MB:,.0f} MB" if size >= MB else f"{size / 1024:,.0f} kB"
