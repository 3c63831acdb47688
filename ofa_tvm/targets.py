"""``python -m ofa_tvm.targets``: the targets at hand and what is tuned for them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ofa_tvm.support.command import JsonFlag, LogsOption, emit, run_command, table
from ofa_tvm.support.files import Record


def targets(
    logs: LogsOption = None,
    json: JsonFlag = False,
) -> None:
    """List the targets that --target takes, what they are on this machine, and how many kernels are tuned for them."""
    from ofa_tvm.hardware.target_files import target_names

    rows = [_describe(name, logs) for name in target_names()]

    def text() -> str:
        headers = ["target", "device", "chip", "threads", "tuned kernels", "fingerprint"]
        cells = [
            [
                row["name"],
                row.get("device", "-"),
                row.get("mcpu", "-"),
                str(row.get("threads", "-")),
                str(row.get("tuned_kernels", "-")),
                row.get("fingerprint", "-"),
            ]
            for row in rows
        ]
        notes = [f"{row['name']}: {row.get('error') or row['description']}" for row in rows]
        return "\n".join([table(headers, cells), "", *notes])

    emit({"targets": rows}, json, text)


def _describe(name: str, logs: Path | None) -> Record:
    """Facts of a target; ``error`` instead where its file or its log cannot be used here."""
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.tuner.log import opened_log

    facts: Record = {"name": name}
    try:
        target = load_target(name)
        facts |= {
            "description": target.description,
            "device": target.device,
            "provenance": target.provenance,
            "mcpu": target.chip,
            "threads": target.threads,
            "fingerprint": target.fingerprint,
        }
        log = opened_log(target, logs)
        tuned = sum(state.best_ms is not None for state in log.kernels.values())
        return facts | {"log": str(log.folder) if tuned else None, "tuned_kernels": tuned}
    except UserError as error:
        return facts | {"error": error.what}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(targets, argv)


if __name__ == "__main__":
    sys.exit(main())
