"""``python -m ofa_tvm.predict``: latency and accuracy of subnets, predicted without running anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ofa_tvm.cli import JsonFlag, emit, run_command, table


def predict(
    subnet: Annotated[list[str], typer.Option(help="Key of a subnet, or largest, or smallest; repeat for several.")],
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    space: Annotated[str, typer.Option(help="Search space.")] = "mbv3-cifar",
    supernet: Annotated[Path | None, typer.Option(help="Training folder, for accuracy (default: shipped).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Classes, where not those of the space.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder of tuning logs (default: tuning_logs/).")] = None,
    json: JsonFlag = False,
) -> None:
    """Predict what subnets take on a target, with the 90 % interval, and how accurate they are.

    The latency model is the one that tune fitted to measured subnets; the accuracy predictor belongs to a supernet.
    """
    from ofa_tvm.accuracy.predictor import STEM, AccuracyPredictor
    from ofa_tvm.cost_model import LatencyModel
    from ofa_tvm.latency import latency_table, model_folder
    from ofa_tvm.shipped import shipped_supernet
    from ofa_tvm.spaces import get_space
    from ofa_tvm.subnet_table import SubnetTable
    from ofa_tvm.targets import load_target
    from ofa_tvm.tuner.log import TuningLog

    search_space, spec = get_space(space), load_target(target, threads)
    if classes is not None:
        search_space = search_space.with_classes(classes)
    genomes = search_space.genomes([search_space.parse(key) for key in subnet])
    log = TuningLog(spec, logs)
    kernel_table, _ = latency_table(search_space, spec, log)
    model = LatencyModel.load(model_folder(log, search_space), kernel_table)
    columns = [[float(value) for value in column] for column in model.predict(genomes)]
    folder = supernet or shipped_supernet()
    top1: Sequence[float | None] = [None] * len(subnet)
    if (folder / f"{STEM}.report.json").exists() and (supernet is not None or space == "mbv3-cifar"):
        predictor = AccuracyPredictor.load(folder, SubnetTable(search_space))
        top1 = [float(value) for value in predictor.predict(genomes)[0]]
    rows: list[dict[str, Any]] = []
    for index, genome in enumerate(genomes):
        config = search_space.config(genome)
        network = search_space.network(config)
        rows.append(
            {
                "subnet": config.key,
                "predicted_ms": columns[0][index],
                "predicted_low_ms": columns[1][index],
                "predicted_high_ms": columns[2][index],
                "predicted_top1": top1[index],
                "macs": network.macs,
                "parameters": network.parameters,
                "peak_activation_bytes": network.peak_activation_bytes,
            }
        )
    payload = {"space": space, "target": spec.name, "fingerprint": spec.fingerprint, "subnets": rows}
    emit(payload, json, lambda: table(HEADERS, [_cells(row) for row in rows]))


HEADERS = ["subnet", "predicted ms", "90 % interval", "predicted top-1", "MMACs", "k parameters"]


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["subnet"],
        f"{row['predicted_ms']:.3f}",
        f"{row['predicted_low_ms']:.3f}-{row['predicted_high_ms']:.3f}",
        "-" if row["predicted_top1"] is None else f"{row['predicted_top1']:.2%}",
        f"{row['macs'] / 1e6:.1f}",
        f"{row['parameters'] / 1e3:.0f}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(predict, argv)


if __name__ == "__main__":
    sys.exit(main())
