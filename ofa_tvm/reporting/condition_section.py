"""Under which conditions it was measured, and the commands that reproduce it and go on from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ofa_tvm.nas.result import SearchResult
from ofa_tvm.reporting import units
from ofa_tvm.reporting.offers import Offer, Series, quoted
from ofa_tvm.reporting.parts import Commands, Fact, Facts, Fold, Note, Part, Section
from ofa_tvm.reporting.source import Bundled, Searched
from ofa_tvm.support import amounts
from ofa_tvm.support.files import Record
from ofa_tvm.support.shipped import known_as

LABELS = {
    "cpu": "CPU",
    "gpu": "GPU",
    "tvm": "TVM",
    "dtype": "precision",
    "device": "measured",
    "mcpu": "compiled for",
    "num cores": "cores",
    "kind": "compiler",
    "mtriple": "system",
    "mattr": "features",
    "batch": "images of a call",
}

NOTES = {
    "kernel set": "version of the kernels' code; logs of another version do not serve",
    "layout": "order of a map's numbers in memory: image, row, column, channel",
}


def condition_section(
    searches: Sequence[tuple[Series, Searched]], bundles: Sequence[Bundled], offers: Sequence[Offer]
) -> Section:
    """The section."""
    parts: list[Part | Fold] = []
    for series, searched in searches:
        label = f"{series.label}: conditions" if len(searches) > 1 else "Conditions of the measurements"
        parts.append(Fold(label, (Facts(tuple(_of_search(searched.result))),), is_open=True))
    if not searches:
        parts += [Facts(tuple(_of_bundle(bundled))) for bundled in bundles]
    commands = [*_search_commands(searches), *_offer_commands(offers)]
    if any(not searched.result.command for _, searched in searches):
        parts.append(Note("An older version searched; it did not keep its command line, so options may be missing."))
    return Section(
        "conditions", "Conditions and commands", "Conditions", (*parts, Commands(tuple(dict.fromkeys(commands))))
    )


def _of_search(result: SearchResult) -> Iterator[Fact]:
    yield Fact("date", searched_at(result) or "not in results of older versions")
    yield Fact("ofa_tvm", result.ofa_tvm or "an older version")
    sha256 = f"SHA-256 {result.supernet_sha256}" if result.supernet_sha256 else ""
    yield Fact("supernet", quoted(known_as(result.supernet)), sha256)
    yield Fact("fingerprint", ", ".join(result.fingerprints.values()) or result.fingerprint)
    yield Fact("latency", f"p{result.percentile} of single calls", _load(result.busy_cores))
    hosts = sorted({pick.timing.host for pick in result.timed if pick.timing is not None and pick.timing.host})
    if hosts:
        yield Fact("host", ", ".join(hosts), "after ';' a hash of this machine and its last boot")
    yield from condition_facts(result.conditions)


def searched_at(result: SearchResult) -> str:
    """When the search ended, or its last measurement; empty where unknown."""
    times = [pick.timing.measured_at for pick in result.timed if pick.timing is not None]
    at = result.created_at or max(times, default="")
    return at.replace("T", " ").replace("+00:00", " UTC")


def _load(busy_cores: int) -> str:
    return f"while {units.plural(busy_cores, 'other core')} were kept busy" if busy_cores else ""


def condition_facts(conditions: Record, prefix: str = "") -> Iterator[Fact]:
    """Conditions in words; those inside of others carry their name."""
    for name, value in conditions.items():
        label = " ".join(filter(None, [prefix, LABELS.get(units.words(name), units.words(name))]))
        if isinstance(value, dict):
            yield from condition_facts(value, label)
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield Fact(label, text, NOTES.get(label, ""))


def _of_bundle(bundled: Bundled) -> Iterator[Fact]:
    manifest = bundled.manifest
    yield Fact("date", manifest.created_at.replace("T", " ").replace("+00:00", " UTC"))
    yield Fact("ofa_tvm", manifest.ofa_tvm)
    yield Fact("supernet", manifest.supernet.file, f"SHA-256 {manifest.supernet.sha256}")
    yield Fact("data", manifest.accuracy.data, manifest.accuracy.how)
    yield Fact("fingerprint", manifest.target.fingerprint)
    tuned, default = manifest.target.tuned_kernels, manifest.target.default_kernels
    yield Fact("kernels", f"{tuned} tuned, {default} by default schedule")
    yield Fact("needs", f"glibc {manifest.glibc} or newer" if manifest.glibc else "an unknown version of glibc")
    for name, file in manifest.files.items():
        yield Fact(name, amounts.size(file.bytes), f"SHA-256 {file.sha256}")
    yield from condition_facts(manifest.latency.conditions)
    for name, version in manifest.versions.items():
        yield Fact(f"version of {units.words(name)}", version)


def _search_commands(searches: Sequence[tuple[Series, Searched]]) -> Iterator[tuple[str, str]]:
    for _, searched in searches:
        yield "Search again", _from_home(searched.result.command) or _told_command(searched.result)


def _told_command(result: SearchResult) -> str:
    """The search's command line as far as an older result tells it."""
    words = ["--target", result.target_source or result.target]
    words += ["--threads", str(result.threads)]
    words += [] if result.batch is None else ["--batch", str(result.batch)]
    words += ["--dtype", result.dtype or ("auto" if result.fingerprints else "float32")]
    for budget in result.budgets_ms:
        words += ["--max-latency-ms", f"{budget:g}"]
    return f"python -m ofa_tvm.search --supernet {quoted(known_as(result.supernet))} {shlex.join(words)}"


def _from_home(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # somebody edited it
        return command
    return " ".join(quoted(Path(word)) if word.startswith("/") else shlex.quote(word) for word in words)


def _offer_commands(offers: Sequence[Offer]) -> Iterator[tuple[str, str]]:
    labels = {offer.series.label for offer in offers}
    for offer in offers:
        on = f" ({offer.series.label})" if len(labels) > 1 else ""
        verb = "Run" if offer.number is None else "Deploy"
        yield f"{verb} {offer.name.lower()}{on}", offer.next_command
        if offer.number is None:
            yield "Time it", f"{offer.next_command.rpartition(' ')[0]} --benchmark"
