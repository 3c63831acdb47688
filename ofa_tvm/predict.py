"""``python -m ofa_tvm.predict``: latency and accuracy of subnets, predicted without running anything."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_tvm.support.command import (
    SUPERNET,
    ArchOption,
    BatchOption,
    DeviceOption,
    DTypeOption,
    JsonFlag,
    LogsOption,
    emit,
    run_command,
    table,
)

if TYPE_CHECKING:
    from ofa_tvm.spaces import SearchSpace

DEFAULT_SPACE = "mbv3-cifar"


def predict(
    subnet: Annotated[
        list[str] | None, typer.Option(help="Key of a subnet, or largest, or smallest; repeat for several.")
    ] = None,
    arch: ArchOption = None,
    random: Annotated[int, typer.Option(min=0, help="So many random subnets, too.")] = 0,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also where the time goes, layer by layer (always, for one subnet).")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the predictions into this table instead.")] = None,
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    space: Annotated[str | None, typer.Option(help="Search space (default: the supernet's, or mbv3-cifar).")] = None,
    supernet: Annotated[Path | None, typer.Option(help=f"{SUPERNET} (default: that of the space).")] = None,
    device: DeviceOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    batch: BatchOption = None,
    dtype: DTypeOption = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Classes, where not those of the space.")] = None,
    logs: LogsOption = None,
    block_table: Annotated[
        Path | None,
        typer.Option(help="OFA's published block latencies (a .yaml file, or a folder) instead of a target."),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(help="Fit the latency model to a file of measured latencies instead, and say how good it is."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="With --fit: latencies of another device to start from, or OFA's block latencies (a folder)."
        ),
    ] = None,
    train: Annotated[int, typer.Option(min=10, help="With --fit: random lines to fit.")] = 100,
    test: Annotated[
        int | None, typer.Option(min=10, help="With --fit: other lines to ask about (default: all others).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random subnets; with --fit, of the split.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Predict what subnets take on a target, with the 90 % interval, where it goes, and how accurate they are.

    The latency model is the one that tune fitted to measured subnets; the accuracy predictor belongs to a supernet.
    """
    import numpy as np

    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.measurement import prediction
    from ofa_tvm.spaces.architectures import read_architectures
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.tuner.log import TuningLog
    from ofa_tvm.tuner.tuned_space import TunedSpace

    search_space, folder = _space_and_folder(supernet, space)
    if classes is not None:
        search_space = search_space.with_classes(classes)
    if fit is not None:
        payload = prediction.fit_quality(search_space, fit, base, train, test, seed)
        emit(payload, json, lambda: _fit_text(payload))
        return
    configs = [search_space.parse(key) for key in subnet or ()]
    configs += [config for source in arch or () for config in read_architectures(source, search_space)]
    configs += search_space.sample_configs(np.random.default_rng(seed), random)
    if not configs:
        raise UserError(
            "no subnet is named",
            "give --subnet KEY, --arch FILE or --random COUNT (or --fit FILE of measured latencies)",
        )
    if block_table is not None:
        payload = {
            "space": search_space.name,
            "block_table": str(block_table),
            "subnets": prediction.block_sums(search_space, block_table, configs),
        }
        emit(payload, json, lambda: _sums_text(payload["subnets"]))
        return
    spec = load_target(target, threads, batch, device, dtype)
    tuned = TunedSpace(search_space, spec, TuningLog(spec, logs))
    rows = prediction.predictions(tuned, configs, folder, layers or (len(configs) == 1 and csv is None))
    if csv is not None:
        _write_table(csv, rows)
        emit({"csv": str(csv), "count": len(rows)}, json, lambda: f"wrote {len(rows)} predictions to {csv}")
        return
    payload = {
        "space": search_space.name,
        "target": spec.name,
        "fingerprint": spec.fingerprint,
        "threads": spec.threads,
        "provenance": spec.provenance,
        "subnets": rows,
    }
    note = f"{spec.name}, {spec.threads} threads, batch {spec.batch}, learned from {spec.provenance} latencies"
    emit(payload, json, lambda: f"{_text(rows)}\n{note}")


def _space_and_folder(supernet: Path | None, space: str | None) -> tuple[SearchSpace, Path | None]:
    """The space, and the training folder whose predictor tells accuracies, if there is one."""
    from ofa_tvm.spaces import get_space
    from ofa_tvm.supernet.facts import checkpoint_path, read_facts
    from ofa_tvm.support.shipped import shipped_supernets

    if supernet is None:
        name = space or DEFAULT_SPACE
        return get_space(name), next((folder for folder in shipped_supernets() if folder.name == name), None)
    path = checkpoint_path(supernet)
    return read_facts(path).space_unless_other(space), path.parent


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; layers are left out.

    Raises:
        UserError: it cannot be written.
    """
    import csv
    import io

    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.files import write_atomic

    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [name for name in rows[0] if name != "parts"], extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    try:
        write_atomic(path, text.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "name another file with --csv") from error


HEADERS = ["subnet", "predicted ms", "90 % interval", "predicted top-1", "MMACs", "k parameters"]


def _text(rows: list[dict[str, Any]]) -> str:
    return "\n\n".join(
        [table(HEADERS, [_cells(row) for row in rows]), *(_layers(row) for row in rows if "parts" in row)]
    )


def _layers(row: Mapping[str, Any]) -> str:
    parts = [
        [
            " ".join(part["layers"]),
            f"{part['predicted_ms'] * 1e3:.1f}",
            f"{part['predicted_ms'] / row['predicted_ms']:.1%}",
            f"{part['kernel_ms'] * 1e3:.1f}" + ("" if part["is_tuned"] else " (estimated)"),
        ]
        for part in row["parts"]
    ]
    return table([f"layers of one call of {row['subnet']}", "us in the subnet", "share", "us alone"], parts)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["subnet"],
        f"{row['predicted_ms']:.3f}",
        f"{row['predicted_low_ms']:.3f}-{row['predicted_high_ms']:.3f}",
        "-" if row["predicted_top1"] is None else f"{row['predicted_top1']:.2%}",
        f"{row['macs'] / 1e6:.1f}",
        f"{row['parameters'] / 1e3:.0f}",
    ]


def _sums_text(rows: list[dict[str, Any]]) -> str:
    text = table(
        ["subnet", "sum of block latencies, ms"], [[row["subnet"], f"{row['predicted_ms']:.2f}"] for row in rows]
    )
    if len(rows) > 1:
        return text
    parts = [[name, f"{block_ms:.3f}"] for name, block_ms in rows[0]["parts"].items()]
    return "\n".join([text, "", table(["block", "ms"], parts)])


def _fit_text(payload: dict[str, Any]) -> str:
    from ofa_tvm.cost_model.baselines import BASELINES, OURS

    rows = [
        [
            name,
            *(f"{payload[name][key]:.2%}" for key in ("mape", "within_5pct", "within_10pct")),
            f"{payload[name]['spearman']:.4f}",
        ]
        for name in (OURS, *BASELINES)
        if name in payload
    ]
    start = f", starting from {payload['base']}" if payload["base"] else ""
    title = f"fitted to {payload['train']} subnets{start}"
    quality = table([title, "MAPE", "within 5 %", "within 10 %", "Spearman"], rows)
    return f"{quality}\nthe 90 % interval held {payload['interval_coverage']:.1%} of {payload['test']} other subnets"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(predict, argv)


if __name__ == "__main__":
    sys.exit(main())
