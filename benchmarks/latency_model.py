"""How good the latency model is: ``python benchmarks/latency_model.py measured | speed | public FILE.npz``.

``measured`` uses the records of the tuning logs (``python -m ofa_tvm.tune --samples`` makes them): errors at few
samples, on a resolution that was not fitted, and with kernels whose records are taken away. ``public`` uses a file of
public latencies: arrays ``ks``, ``e``, ``d``, ``r`` of OFA's configs and ``ms_<device>``. Nothing runs on a device.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from store import keep

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.cost_model.baselines import held_out
from ofa_tvm.cost_model.latency_data import LatencyData
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.kernel_times import kernel_costs, kernel_keys
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.spaces import get_space
from ofa_tvm.spaces.architectures import from_ofa
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tuned_space import TunedSpace

SPLITS = 5
LOGS = [(target, space) for target in ("x86", "x86-2t") for space in ("mbv3", "mbv3-cifar")]


def mean_scores(table: SubnetTable, splits: list[tuple[LatencyData, LatencyData]], **options: Any) -> dict[str, Any]:
    """Means over splits of every method's scores."""
    found = [held_out(table, known, asked, **options) for known, asked in splits]
    return {
        name: {key: statistics.fmean(scores[name][key] for scores in found) for key in found[0][name]}
        for name in found[0]
    }


def show(title: str, scores: dict[str, Any]) -> None:
    """One line for each method."""
    print(title)
    for name, score in scores.items():
        values = "  ".join(f"{key} {value:.4f}" for key, value in score.items())
        print(f"  {name:12} {values}", flush=True)


def public(path: str) -> None:
    """Errors by device and samples, and from another device's model."""
    space, arrays = get_space("mbv3"), np.load(path)
    table = SubnetTable(space)
    rows = zip(arrays["ks"].tolist(), arrays["e"].tolist(), arrays["d"].tolist(), arrays["r"].tolist(), strict=True)
    configs = tuple(from_ofa(dict(zip(("ks", "e", "d", "r"), row, strict=True)), space) for row in rows)
    devices = {name[3:]: LatencyData(configs, arrays[name].astype(float)) for name in arrays if name.startswith("ms_")}
    result: dict[str, Any] = {}
    for device in ("v100_64", "titan_rtx_64"):
        for train in (10, 30, 100, 300, 900):
            splits = [devices[device].split(train, 1000, seed) for seed in range(SPLITS)]
            result[f"{device}, {train}"] = mean_scores(table, splits)
            show(f"{device}, {train} samples", result[f"{device}, {train}"])
    for start, device in (
        ("v100_64", "titan_rtx_64"),
        ("titan_rtx_64", "v100_64"),
        ("titan_rtx_64", "titan_rtx_32"),
        ("titan_rtx_64", "titan_rtx_1"),
        ("v100_64", "v100_32"),
        ("v100_64", "v100_1"),
    ):
        base = LatencyModel.fit(table, configs, devices[start].latency_ms).block_times
        for train in (10, 900):
            splits = [devices[device].split(train, 1000, seed) for seed in range(SPLITS)]
            name = f"{start} to {device}, {train}"
            result[name] = mean_scores(table, splits, other_device=base)
            show(name, {"model": result[name]["model"]})
    keep("latency-model-public", result)


def measured() -> None:
    """Errors on our own records."""
    result: dict[str, Any] = {}
    for target, name in LOGS:
        space, spec = get_space(name), load_target(target)
        bench = LatencyBench(TunedSpace(space, spec, TuningLog(spec)), device=None)
        data = LatencyData(tuple(bench.known()[0]), bench.known()[1])
        for train in (10, 30, round(0.8 * len(data))):
            splits = [data.split(train, None, seed) for seed in range(SPLITS)]
            result[f"{target} {name}, {train}"] = mean_scores(bench.table, splits)
            show(f"{target} {name}, {train} samples", result[f"{target} {name}, {train}"])
        result |= _other_resolutions(f"{target} {name}", bench, data)
        result |= _fewer_kernels(f"{target} {name}", bench, data)
    keep("latency-model-measured", result)


def _other_resolutions(title: str, bench: LatencyBench, data: LatencyData) -> dict[str, Any]:
    sizes = np.asarray([config.resolution for config in data.configs])
    found = {}
    for size in np.unique(sizes):
        name = f"{title}, {size} px held out"
        found[name] = held_out(bench.table, data[np.flatnonzero(sizes != size)], data[np.flatnonzero(sizes == size)])
        show(name, {"model": found[name]["model"], "table_alone": found[name]["table_alone"]})
    return found


def _fewer_kernels(title: str, bench: LatencyBench, data: LatencyData, share: float = 0.5) -> dict[str, Any]:
    """Half of the kernels are known by an estimate only."""
    kernels = fused_kernels(bench.space)
    rng = np.random.default_rng(0)
    log = TuningLog(bench.target)
    for key in sorted(set(log.kernels) & set(kernels)):
        if rng.random() < share:
            del log.kernels[key]
    costs, estimated = kernel_costs(log, kernels, bench.space)
    table = SubnetTable(bench.space, costs, kernel_keys)
    train = round(0.8 * len(data))
    name = f"{title}, {estimated} of {len(kernels)} kernels estimated"
    found = {name: mean_scores(table, [data.split(train, None, seed) for seed in range(SPLITS)])}
    show(name, {"model": found[name]["model"], "table_alone": found[name]["table_alone"]})
    return found


def speed() -> None:
    """Subnets a second on one core."""
    result: dict[str, Any] = {}
    for target, name in LOGS[:2]:
        space, spec = get_space(name), load_target(target)
        bench = LatencyBench(TunedSpace(space, spec, TuningLog(spec)), device=None)
        model = bench.fit()
        genomes = space.sample(np.random.default_rng(0), 200_000)
        for label, function in (("screen", model.screen), ("predict", model.predict)):
            function(genomes[:1000])
            rates = []
            for _ in range(7):
                start = time.process_time()
                function(genomes)
                rates.append(len(genomes) / (time.process_time() - start))
            result[f"{name}, {label}"] = {"median_per_s": statistics.median(rates), "low": min(rates)}
            print(name, label, f"{statistics.median(rates):,.0f} subnets a second", flush=True)
        result[f"{name}, tree_weight"] = model.model.tree_weight
    keep("latency-model-speed", result)


PARTS: dict[str, Callable[..., None]] = {"public": public, "measured": measured, "speed": speed}

if __name__ == "__main__":
    PARTS[sys.argv[1]](*sys.argv[2:])
