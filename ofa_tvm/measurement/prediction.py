"""What the models predict: latency layer by layer, accuracy, sums of published latencies, and fits to files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.accuracy.predictor import STEM, AccuracyPredictor
from ofa_tvm.cost_model.baselines import OURS, held_out
from ofa_tvm.cost_model.breakdown import Part, breakdown
from ofa_tvm.cost_model.latency_data import read_latency_data
from ofa_tvm.cost_model.latency_model import STEM as LATENCY_STEM
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.cost_model.ofa_block_latency import BlockLatencyTable, block_times, read_files
from ofa_tvm.measurement.kernel_times import SAMPLES, call_costs, how_to_tune, saved_model
from ofa_tvm.measurement.known_latencies import KnownLatencies
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.errors import NotTuned, UserError
from ofa_tvm.support.files import Record, write_atomic
from ofa_tvm.tuner.tuned_space import TunedSpace

Basis = Literal["latency model", "measurement", "kernel times"]


@dataclass(frozen=True)
class PredictedSubnet:
    """What the models predict for a subnet.

    Args:
        subnet: its key.
        predicted_ms: latency, with the ends of its 90 % interval, where a latency model gives one.
        predicted_top1: accuracy as a fraction; None where nothing predicts it.
        macs: multiply-accumulates of one image.
        parameters: trainable numbers.
        peak_activation_bytes: largest sum of maps alive at once, one image.
        basis: what the latency rests on.
        parts: where the time goes, call by call; empty where not asked for.
    """

    subnet: str
    predicted_ms: float
    predicted_low_ms: float | None
    predicted_high_ms: float | None
    predicted_top1: float | None
    macs: int
    parameters: int
    peak_activation_bytes: int
    basis: Basis = "latency model"
    parts: tuple[Part, ...] = ()

    def record(self) -> Record:
        """As a JSON object; parts only where there are any."""
        record = asdict(self)
        return record if self.parts else {name: value for name, value in record.items() if name != "parts"}


def predictions(
    tuned: TunedSpace,
    configs: list[SubnetConfig],
    folder: Path | None,
    with_layers: bool,
    trained: Sequence[int] = (),
) -> list[PredictedSubnet]:
    """Latencies of subnets on a target with their intervals, accuracies and sizes.

    Args:
        tuned: their space on the target.
        configs: the subnets.
        folder: of the supernet whose predictor gives accuracies; None for none.
        with_layers: also where the time goes, layer by layer.
        trained: input sizes that the supernet was trained at, so that accuracies are known; empty for all.

    Raises:
        NotTuned: no kernel of the space is tuned, or no subnet was measured.
        UserError: the fitted model is damaged.
    """
    space = tuned.space
    if space.cardinality == 1:
        return [_own(tuned, config, folder, with_layers) for config in configs]
    if not (tuned.model_folder / f"{LATENCY_STEM}.report.json").exists():
        hint = how_to_tune(space, tuned.log, f" --samples {SAMPLES}")
        raise NotTuned(f"no latencies of {space.name} were measured in {tuned.log.folder}", hint)
    model = saved_model(tuned)
    costs, _ = call_costs(tuned)
    is_tuned = {key for key, state in tuned.log.kernels.items() if state.best_ms is not None}
    genomes = space.genomes(configs)
    latencies = _rows(model.predict(genomes))
    if tuned.target.provenance == "estimated":  # sums of estimates are fitted exactly, which says nothing of a device
        latencies = [(mean_ms, None, None) for mean_ms, _, _ in latencies]
    top1: Sequence[float | None] = [None] * len(configs)
    if folder is not None and (folder / f"{STEM}.report.json").exists():
        found = AccuracyPredictor.load(folder, SubnetTable(space)).predict(genomes)[0].tolist()
        known = trained or space.resolutions
        top1 = [value if config.resolution in known else None for value, config in zip(found, configs, strict=True)]
    predicted = []
    for config, interval_ms, predicted_top1 in zip(configs, latencies, top1, strict=True):
        network = space.network(config)
        steps = tuned.steps(network) if with_layers else []
        predicted.append(
            PredictedSubnet(
                config.key,
                *interval_ms,
                predicted_top1,
                network.macs,
                network.parameters,
                network.peak_activation_bytes,
                parts=tuple(breakdown(interval_ms[0], steps, costs, is_tuned)) if with_layers else (),
            )
        )
    return predicted


def _own(tuned: TunedSpace, config: SubnetConfig, folder: Path | None, with_layers: bool) -> PredictedSubnet:
    """A model that somebody brought: what was measured of it, or else the sum of its kernels' times.

    Raises:
        NotTuned: it was not measured, and not all of its kernels are tuned.
    """
    network, (costs, estimated) = tuned.space.network(config), call_costs(tuned, folder)
    steps = tuned.steps(network)
    timing = KnownLatencies(tuned, 50, 0, is_live=False).timing(config)
    known_ms = None if timing is None else timing.told_ms()
    if known_ms is None and estimated:
        raise NotTuned(
            f"{tuned.space.name} was not measured, and {estimated} of its {len(costs)} kernels are not tuned",
            how_to_tune(tuned.space, tuned.log, supernet=folder),
        )
    whole_ms = sum(costs[kernel.key] for _, kernel in steps) if known_ms is None else known_ms
    is_tuned = {key for key, state in tuned.log.kernels.items() if state.best_ms is not None}
    return PredictedSubnet(
        config.key,
        whole_ms,
        None,
        None,
        None,
        network.macs,
        network.parameters,
        network.peak_activation_bytes,
        "kernel times" if known_ms is None else "measurement",
        tuple(breakdown(whole_ms, steps, costs, is_tuned)) if with_layers else (),
    )


def write_table(path: Path, predicted: Sequence[PredictedSubnet]) -> None:
    """Write predictions as CSV; parts are left out.

    Raises:
        UserError: it cannot be written.
    """
    text = io.StringIO(newline="")
    names = [field.name for field in fields(PredictedSubnet) if field.name != "parts"]
    table = csv.DictWriter(text, names, extrasaction="ignore")
    table.writeheader()
    table.writerows(subnet.record() for subnet in predicted)
    try:
        write_atomic(path, text.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "name another file with --csv") from error


def _rows(columns: Sequence[NDArray[np.float64]]) -> list[tuple[float, float | None, float | None]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


def block_sums(space: SearchSpace, path: Path, configs: list[SubnetConfig]) -> list[Record]:
    """Sums of published block latencies in ms, with their parts.

    Raises:
        UserError: the files have no latencies at a subnet's resolution.
    """
    files = read_files(path)
    rows = []
    for config in configs:
        if config.resolution not in files:
            resolutions = ", ".join(map(str, sorted(files))) or "none"
            raise UserError(f"{path} has no latencies at resolution {config.resolution}", f"it has {resolutions}")
        parts = block_times(files[config.resolution], space, config)
        rows.append({"subnet": config.key, "predicted_ms": sum(parts.values()), "parts": parts})
    return rows


def fit_quality(space: SearchSpace, path: Path, base: Path | None, train: int, test: int | None, seed: int) -> Record:
    """Fit the latency model to subnets of a file of latencies; returns how good it is on other subnets.

    Args:
        space: of the subnets.
        path: the file.
        base: another device's latencies to start from, or a folder of OFA's block latencies.
        train: random subnets to fit.
        test: other subnets to predict; None for all others.
        seed: of the split.

    Raises:
        UserError: a file cannot be read, or has too few subnets.
    """
    kernels = SubnetTable(space)
    fitted, asked = read_latency_data(path, space).split(train, test, seed)
    start, base_samples = None, 0
    if base is not None and base.is_dir():
        start = BlockLatencyTable.load(base, space).times
    elif base is not None:
        other = read_latency_data(base, space)
        start, base_samples = LatencyModel.fit(kernels, other.configs, other.latency_ms, seed).block_times, len(other)
    methods = held_out(kernels, fitted, asked, seed, start)
    return {
        "space": space.name,
        "file": str(path),
        "base": str(base) if base else None,
        "base_samples": base_samples,
        "train": len(fitted),
        "test": len(asked),
        "seed": seed,
        **methods,
        "interval_coverage": methods[OURS]["interval_coverage"],
    }
