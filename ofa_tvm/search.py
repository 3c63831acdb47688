"""``python -m ofa_tvm.search``: the most accurate subnets for latency budgets, measured on the device."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_tvm.support.command import (
    SUPERNET,
    ArchOption,
    BatchOption,
    DeviceOption,
    DTypeOption,
    HostThreadsOption,
    JsonFlag,
    LogsOption,
    emit,
    run_command,
    share,
    table,
)

if TYPE_CHECKING:
    from ofa_tvm.hardware.target import TargetSpec
    from ofa_tvm.nas.target_search import TargetSearch
    from ofa_tvm.support.errors import PartialResult
    from ofa_tvm.timing.window import Percentile

LIMITS = ("size", "macs", "memory", "energy")


def search(
    target: Annotated[
        list[str] | None,
        typer.Option(help="Target: a name in targets/, or a .toml file; repeat for several (default: x86)."),
    ] = None,
    supernet: Annotated[
        Path | None,
        typer.Option(help=f"{SUPERNET} (default: mbv3-cifar); or OFA's accuracy predictor (.npz)."),
    ] = None,
    max_latency_ms: Annotated[
        list[float] | None, typer.Option(help="Latency budget; repeat for several (default: the whole front).")
    ] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Most megabytes of weights.")] = None,
    max_mmacs: Annotated[float | None, typer.Option(help="Most millions of multiply-accumulates.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="Most megabytes of maps alive at once.")] = None,
    max_energy_mj: Annotated[float | None, typer.Option(help="Most millijoules of one call, estimated.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="Minimise this too: size, macs, memory or energy; repeat for several."),
    ] = None,
    resolution: Annotated[list[int] | None, typer.Option(help="Only this input size; repeat for several.")] = None,
    arch: ArchOption = None,
    percentile: Annotated[
        int, typer.Option(help="Latencies and budgets are this percentile of single calls: 50, 90 or 99.")
    ] = 50,
    load: Annotated[
        int,
        typer.Option(
            min=0,
            max=64,
            help="Keep cores busy by so many other processes while measuring: a budget for a busy machine.",
        ),
    ] = 0,
    data: Annotated[
        str | None, typer.Option(help="Where the supernet's images are, as for train (default: fetched once).")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    accuracies: Annotated[
        list[Path] | None, typer.Option(help="accuracy.jsonl of another machine that evaluated the same supernet.")
    ] = None,
    host_threads: HostThreadsOption = None,
    device: DeviceOption = None,
    batch: BatchOption = None,
    dtype: DTypeOption = None,
    samples: Annotated[int, typer.Option(min=20, help="Measured subnets that the latency model starts from.")] = 60,
    searcher: Annotated[str, typer.Option(help="nsga2, random or exhaustive.")] = "nsga2",
    evaluations: Annotated[int, typer.Option(min=100, help="Candidates that one search predicts.")] = 20_000,
    finalists: Annotated[int, typer.Option(min=1, help="Subnets that a round measures and evaluates.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    export_pack: Annotated[
        Path | None,
        typer.Option(help="Build the finalists that are to be measured into this folder, for a device elsewhere."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the result (default: runs/search-TIME).")] = None,
    logs: LogsOption = None,
    json: JsonFlag = False,
) -> None:
    """Find the most accurate subnet for each budget, or the whole front, and verify it on the device.

    Predictions choose; measurements of today decide: what is told is the median of windows of single calls, and a
    budget is held where the slowest window holds it. With several targets, every target's picks are measured on the
    others too. Where only some budgets can be met, or the machine is too busy to say, the result has what there is,
    and the command ends with exit code 3.
    """
    from datetime import UTC, datetime

    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.nas.feasibility import refuse_hopeless
    from ofa_tvm.nas.session import Evaluation, accuracy_of
    from ofa_tvm.nas.settings import SearchSettings
    from ofa_tvm.spaces.architectures import read_architectures
    from ofa_tvm.supernet.facts import checkpoint_path
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.shipped import shipped_supernet
    from ofa_tvm.tuner.log import TuningLog
    from ofa_tvm.tuner.tuned_space import TunedSpace

    budgets = sorted(max_latency_ms or [])
    limits = _given(max_size_mb, max_mmacs, max_memory_mb, max_energy_mj)
    _check(searcher, objective or (), [*(("latency", budget) for budget in budgets), *limits.items()])
    names = list(dict.fromkeys(target or ["x86"]))
    path = supernet or shipped_supernet()
    space, trained, open_accuracy = accuracy_of(path, Evaluation(data, host_threads, accuracies or ()))
    settings = SearchSettings(
        searcher=searcher,
        evaluations=evaluations,
        finalists=finalists,
        seed=seed,
        objectives=tuple(dict.fromkeys(objective or ())),
        limits=limits,
        resolutions=space.choose_resolutions(resolution or trained),
        percentile=_percentile(percentile),
        busy_cores=load,
        start=tuple(config.key for source in arch or () for config in read_architectures(source, space)),
    )
    device = device or ("pack" if export_pack is not None else None)
    if device is not None and len(names) > 1:
        raise UserError(
            "--device and --export-pack are for one target", "search each target alone, or leave it to their files"
        )
    specs = [load_target(name, threads, batch, device, dtype) for name in names]
    asks_more, is_packed = percentile != 50 or load > 0, export_pack is not None
    _check_targets(specs, {*settings.objectives, *limits}, asks_more, is_packed)
    tuned_spaces = [TunedSpace(space, spec, TuningLog(spec, logs)) for spec in specs]
    for tuned in tuned_spaces:
        refuse_hopeless(tuned, settings, budgets)

    from ofa_tvm.devices import open_device
    from ofa_tvm.nas.target_search import TargetSearch, cross_target, write_regret

    folder = out or Path("runs") / f"search-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with ExitStack() as stack:
        searches = []
        for name, tuned in zip(names, tuned_spaces, strict=True):
            stack.enter_context(tuned.log.exclusive())
            opened = None if tuned.target.device == "pack" else stack.enter_context(open_device(tuned.target))
            own = folder if len(names) == 1 else folder / tuned.target.name
            searches.append(TargetSearch(tuned, name, opened, own, settings, device))
        accuracy, sha256, tested = open_accuracy(searches[0])
        for one in searches:
            one.measure(samples)
            one.search(accuracy, budgets)
            one.picks = [tested(pick, number) for number, pick in enumerate(one.picks, 1)]
        matrix = cross_target(searches) if len(searches) > 1 else []
    results = [one.result(checkpoint_path(path), sha256, accuracy, budgets) for one in searches]
    exported = _exported(searches[0], export_pack)
    text = "\n\n".join(_text(one, result, export_pack) for one, result in zip(searches, results, strict=True))
    payload = {**results[0], "exported": exported}
    if matrix:
        written = write_regret(folder, matrix)
        payload = {
            "targets": {one.target.name: result for one, result in zip(searches, results, strict=True)},
            "regret": [entry.record() for entry in matrix],
            "folder": str(folder),
        }
        text = "\n".join([text, "", _regret_text(matrix), f"wrote {written}"])
    _emit(payload, text, _unmet(searches, len(budgets) * len(searches), export_pack), json)


def _given(*limits: float | None) -> dict[str, float]:
    """Those of the limits that are given, by name."""
    return {name: limit for name, limit in zip(LIMITS, limits, strict=True) if limit is not None}


def _exported(search: TargetSearch, folder: Path | None) -> dict[str, Any] | None:
    """Pack what a search wants to have measured; None where there is nothing to pack, or nobody asked."""
    if folder is None or not search.bench.wanted:
        return None
    from ofa_tvm.measurement.pack_rounds import pack_subnets

    return pack_subnets(search.bench.tuned, list(search.bench.wanted.values()), folder)


def _percentile(number: int) -> Percentile:
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.timing.window import PERCENTILES

    for known in PERCENTILES:
        if number == known:
            return known
    raise UserError(f"--percentile {number} is not told", f"choose one of {', '.join(map(str, PERCENTILES))}")


def _check(searcher: str, objectives: Sequence[str], limits: Sequence[tuple[str, float]]) -> None:
    from ofa_tvm.nas.objectives import OBJECTIVES
    from ofa_tvm.nas.searchers import SEARCHERS
    from ofa_tvm.support.errors import UserError

    if searcher not in SEARCHERS:
        raise UserError(f"unknown searcher '{searcher}'", f"choose one of {', '.join(SEARCHERS)}")
    unknown = [name for name in objectives if name not in LIMITS]
    if unknown:
        raise UserError(f"unknown objective '{unknown[0]}'", f"choose from {', '.join(LIMITS)}")
    for name, limit in limits:
        if not 0 < limit < float("inf"):
            raise UserError(f"a limit of {name} must be a positive number of {OBJECTIVES[name].unit}, not {limit:g}")


def _check_targets(specs: Sequence[TargetSpec], costs: set[str], asks_more: bool, is_packed: bool) -> None:
    """Refuse what cannot be searched for.

    That is several targets where one is measured elsewhere, a pack (``is_packed``) where it is not, energy of a GPU,
    and other percentiles or load (``asks_more``) of what this machine does not measure.
    """
    from ofa_tvm.support.errors import UserError

    for spec in specs:
        if spec.device == "pack" and len(specs) > 1:
            raise UserError(f"target {spec.name} is measured elsewhere, by packs", "search each target alone")
        if is_packed and spec.device != "pack":
            raise UserError(f"--device {spec.device} needs no pack", "leave out --device, or --export-pack")
        if spec.target.gpu is not None and "energy" in costs:
            raise UserError(f"energy is estimated for CPUs only, target {spec.name} is a GPU", "leave energy out")
        if asks_more and spec.device != "local":
            raise UserError(
                f"--percentile and --load are for what this machine measures, target {spec.name} is device "
                f"'{spec.device}'",
                "leave them out",
            )


MANY = 0.1
"""Share of a pick's calls left out that is worth a word."""
HEADERS = ["pick", "subnet", "budget ms", "predicted ms", "{} ms", "held", "predicted", "validation", "test"]


