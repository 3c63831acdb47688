"""What a report is made from: one search, the searches of several targets, or a bundle; and benchmarks beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ofa_tvm.bundle.folder import MANIFEST, load_manifest
from ofa_tvm.bundle.manifest import Manifest
from ofa_tvm.nas.regret import Regret
from ofa_tvm.nas.result import FILE_NAME, SearchResult, load_search_result
from ofa_tvm.reporting.bench_file import Bench, RunnerBenchmark, read_bench
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import read_json

REGRET = "regret.json"
_REGRET = TypeAdapter(tuple[Regret, ...])


@dataclass(frozen=True)
class Searched:
    """A search and its folder; ``precisions`` are the results of each precision, where it was in several."""

    folder: Path
    result: SearchResult
    precisions: tuple[SearchResult, ...] = ()


@dataclass(frozen=True)
class Bundled:
    """A bundle and its folder."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Source:
    """What is reported.

    Args:
        folder: that was named.
        searches: one for each target; none where the report is of a bundle.
        regret: of each target's picks on each target.
        bundles: the bundle that is reported, or those that were made of the picks.
        benches: comparisons of engines.
        runs: what bundles' own programs measured.
    """

    folder: Path
    searches: tuple[Searched, ...] = ()
    regret: tuple[Regret, ...] = ()
    bundles: tuple[Bundled, ...] = ()
    benches: tuple[Bench, ...] = ()
    runs: tuple[RunnerBenchmark, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Of searches and bundles."""
        return (*(one.folder for one in self.searches), *(one.folder for one in self.bundles))


def read_source(folder: Path, bundles: Sequence[Path] = (), benches: Sequence[Path] = ()) -> Source:
    """Read what a report is made from.

    Args:
        folder: of a search, of a search over several targets, or a bundle.
        bundles: made of the picks.
        benches: files of benchmarks.

    Raises:
        UserError: something is missing or damaged; names the file and the key.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}", "give the folder that search or deploy wrote: report --from FOLDER")
    found = [read_bench(path) for path in benches]
    is_bundle = not (folder / FILE_NAME).exists() and (folder / MANIFEST).exists()
    searches = () if is_bundle else _searches(folder)
    made = [Bundled(path, load_manifest(path)) for path in ([folder, *bundles] if is_bundle else bundles)]
    subnets = {pick.subnet for searched in searches for pick in searched.result.picks}
    for bundled in made if searches else ():
        if bundled.manifest.subnet not in subnets:
            raise UserError(
                f"{bundled.folder} is a bundle of {bundled.manifest.subnet}, which is no pick of {folder}",
                f"leave out --bundle, or report on it alone: report --from {bundled.folder}",
            )
    spaces = {searched.result.space for searched in searches} | {bundled.manifest.space for bundled in made}
    for path, bench in zip(benches, found, strict=True):
        if isinstance(bench, Bench) and bench.space not in spaces:
            raise UserError(
                f"{path} compares subnets of {bench.space}, not of {', '.join(sorted(spaces))}", "leave it out"
            )
    return Source(
        folder,
        searches,
        () if is_bundle else _regret(folder / REGRET),
        tuple(made),
        tuple(bench for bench in found if isinstance(bench, Bench)),
        tuple(bench for bench in found if isinstance(bench, RunnerBenchmark)),
    )


def _searches(folder: Path) -> tuple[Searched, ...]:
    inside = sorted(path.parent for path in folder.glob(f"*/{FILE_NAME}"))
    folders = [folder] if (folder / FILE_NAME).exists() or not inside else inside
    return tuple(_searched(one) for one in folders)


def _searched(folder: Path) -> Searched:
    result = load_search_result(folder)
    parts = [folder / dtype for dtype in result.fingerprints if (folder / dtype / FILE_NAME).exists()]
    return Searched(folder, result, tuple(map(load_search_result, parts)))


def _regret(path: Path) -> tuple[Regret, ...]:
    if not path.exists():
        return ()
    record = read_json(path, "regret")
    try:
        return _REGRET.validate_python(record["regret"])
    except (ValidationError, KeyError, TypeError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "regret"
        raise UserError(f"{path} is damaged: '{where}'", "search again, or remove the file") from error
