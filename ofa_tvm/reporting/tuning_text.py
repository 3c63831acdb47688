"""Tuning in words: what a run would do, what it did, and what is tuned."""

from __future__ import annotations

import shlex
from pathlib import Path

from ofa_tvm.measurement.pack_rounds import PackRound
from ofa_tvm.measurement.tuning_session import TuningReport
from ofa_tvm.reporting.units import RATE, duration
from ofa_tvm.support.command import table
from ofa_tvm.support.errors import PartialResult
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import estimated
from ofa_tvm.tuner.coverage import Coverage
from ofa_tvm.tuner.loop import kinds_text

ROWS = 12


def plan_text(payload: Record, state: Coverage, show_kernels: bool) -> str:
    """What is tuned, and what a run would take; with a table of kernels if wanted."""
    seconds = payload["planned_s"]
    provenance = f", {payload['provenance']}" if state.tuned else ""
    lines = [
        f"{payload['space']} on {payload['target']} ({payload['fingerprint']}{provenance}): "
        f"{payload['kernels']} kernels, {state.tuned} tuned, {state.fallback} would run their default schedule",
        _gap(state),
        f"a run would take at most {payload['planned_trials']} trials, about {duration(seconds)}",
        f"it would cost: {estimated('tune', seconds, seconds)}",
        f"log: {payload['folder']}",
    ]
    return "\n".join([_kernel_table(state), *lines] if show_kernels and state.kernels else lines)


def _gap(state: Coverage) -> str:
    if state.expected_gap is None:
        return "how much slower default schedules are is not known yet"
    share = f"{state.fallback_calls:.0%} of a mean subnet's calls run one"
    return f"a typical default schedule takes {state.expected_gap:.0%} longer than the tuned one; {share}"


def _mean_subnet(state: Coverage) -> str:
    if state.mean_subnet_ms is not None:
        return f"a mean subnet's take {state.mean_subnet_ms:.3f} ms"
    return f"{state.fallback_calls:.0%} of a mean subnet's calls run a default schedule, so its time is not known yet"


def _more(done: TuningReport) -> list[str]:
    """What another run would give, where a budget ended this one."""
    if not done.summary.stopped_by.endswith("budget"):
        return []
    gives = "tune the kernels that are left" if done.coverage.fallback else "may find faster schedules"
    return [f"the same command goes on from here: more trials {gives}"]


def _kernel_table(state: Coverage) -> str:
    rows = [
        [
            kernel.kernel,
            f"{kernel.best_ms * 1e3:.1f}",
            f"{kernel.gflops_per_s:.0f}",
            f"{kernel.calls:.2f}",
            f"{kernel.share:.1%}",
            str(kernel.trials),
            kernel.source,
        ]
        for kernel in state.kernels[:ROWS]
    ]
    return table(["costliest kernels", "us", RATE, "calls a subnet", "share of tuned", "trials", "by"], rows)


def tuning_text(payload: Record, done: TuningReport) -> str:
    """What a run did and what it cost."""
    state, summary = done.coverage, done.summary
    failed = "failed or are not in the recording" if payload["provenance"] == "replayed" else "failed"
    failed += f" ({kinds_text(summary.failures_by_kind)})" if summary.failures_by_kind else ""
    lines = [
        _kernel_table(state),
        f"{summary.trials} trials in {summary.seconds:.0f} s ({payload['trials_per_second']:.1f} a second), "
        f"{summary.failures} {failed}; stopped by: {summary.stopped_by}",
        f"{state.tuned} of {payload['kernels']} kernels tuned; {_mean_subnet(state)}",
    ]
    lines += _more(done)
    report = done.latency_model
    if report is not None:
        rows = [
            [name, f"{scores['mape']:.2%}", f"{scores['within_5pct']:.0%}", f"{scores['spearman']:.3f}"]
            for name, scores in report["methods"].items()
        ]
        title = f"latency from {report['samples']} subnets"
        lines.append(table([title, "MAPE", "within 5 %", "Spearman"], rows))
        lines.append(f"90 % interval held {report['interval_coverage']:.0%} of held-out subnets")
        if (promised := report["mape_with_twice_the_samples"]) is not None:
            lines.append(f"twice as many samples promise a MAPE of {promised:.2%}")
    if done.measured_ms is not None:
        lines.append(f"the model takes {done.measured_ms:.3f} ms")
    if payload["provenance"] != "measured":
        lines.append(f"all times are {payload['provenance']}, no measurements")
    return "\n".join([*lines, str(done.cost), f"log: {payload['folder']}"])


def pack_text(packs: PackRound, options: str, logs: Path | None = None) -> str:
    """What was taken from a pack, and what to do with the next one; ``options`` name the target, ``logs`` was given."""
    lines = []
    if (taken := packs.imported) is not None:
        lines.append(
            f"{taken.results} results of {taken.device} taken into the log, {taken.failures} of them failed; "
            f"{taken.subnets} latencies of subnets"
            + (f", {taken.failed_subnets} failed: {taken.error}" if taken.failed_subnets else "")
        )
        strays = f", {taken.strays} of entries that cannot be read" if taken.strays else ""
        lines.append(f"{taken.known} known before, {taken.damaged} damaged{strays}, {taken.missing} not measured yet")
    if (exported := packs.exported) is not None:
        lines.append(
            f"{exported.entries} entries in {exported.folder} ({exported.size_bytes / 2**20:.1f} MiB): "
            f"candidates of {exported.kernels} kernels, {exported.subnets} subnets; {exported.failures} could "
            "not be built"
        )
        lines.append("copy it to the device, run 'python measure.py' there, bring results.jsonl back into it, then:")
        where = "" if logs is None else f" --logs {shlex.quote(str(logs))}"
        lines.append(f"python -m ofa_tvm.tune {options} --import-pack {shlex.quote(exported.folder)}{where}")
    return "\n".join([*lines, f"log: {packs.folder}"])


def lost_results(packs: PackRound, folder: Path | None) -> PartialResult | None:
    """What an import could not take: results of entries that cannot be read, or every one, as all are damaged."""
    taken = packs.imported
    if taken is not None and taken.strays:
        what = f"{taken.strays} results are left out: {folder} has no line in entries.jsonl for them that can be read"
        return PartialResult(what, "copy entries.jsonl again from where the pack was made, and import once more")
    if (
        taken is not None
        and taken.damaged
        and taken.missing
        and not (taken.results or taken.subnets or taken.failed_subnets)
    ):
        what = f"nothing was taken from {folder}: {taken.damaged} lines of results.jsonl are damaged"
        return PartialResult(what, "copy it from the device again; or run measure.py there, which measures them again")
    return None
