"""``python -m ofa_tvm.onboard``: everything that a new device needs, in one go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.support.command import (
    GOES_ON,
    SUPERNET,
    DeviceOption,
    DTypeOption,
    JsonFlag,
    LogsOption,
    emit,
    run_command,
)


def onboard(
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    device: DeviceOption = None,
    dtype: DTypeOption = None,
    supernet: Annotated[Path | None, typer.Option(help=f"{SUPERNET} (default: mbv3-cifar).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    max_latency_ms: Annotated[
        list[float] | None, typer.Option(help="Latency budget; repeat for several (default: the whole front).")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Most minutes of tuning.")] = None,
    samples: Annotated[int, typer.Option(min=20, help="Subnets that the latency model learns from.")] = 60,
    data: Annotated[str | None, typer.Option(help="Where the supernet's images are, as for train.")] = None,
    logs: LogsOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results (default: runs/onboard-TARGET).")] = None,
    json: JsonFlag = False,
) -> None:
    """Take a bare device to tuned kernels, a latency model, the front of subnets and a report.

    Runs doctor, tune, search and report one after the other, each with what was given here. What is done is kept: the
    same command goes on where it stopped, and measures nothing twice.
    """
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.supernet.facts import checkpoint_path, read_facts
    from ofa_tvm.support.shipped import shipped_supernet
    from ofa_tvm.support.steps import Step, run_steps

    load_target(target, threads, device=device, dtype=dtype)  # an impossible target is reported before anything begins
    checkpoint = checkpoint_path(supernet or shipped_supernet())
    facts = read_facts(checkpoint)
    folder = out or Path("runs") / f"onboard-{Path(target).stem}"
    on = ["--target", target, *_option("--device", device), *_option("--dtype", dtype)]
    shared = [*on, *_option("--threads", threads), *_option("--logs", logs)]
    search = folder / "search"
    budgets = [word for budget in max_latency_ms or () for word in ("--max-latency-ms", str(budget))]
    tune = ["--space", facts.space, "--classes", str(len(facts.class_names)), *_option("--minutes", minutes)]
    find = ["--supernet", str(checkpoint), *_option("--data", data), *budgets]
    steps = [
        Step("doctor", on),
        Step("tune", [*shared, *tune, "--samples", str(samples)]),
        Step("search", [*shared, *find, "--samples", str(samples), "--out", str(search)]),
        Step("report", ["--from", str(search), "--out", str(folder / "report.html")]),
    ]
    results = run_steps(steps, folder)
    emit({"folder": str(folder), **results}, json, lambda: _text(results, folder))


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]


def _text(results: dict[str, dict[str, object]], folder: Path) -> str:
    tuned = results["tune"]
    search = results["search"]
    picks = search["picks"]
    count = len(picks) if isinstance(picks, list) else 0
    return "\n".join(
        [
            f"{tuned['tuned']} of {tuned['kernels']} kernels tuned, latencies are {tuned['provenance']}",
            f"log: {tuned['folder']}",
            f"{count} picks: {search['folder']}",
            f"report: {folder / 'report.html'}",
            f"next: python -m ofa_tvm.deploy --from {search['folder']} --pick 1 --out bundle",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(onboard, argv, saved=GOES_ON)


if __name__ == "__main__":
    sys.exit(main())
