"""``python -m ofa_tvm.tune``: tune the closed kernel set of a space for a target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ofa_tvm.cli import JsonFlag, emit, run_command, table

SECONDS_PER_TRIAL = 0.35


def tune(
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    space: Annotated[str, typer.Option(help="Search space.")] = "mbv3-cifar",
    resolution: Annotated[
        list[int] | None, typer.Option(help="Input size; repeat for several (default: all of the space).")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    trials: Annotated[int | None, typer.Option(min=0, help="Most trials of this run.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Most minutes of this run.")] = None,
    trials_per_kernel: Annotated[int | None, typer.Option(min=1, help="Most trials of one kernel, ever.")] = None,
    evolution: Annotated[bool, typer.Option(help="Go on with evolved schedules when templates are used up.")] = True,
    templates: Annotated[bool, typer.Option(help="Try constructed register tiles.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the evolution.")] = 0,
    logs: Annotated[Path | None, typer.Option(help="Folder of tuning logs (default: tuning_logs/).")] = None,
    coverage: Annotated[bool, typer.Option("--coverage", help="Only say what is tuned.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Only keep the best record of each kernel.")] = False,
    json: JsonFlag = False,
) -> None:
    """Tune the kernels of a search space; every subnet of it is then built without further trials.

    Resumes from the tuning log and measures nothing twice. Without a budget it stops when nothing promises a gain.
    """
    from ofa_tvm.devices.local import LocalDevice
    from ofa_tvm.kernels import space_kernels
    from ofa_tvm.spaces import get_space
    from ofa_tvm.targets import load_target
    from ofa_tvm.tuner.log import TuningLog
    from ofa_tvm.tuner.loop import Budget, kernel_frequencies

    search_space = get_space(space)
    spec = load_target(target, threads)
    resolutions = search_space.choose_resolutions(resolution)
    log = TuningLog(spec, logs)
    kernels = space_kernels(search_space, resolutions, spec.batch)
    per_kernel = trials_per_kernel or spec.tuning.trials_per_kernel
    summary: dict[str, Any] = {
        "target": spec.name,
        "fingerprint": spec.fingerprint,
        "folder": str(log.folder),
        "space": space,
        "resolutions": list(resolutions),
        "kernels": len(kernels),
    }
    if coverage or dry_run:
        frequencies = kernel_frequencies(search_space, resolutions, spec.batch)
        budget = Budget(trials, None if minutes is None else minutes * 60, per_kernel)
        _tell_plan(summary, log, kernels, frequencies, budget, json)
        return
    if prune:
        with log.exclusive():
            log.prune()
        emit(summary, json, lambda: f"pruned {log.folder}")
        return
    with log.exclusive(), LocalDevice(spec) as device:
        budget = Budget(trials, None if minutes is None else minutes * 60, per_kernel)
        _run(summary, search_space, spec, log, device, kernels, budget, (templates, evolution, seed), json)


def _run(
    summary: dict[str, Any],
    space: Any,
    spec: Any,
    log: Any,
    device: Any,
    kernels: Any,
    budget: Any,
    candidates: tuple[bool, bool, int],
    json: bool,
) -> None:
    from ofa_tvm.energy import Ledger
    from ofa_tvm.errors import PartialResult
    from ofa_tvm.tuner.loop import Tuner, kernel_frequencies
    from ofa_tvm.tuner.sources import Sources

    templates, evolution, seed = candidates
    frequencies = kernel_frequencies(space, tuple(summary["resolutions"]), spec.batch)
    sources = Sources(
        spec.attributes, log.donors(), log.tried, spec.tuning.batch, seed, evolution=evolution, templates=templates
    )
    device.start()
    ledger = Ledger(log.folder / "ledger.jsonl")
    with ledger.phase(f"tune {space.name}") as meter:
        done = Tuner(kernels, frequencies, log, device, sources, spec.tuning.batch).run(budget)
        cost = meter.read(f"tune {space.name}")
    coverage = _coverage(log, kernels, frequencies)
    if done.trials and done.failures == done.trials:
        reasons = "no trial of this run succeeded"
        raise PartialResult(reasons, f"see the errors in {log.folder / 'trials.jsonl'}")
    payload = {
        **summary,
        "trials": done.trials,
        "failed_trials": done.failures,
        "seconds": done.seconds,
        "trials_per_second": done.trials / done.seconds if done.seconds else 0.0,
        "stopped_by": done.stopped_by,
        **coverage,
        "cost": cost.record(),
    }

    def text() -> str:
        rows = _costly_rows(log, kernels, frequencies)
        headers = ["kernel", "us", "GFLOP/s", "calls a subnet", "share", "trials", "by"]
        lines = [
            table(headers, rows),
            f"{done.trials} trials in {done.seconds:.0f} s ({payload['trials_per_second']:.1f} a second), "
            f"{done.failures} failed; stopped by: {done.stopped_by}",
            f"{coverage['tuned']} of {len(kernels)} kernels tuned; a mean subnet's kernels take "
            f"{coverage['mean_subnet_ms']:.3f} ms",
            str(cost),
            f"log: {log.folder}",
        ]
        return "\n".join(lines)

    emit(payload, json, text)


def _coverage(log: Any, kernels: Any, frequencies: dict[str, float]) -> dict[str, Any]:
    """Kernels with and without a record, and the summed time of a mean subnet's tuned kernels."""
    tuned = [key for key in kernels if key in log.kernels and log.kernels[key].best_ms is not None]
    mean_ms = sum(frequencies[key] * log.kernels[key].best_ms for key in tuned)
    return {"tuned": len(tuned), "fallback": len(kernels) - len(tuned), "mean_subnet_ms": mean_ms}


