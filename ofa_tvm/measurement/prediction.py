"""What the models say of subnets: latency layer by layer, accuracy, sums of published latencies, and fits to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ofa_tvm.accuracy.predictor import STEM, AccuracyPredictor
from ofa_tvm.compiler.lowering import kernel_steps
from ofa_tvm.cost_model.baselines import OURS, held_out
from ofa_tvm.cost_model.breakdown import breakdown
from ofa_tvm.cost_model.latency_data import read_latency_data
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.cost_model.ofa_block_latency import BlockLatencyTable, block_times, read_files
from ofa_tvm.measurement.kernel_times import call_costs, latency_table
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.errors import UserError
from ofa_tvm.tuner.tuned_space import TunedSpace


def predictions(
    tuned: TunedSpace, configs: list[SubnetConfig], folder: Path | None, with_layers: bool
) -> list[dict[str, Any]]:
    """What subnets take on a target, with the interval, how accurate and how large they are.

    Args:
        tuned: their space on the target.
        configs: the subnets.
        folder: of the supernet whose predictor tells accuracies; None for none.
        with_layers: also where the time goes, layer by layer (``parts``).

    Raises:
        PartialResult: no kernel of the space is tuned.
        UserError: there is no fitted model, or it is damaged.
    """
    space = tuned.space
    model = LatencyModel.load(tuned.model_folder, latency_table(tuned)[0])
    costs, _ = call_costs(tuned)
    is_tuned = {key for key, state in tuned.log.kernels.items() if state.best_ms is not None}
    genomes = space.genomes(configs)
    latencies = _rows(model.predict(genomes))
    top1: Sequence[float | None] = [None] * len(configs)
    if folder is not None and (folder / f"{STEM}.report.json").exists():
        top1 = AccuracyPredictor.load(folder, SubnetTable(space)).predict(genomes)[0].tolist()
    rows = []
    for config, (mean_ms, low_ms, high_ms), predicted_top1 in zip(configs, latencies, top1, strict=True):
        network = space.network(config)
        row = {
            "subnet": config.key,
            "predicted_ms": mean_ms,
            "predicted_low_ms": low_ms,
            "predicted_high_ms": high_ms,
            "predicted_top1": predicted_top1,
            "macs": network.macs,
            "parameters": network.parameters,
            "peak_activation_bytes": network.peak_activation_bytes,
        }
        if with_layers:
            parts = breakdown(model, config, kernel_steps(network, tuned.target), costs, is_tuned)
            row["parts"] = [asdict(part) for part in parts]
        rows.append(row)
    return rows


def _rows(columns: Sequence[Any]) -> list[tuple[float, ...]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


def block_sums(space: SearchSpace, path: Path, configs: list[SubnetConfig]) -> list[dict[str, Any]]:
    """Sums of published block latencies in ms, with their parts.

    Raises:
        UserError: the files have no latencies at a subnet's resolution.
    """
    files = read_files(path)
    rows = []
    for config in configs:
        if config.resolution not in files:
            known = ", ".join(map(str, sorted(files))) or "none"
            raise UserError(f"{path} has no latencies at resolution {config.resolution}", f"it has {known}")
        parts = block_times(files[config.resolution], space, config)
        rows.append({"subnet": config.key, "predicted_ms": sum(parts.values()), "parts": parts})
    return rows


def fit_quality(
    space: SearchSpace, path: Path, base: Path | None, train: int, test: int | None, seed: int
) -> dict[str, Any]:
    """Fit the latency model to a file of latencies, and say how good it is on others of it.

    Args:
        space: of the subnets.
        path: the file.
        base: another device's latencies to start from, or a folder of OFA's block latencies.
        train: random lines to fit.
        test: other lines to ask about; None for all others.
        seed: of the split.

    Raises:
        UserError: a file cannot be read, or has too few lines.
    """
    kernels = SubnetTable(space)
    known, asked = read_latency_data(path, space).split(train, test, seed)
    start, base_samples = None, 0
    if base is not None and base.is_dir():
        start = BlockLatencyTable.load(base, space).times
    elif base is not None:
        other = read_latency_data(base, space)
        start, base_samples = LatencyModel.fit(kernels, other.configs, other.latency_ms, seed).block_times, len(other)
    methods = held_out(kernels, known, asked, seed, start)
    return {
        "space": space.name,
        "file": str(path),
        "base": str(base) if base else None,
        "base_samples": base_samples,
        "train": len(known),
        "test": len(asked),
        "seed": seed,
        **methods,
        "interval_coverage": methods[OURS]["interval_coverage"],
    }
