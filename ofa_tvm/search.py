"""``python -m ofa_tvm.search``: the most accurate subnets for latency budgets, measured on the device."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.support.command import (
    GOES_ON,
    SUPERNET,
    ArchOption,
    BatchOption,
    DeviceOption,
    HostThreadsOption,
    JsonFlag,
    LogsOption,
    emit_partly,
    run_command,
)
from ofa_tvm.support.dtype import AnyDType


def search(
    target: Annotated[
        list[str] | None,
        typer.Option(help="Target: a name in targets/, a .toml file, NAME@DEVICE; repeat for several (default: x86)."),
    ] = None,
    supernet: Annotated[
        Path | None, typer.Option(help=f"{SUPERNET} (default: mbv3-cifar); or OFA's accuracy predictor (.npz).")
    ] = None,
    max_latency_ms: Annotated[
        list[float] | None, typer.Option(help="Latency budget; repeat for several (default: the whole front).")
    ] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Most megabytes of weights.")] = None,
    max_mmacs: Annotated[float | None, typer.Option(help="Most millions of multiply-accumulates.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="Most megabytes of maps alive at once.")] = None,
    max_energy_mj: Annotated[float | None, typer.Option(help="Most millijoules of one call (GPUs: metered).")] = None,
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
    dtype: Annotated[AnyDType | None, typer.Option(help="As for tune; auto: the best of each.")] = None,
    samples: Annotated[int, typer.Option(min=20, help="Measured subnets that the latency model starts from.")] = 60,
    searcher: Annotated[str, typer.Option(help="nsga2, random or exhaustive.")] = "nsga2",
    evaluations: Annotated[int, typer.Option(min=100, help="Candidates that one search predicts.")] = 20_000,
    finalists: Annotated[int, typer.Option(min=1, help="Subnets that a round measures and evaluates.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    export_pack: Annotated[
        Path | None, typer.Option(help="Build the finalists to be measured into this folder, for a device elsewhere.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the result (default: runs/search-TIME).")] = None,
    logs: LogsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    json: JsonFlag = False,
) -> None:
    """Find the most accurate subnet for each budget, or the whole front, and verify it on the device.

    Predictions choose; measurements of today decide: what is told is the median of windows of single calls, and a
    budget is held where the slowest window holds it. With several targets, each one's picks are tried on the others
    too. The exit code is 3 where only some budgets can be met, or the machine is too busy to say, and 4 where none can.
    """
    from datetime import UTC, datetime

    from ofa_tvm.nas.expected import with_accuracies
    from ofa_tvm.nas.opened_accuracy import Evaluation
    from ofa_tvm.nas.request import SearchRequest
    from ofa_tvm.nas.session import expected
    from ofa_tvm.nas.session import search as run_search
    from ofa_tvm.nas.settings import SearchSettings
    from ofa_tvm.reporting.search_text import expected_text, left_out, text_of, unmet
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.shipped import shipped_supernet
    from ofa_tvm.timing.window import percentile_of
    from ofa_tvm.tuner.tuned_space import Target

    names = list(dict.fromkeys(target or ["x86"]))
    device = device or ("pack" if export_pack and len(names) == 1 and "@" not in names[0] else None)
    if len(names) > 1 and (device is not None or dtype == "auto"):
        raise UserError("--device and --dtype auto are for one target", "name each one's device: --target NAME@DEVICE")
    kinds = Target.named(names[0], threads, batch, device).types if dtype == "auto" else (dtype,)
    limits = {"size": max_size_mb, "macs": max_mmacs, "memory": max_memory_mb, "energy": max_energy_mj}
    settings = SearchSettings(
        searcher=searcher,
        evaluations=evaluations,
        finalists=finalists,
        seed=seed,
        objectives=tuple(dict.fromkeys(objective or ())),
        limits={name: limit for name, limit in limits.items() if limit is not None},
        percentile=percentile_of(percentile),
        busy_cores=load,
    )
    request = SearchRequest(
        supernet or shipped_supernet(),
        [Target.named(name, threads, batch, device, kind, logs) for name in names for kind in kinds],
        out or Path("runs") / f"search-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        sorted(max_latency_ms or []),
        settings,
        resolution or (),
        arch or (),
        Evaluation(data, host_threads, accuracies or ()),
        samples,
        export_pack is not None,
        merges=len(kinds) > 1,
    )
    if dry_run:
        plans, refused = expected(request)
        plans = with_accuracies(plans, request.supernet, request.evaluation)
        plan_record = {"expected": [plan.record() for plan in plans]}
        emit_partly(plan_record, json, lambda: "\n".join(map(expected_text, plans)), left_out(refused))
        return
    outcome = run_search(request)
    record = outcome.record({} if export_pack is None else outcome.export(export_pack))
    emit_partly(record, json, lambda: text_of(outcome, export_pack), unmet(outcome, export_pack))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(search, argv, saved=GOES_ON)


if __name__ == "__main__":
    sys.exit(main())
