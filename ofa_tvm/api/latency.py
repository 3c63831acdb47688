"""Latencies of subnets on a target: predicted by the thousand, measured one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.accuracy.predictor import STEM, AccuracyPredictor
from ofa_tvm.api.arguments import checked
from ofa_tvm.api.loading import SupernetFile
from ofa_tvm.api.subnets import Subnet, configs_of
from ofa_tvm.devices import open_device
from ofa_tvm.measurement.kernel_times import saved_model
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.spaces.subnet_table import QUANTITIES, SubnetTable
from ofa_tvm.tuner.tuned_space import Target

Columns = dict[str, NDArray[Any]]
"""Arrays of one length by name: what ``pandas.DataFrame`` takes."""


class Predictor:
    """Predicts latency and accuracy of subnets; loaded once.

    Args:
        supernet: the supernet whose predictor gives accuracies; or a space, without accuracies.
        target: a target that the space is tuned for.

    Raises:
        NotTuned: no kernel of the space is tuned.
        UserError: there is no fitted model, or it is damaged.
    """

    def __init__(self, supernet: SupernetFile | SearchSpace, target: Target) -> None:
        self._accuracy, self._trained = None, tuple[int, ...]()
        if isinstance(supernet, SupernetFile):
            self._space = supernet.space
            self._accuracy = self._accuracies(supernet.path.parent)
            self._trained = supernet.facts.resolutions
        else:
            self._space = supernet
        tuned = target.tuned(self._space)
        self._model = saved_model(tuned)

    def _accuracies(self, folder: Path) -> AccuracyPredictor | None:
        if not (folder / f"{STEM}.report.json").exists():
            return None
        return AccuracyPredictor.load(folder, SubnetTable(self._space))

    def __call__(self, subnets: Iterable[Subnet] | str) -> Columns:
        """Key, latency in ms with the ends of its 90 % interval, accuracy, MACs, bytes of weights of each subnet.

        Accuracies are NaN where nothing predicts them, as at input sizes that the supernet was not trained at.

        Raises:
            UserError: the space has no such subnet.
        """
        configs = configs_of(self._space, subnets)
        genomes = self._space.genomes(configs)
        mean_ms, low_ms, high_ms = self._model.predict(genomes)
        quantities = self._model.table.quantities(genomes)
        top1 = np.full(len(configs), np.nan)
        if self._accuracy is not None:
            known = [config.resolution in (self._trained or self._space.resolutions) for config in configs]
            top1 = np.where(known, self._accuracy.predict(genomes)[0], np.nan)
        return {
            "key": np.asarray([config.key for config in configs], dtype=np.str_),
            "latency_ms": mean_ms,
            "latency_low_ms": low_ms,
            "latency_high_ms": high_ms,
            "top1": top1,
            "macs": quantities[:, QUANTITIES.index("macs")],
            "bytes": quantities[:, QUANTITIES.index("parameter_bytes")],
        }


@checked
def predict(subnets: Iterable[Subnet] | str, target: Target, supernet: SupernetFile | SearchSpace) -> Columns:
    """What the models predict for subnets; a ``Predictor`` does so repeatedly without loading them again."""
    return Predictor(supernet, target)(subnets)


@checked
def measure(subnets: Iterable[Subnet] | str, target: Target, space: SearchSpace) -> Columns:
    """Measure subnets on a target, now.

    Args:
        subnets: of the space.
        target: its device is used; what it measured is kept in its log.
        space: that is tuned for it.

    Returns:
        Key, median latency in ms, that of the fastest and of the slowest window; NaN where it failed.

    Raises:
        DeviceUnreachable: the device cannot be used.
        UserError: the space has no such subnet.
    """
    configs = configs_of(space, subnets)
    tuned = target.tuned(space)
    with tuned.log.exclusive(), open_device(target.spec) as device:
        device.start()
        bench = LatencyBench(tuned, device)
        told_ms = [np.nan if told is None else told for told in bench.measure(configs)]
    timings = [bench.timing(config) for config in configs]
    spreads = [(np.nan, np.nan) if timing is None else timing.spread_ms(50) for timing in timings]
    return {
        "key": np.asarray([config.key for config in configs], dtype=np.str_),
        "latency_ms": np.asarray(told_ms),
        "fastest_ms": np.asarray([low for low, _ in spreads]),
        "slowest_ms": np.asarray([high for _, high in spreads]),
    }