def _text(search: TargetSearch, result: dict[str, Any], packed: Path | None) -> str:
    from ofa_tvm.nas.result import FILE_NAME
    from ofa_tvm.support.ledger import Cost, total

    costs = [Cost(**cost) for cost in result["cost"]]
    objectives = sorted(search.picks[0].objectives) if search.picks else []
    rows = [
        [*_row(pick, result["percentile"]), *(f"{pick.objectives[name]:.3f}" for name in objectives)]
        for pick in search.picks
    ]
    lines = [f"{result['space']} on {result['target']}, {result['threads']} threads"]
    lines += [result["accuracy_note"]] if result["accuracy_note"] else []
    if result["provenance"] != "measured":
        lines.append(f"latencies are {result['provenance']}, no measurements")
    elif result["percentile"] != 50 or result["busy_cores"]:
        busy = f" beside {result['busy_cores']} other busy processes" if result["busy_cores"] else ""
        lines.append(f"latencies are the p{result['percentile']} of single calls{busy}")
    headers = [header.format(result["provenance"]) for header in HEADERS]
    lines += [table([*headers, *map(_unit, objectives)], rows), *_disturbances(search, result["percentile"]), ""]
    if result["unmeasured"]:
        lines.append(f"{len(result['unmeasured'])} finalists are not measured, or were disturbed, so not sure yet:")
        lines += [_waiting_hint(search, packed), ""]
    lines += [*map(str, costs), str(total("search", costs))]
    return "\n".join([*lines, f"wrote {Path(result['folder']) / FILE_NAME}"])


