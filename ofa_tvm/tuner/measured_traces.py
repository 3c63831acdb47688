"""Traces that were measured, kept beside a log so that a later run continues the search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ofa_tvm.support.files import Record, append_jsonl, read_jsonl
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.trial import TrialResult

FILE_NAME = "traces.jsonl"


def keep_traces(folder: Path, results: Sequence[tuple[Candidate, TrialResult]]) -> None:
    """Append measured traces to a log's folder."""
    lines = [
        {"kernel": candidate.kernel, "trace": candidate.schedule["trace"], "times_ms": list(result.times_ms)}
        for candidate, result in results
        if "trace" in candidate.schedule and result.status == "ok"
    ]
    if lines:
        append_jsonl(folder / FILE_NAME, lines)


def kept_traces(folder: Path) -> dict[str, list[Record]]:
    """``trace`` and ``times_ms`` of measured traces, by kernel; a trace that a kill has kept twice counts once."""
    traces: dict[str, dict[str, Record]] = {}
    for line in read_jsonl(folder / FILE_NAME, "measured traces"):
        if {"kernel", "trace", "times_ms"} <= line.keys():
            traces.setdefault(line["kernel"], {})[json.dumps(line["trace"])] = line
    return {kernel: list(lines.values()) for kernel, lines in traces.items()}