def _costly_rows(log: Any, kernels: Any, frequencies: dict[str, float], count: int = 12) -> list[list[str]]:
    times = {key: log.kernels[key].best_ms for key in kernels if key in log.kernels and log.kernels[key].best_ms}
    costs = {key: frequencies[key] * ms for key, ms in times.items()}
    whole = sum(costs.values()) or 1.0
    rows = []
    for key in sorted(costs, key=lambda key: -costs[key])[:count]:
        state = log.kernels[key]
        rows.append(
            [
                key,
                f"{times[key] * 1e3:.1f}",
                f"{kernels[key].flops / times[key] / 1e6:.0f}",
                f"{frequencies[key]:.2f}",
                f"{costs[key] / whole:.1%}",
                str(state.trials),
                state.source,
            ]
        )
    return rows


def _tell_plan(
    summary: dict[str, Any], log: Any, kernels: Any, frequencies: dict[str, float], budget: Any, json: bool
) -> None:
    from ofa_tvm.energy import estimated

    coverage = _coverage(log, kernels, frequencies)
    left = sum(
        max(0, budget.trials_per_kernel - (log.kernels[key].trials if key in log.kernels else 0)) for key in kernels
    )
    trials = left if budget.trials is None else min(left, budget.trials)
    seconds = min(trials * SECONDS_PER_TRIAL, budget.seconds or float("inf"))
    cost = estimated("tune", seconds, seconds)
    payload = {**summary, **coverage, "planned_trials": trials, "planned_seconds": seconds, "planned": cost.record()}

    def text() -> str:
        return "\n".join(
            [
                f"{summary['space']} on {summary['target']} ({summary['fingerprint']}): {len(kernels)} kernels, "
                f"{coverage['tuned']} tuned, {coverage['fallback']} would run their default schedule",
                f"at most {trials} trials, about {seconds / 3600:.2f} h",
                str(cost),
                f"log: {log.folder}",
            ]
        )

    emit(payload, json, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(tune, argv)


if __name__ == "__main__":
    sys.exit(main())