def _disturbances(search: TargetSearch, percentile: Percentile) -> list[str]:
    """A line for each pick of whose calls many were left out."""
    return [
        f"pick {pick.number}: other work interrupted {pick.timing.share_left_out:.0%} of the calls, left out here; "
        f"with them it is {pick.timing.any_ms(percentile):.3f} ms"
        for pick in search.picks
        if pick.timing is not None and pick.timing.share_left_out > MANY
    ]


def _waiting_hint(search: TargetSearch, packed: Path | None) -> str:
    """How finalists that wait for a device elsewhere are measured."""
    if search.target.device == "replay":
        return "they are not in the recording; search on the device itself to have them measured"
    space, spec = search.bench.space, search.target
    target = f"--target {search.source} --threads {spec.threads} --batch {spec.batch} --dtype {spec.dtype}"
    nets = f"--space {space.name} --classes {space.classes}"
    if packed is not None:
        tune = f"python -m ofa_tvm.tune {target} {nets} --import-pack {packed}"
        return f"they are in {packed}: run it there as its README.txt says, then '{tune}', and search again"
    pack = f"--export-pack FOLDER --subnets-of {search.folder}"
    return f"python -m ofa_tvm.tune {target} {nets} {pack}; run it there, import it, and search again"


def _unit(name: str) -> str:
    from ofa_tvm.nas.objectives import OBJECTIVES

    return f"{name} {OBJECTIVES[name].unit}"


