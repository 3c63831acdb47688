"""``python -m ofa_tvm.tune``: tune the closed kernel set of a space for a target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.support.command import (
    GOES_ON,
    SUPERNET,
    BatchOption,
    DeviceOption,
    DTypeOption,
    JsonFlag,
    LogsOption,
    emit,
    emit_partly,
    run_command,
)
from ofa_tvm.support.files import Record

SECONDS_PER_TRIAL = 0.2


def tune(
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    space: Annotated[str | None, typer.Option(help="Search space (default: the supernet's, or mbv3-cifar).")] = None,
    supernet: Annotated[Path | None, typer.Option(help=f"{SUPERNET}, or an adopted model: its space is tuned.")] = None,
    resolution: Annotated[
        list[int] | None, typer.Option(help="Input size; repeat for several (default: the supernet's, or all).")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    batch: BatchOption = None,
    dtype: DTypeOption = None,
    device: DeviceOption = None,
    trials: Annotated[int | None, typer.Option(min=0, help="Most trials of this run.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Most minutes of this run.")] = None,
    trials_per_kernel: Annotated[int | None, typer.Option(min=1, help="Most trials of one kernel, ever.")] = None,
    max_noise: Annotated[float | None, typer.Option(help="Most a reference kernel may slow down, e.g. 1.5.")] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Random subnets to measure for the latency model afterwards (0: none).")
    ] = 0,
    transfer: Annotated[bool, typer.Option(help="Try winners of other logs and of similar kernels, too.")] = True,
    classes: Annotated[int | None, typer.Option(min=2, help="Classes, where not those of the space.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the measured subnets.")] = 0,
    logs: LogsOption = None,
    coverage: Annotated[bool, typer.Option("--coverage", help="Only say what is tuned.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    retime: Annotated[
        bool, typer.Option("--retime", help="Only time the winners again, all at the same speed of the machine.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Only keep the best record of each kernel.")] = False,
    export_pack: Annotated[
        Path | None, typer.Option(help="Build what is to be measured next into this folder, for a device elsewhere.")
    ] = None,
    import_pack: Annotated[
        Path | None, typer.Option(help="Take the results of such a folder into the log; then export the next one.")
    ] = None,
    subnets_of: Annotated[
        Path | None, typer.Option(help="Also pack the finalists that this search could not measure: its folder.")
    ] = None,
    pack_batch: Annotated[
        int | None, typer.Option(min=1, help="Candidates of a kernel in a pack (default: the target's batch).")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Tune the kernels of a search space; every subnet of it is then built without further trials.

    Resumes from the tuning log and measures nothing twice. Without a budget it stops when nothing promises a gain.
    """
    from ofa_tvm.hardware.target import require_cpu
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.measurement import tuning_session
    from ofa_tvm.measurement.pack_rounds import PackOrder, run_packs
    from ofa_tvm.reporting.tuning_text import lost_results, pack_text, plan_text, tuning_text
    from ofa_tvm.supernet.facts import chosen_space, trained_resolutions
    from ofa_tvm.tuner.coverage import coverage as covered
    from ofa_tvm.tuner.log import opened_log
    from ofa_tvm.tuner.loop import Budget
    from ofa_tvm.tuner.tuned_space import TunedSpace

    is_packed = export_pack is not None or import_pack is not None
    named = _finalists(subnets_of, export_pack)
    spec = load_target(target, threads, batch, device or ("pack" if is_packed else None), dtype)
    spec = spec if max_noise is None else spec.with_max_noise(max_noise)
    search_space = chosen_space(supernet, space, classes)
    resolutions = search_space.choose_resolutions(resolution or trained_resolutions(supernet))
    tuned = TunedSpace(search_space, spec, log := opened_log(spec, logs))
    budget = Budget(trials, minutes and 60 * minutes, trials_per_kernel or spec.tuning.trials_per_kernel)
    payload: Record = {
        "target": spec.name,
        "fingerprint": spec.fingerprint,
        "provenance": spec.provenance,
        "folder": str(log.folder),
        "space": search_space.name,
        "resolutions": list(resolutions),
        "kernels": len(tuned.kernels(resolutions)),
    }
    if prune:
        with log.exclusive():
            log.prune()
        emit(payload, json, lambda: f"pruned {log.folder}")
        return
    if coverage or dry_run:
        state = covered(tuned, resolutions)
        planned = tuning_session.planned_trials(tuned, resolutions, budget)
        payload |= state.record() | {"planned_trials": planned, "planned_s": planned * SECONDS_PER_TRIAL}
        emit(payload, json, lambda: plan_text(payload, state, coverage))
        return
    if is_packed or spec.device == "pack":
        subnets = [search_space.parse(key) for key in named]
        order = PackOrder(tuned, resolutions, budget, pack_batch, transfer, seed, samples, subnets)
        packs = run_packs(order, import_pack, export_pack)
        payload |= packs.record() | covered(tuned, resolutions).record()
        emit_partly(payload, json, lambda: pack_text(packs, spec.options, logs), lost_results(packs, import_pack))
        return
    if retime:
        require_cpu(spec, "tune --retime")
        payload["timed_again"] = tuning_session.time_winners_again(tuned, resolutions)
        emit(payload, json, lambda: f"{payload['timed_again']} winners timed again; log: {payload['folder']}")
        return
    report = tuning_session.tune(tuned, budget, resolutions=resolutions, transfer=transfer, samples=samples, seed=seed)
    payload |= report.record() | {"folder": str(log.folder)}  # an adopted log has moved
    emit(payload, json, lambda: tuning_text(payload, report))


def _finalists(search: Path | None, export_pack: Path | None) -> tuple[str, ...]:
    """Subnets that a search wants to have measured."""
    if search is None:
        return ()
    from ofa_tvm.nas.result import load_search_result
    from ofa_tvm.support.errors import UserError

    if export_pack is None:
        raise UserError("--subnets-of says what goes into a pack", "give --export-pack FOLDER too")
    return load_search_result(search).unmeasured


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(tune, argv, saved=GOES_ON)


if __name__ == "__main__":
    sys.exit(main())
