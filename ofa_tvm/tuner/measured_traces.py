"""Traces that were measured, kept beside a log so that a later run continues the search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from ofa_tvm.support.files import Record, append_jsonl
from ofa_tvm.support.typed import Milliseconds, read_lines
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.trial import TrialResult

FILE_NAME = "traces.jsonl"


class _Trace(BaseModel):
    kernel: str
    trace: list[Any]
    times_ms: Annotated[list[Milliseconds], Field(min_length=1)]


_TRACE = TypeAdapter(_Trace)


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
    """``trace`` and ``times_ms`` of measured traces, by kernel; a trace that a kill has kept twice counts once.

    Raises:
        UserError: the file is damaged.
    """
    traces: dict[str, dict[str, Record]] = {}
    for line in read_lines(folder / FILE_NAME, "measured traces", _TRACE):
        traces.setdefault(line.kernel, {})[json.dumps(line.trace)] = line.model_dump()
    return {kernel: list(lines.values()) for kernel, lines in traces.items()}