def _emit(payload: dict[str, Any], text: str, unmet: PartialResult | None, json: bool) -> None:
    """Print the result, with what is missing of it.

    Raises:
        PartialResult: something is.
    """
    if unmet is None:
        emit(payload, json, lambda: text)
        return
    emit(payload | {"error": unmet.record()}, json, lambda: text)
    unmet.is_told = True
    raise unmet


def _unmet(searches: Sequence[TargetSearch], budgets: int, packed: Path | None) -> PartialResult | None:
    """Names each budget that was not met, with the nearest latency measured, and each that nobody can tell of."""
    from ofa_tvm.support.errors import PartialResult

    unmet = [
        f"{budget['budget_ms']:g} ms on {one.target.name}: the nearest is {budget['nearest_ms']:.4g} ms "
        f"({budget['nearest_subnet']}); allow {1.05 * budget['nearest_ms']:.3g} ms"
        for one in searches
        for budget in one.infeasible
    ]
    unsure = [
        f"{pick.budget_ms:g} ms on {one.target.name} ({pick.measured_ms:.4g} ms, {pick.subnet})"
        for one in searches
        for pick in one.picks
        if pick.budget_ms is not None and pick.held is None and pick.timing is not None
    ]
    waiting = [one for one in searches if one.bench.wanted]
    if unmet and waiting:
        what = f"{len(unmet)} of {budgets} budgets are held by no subnet that was measured"
        return PartialResult(f"{what} ({'; '.join(unmet)})", _waiting_hint(waiting[0], packed))
    if unmet:
        return PartialResult(f"{len(unmet)} of {budgets} budgets cannot be met", "; ".join(unmet))
    if unsure:
        again = "stop it and search again; or state a budget for a busy machine: --load 1"
        return PartialResult(
            f"other work disturbed the device too much to say whether a budget is held: {'; '.join(unsure)}",
            _waiting_hint(waiting[0], packed) if waiting else again,
        )
    return None


def _row(pick: Any, percentile: Percentile) -> list[str]:
    budget = "-" if pick.budget_ms is None else f"{pick.budget_ms:g}"
    held = "-" if pick.budget_ms is None else {None: "unsure", True: "yes", False: "no"}[pick.held]
    predicted = f"{pick.predicted_ms:.3f} ({pick.predicted_low_ms:.3f}-{pick.predicted_high_ms:.3f})"
    tops = (pick.predicted_top1, None), (pick.validation_top1, pick.validation_error), (pick.test_top1, pick.test_error)
    accuracy = [share(*top1) for top1 in tops]
    verified = f"{pick.verified_ms:.3f}"
    if pick.timing is not None:
        verified += " ({:.3f}-{:.3f})".format(*pick.timing.spread_ms(percentile))
    return [str(pick.number), pick.subnet, budget, predicted, verified, held, *accuracy]


def _regret_text(matrix: Sequence[Any]) -> str:
    rows = [
        [
            entry.shipped,
            entry.on,
            f"{100 * entry.top1_lost:.2f}",
            f"{entry.slower:+.1%}",
            f"{entry.broken_budgets} of {entry.picks}",
        ]
        for entry in matrix
    ]
    return table(["picks of", "on", "points lost", "slower than need be", "over their budget"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(search, argv)


if __name__ == "__main__":
    sys.exit(main())
