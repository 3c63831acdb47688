"""Which blocks of an int8 network stay float32, so that it holds a bound of accuracy; decided on held-out images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.bundle.answers import WHAT_ELSE, Loss
from ofa_tvm.bundle.manifest import Precision
from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.loaded_model import load_anew
from ofa_tvm.data.dataset import Dataset, Split
from ofa_tvm.graph.kernel import Winners
from ofa_tvm.graph.mixed import Unit, kept_in_float32, kept_layers, units
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.classifier import Classifier, classifiers
from ofa_tvm.spaces.subnet_blocks import block_of_call
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.subnet import Subnet
from ofa_tvm.support.console import Task, log
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.turns import WindowPlan, in_turn
from ofa_tvm.timing.window import Window
from ofa_tvm.tuner.log import TuningLog

JUDGED_IMAGES = 500
"""Held-out images that tell how much a block hurts."""
CONVERSION_MACS = 8
"""Multiply-accumulates of float32 that take about as long as to convert a number."""
TIMED = WindowPlan(windows=5, window_ms=100, gap_s=0)


def all_winners(tuning_log: TuningLog) -> Winners:
    """Winners of a log in any precision, and of the float32 log of the same target."""
    in_float32 = tuning_log.target.model_copy(update={"dtype": "float32"})
    return {**TuningLog(in_float32, tuning_log.root).winners, **tuning_log.winners}


@dataclass(frozen=True)
class PrecisionByBlock:
    """An int8 network whose blocks may stay float32.

    Args:
        dataset: its held-out images decide.
        subnet: the recalibrated subnet.
        weights: of its int8 form.
        target: what the network is for.
        tuning_log: the target's.
    """

    dataset: Dataset
    subnet: Subnet
    weights: Weights
    target: TargetSpec
    tuning_log: TuningLog

    def choose(self, most_lost: float) -> tuple[Weights, Precision | None]:
        """Keep blocks in float32 until a bound is held, first those that hurt most for what they cost.

        Args:
            most_lost: share of the images that may be lost against float32, by the upper end of the 95 % interval.

        Returns:
            The weights, and what was decided; None where int8 alone holds the bound.

        Raises:
            UserError: no such network holds it, or there are no held-out images.
        """
        if not (images := len(self.dataset.validation)):
            raise UserError(
                f"{self.dataset.name} has no held-out images that could tell what int8 costs", "leave out --dtype"
            )
        int8_loss = self._loss(())
        log(f"int8 loses {_points(int8_loss)} on {images} held-out images")
        if int8_loss.most <= most_lost:
            return self.weights, None
        network, blocks = self.subnet.network, units(self.subnet.network)
        kept, loss = self._enough(self._most_harmful_first(blocks), int8_loss, most_lost)
        if loss.most > most_lost:
            raise UserError(
                f"no int8 network holds {100 * most_lost:g} points for sure: int8 loses {_points(int8_loss)} on "
                f"{images} held-out images, with {len(kept)} of {len(blocks)} blocks in float32 {_points(loss)}",
                WHAT_ELSE,
            )
        weights = self._weights(kept)
        in_float32 = kept_layers(weights)
        return weights, Precision(
            layers={layer.name: "float32" if layer.name in in_float32 else "int8" for layer in network.layers},
            blocks=tuple(map(block_of_call, kept)),
            of_blocks=len(blocks),
            images=images,
            int8_lost=int8_loss.share,
            lost=loss.share,
            most_lost=loss.most,
            time_ratio=self._time_ratio(weights) if self.target.is_this_cpu else None,
        )

    def _enough(self, order: Sequence[Unit], loss: Loss, most_lost: float) -> tuple[Sequence[Unit], Loss]:
        """The first blocks that are enough, less those that turn out not to be needed; all but one if none are."""
        kept = order[:0]
        for count in range(1, len(order)):
            kept = order[:count]
            loss = self._loss(kept)
            log(f"{count} of {len(order)} blocks in float32, {block_of_call(kept[-1])} too: {_points(loss)}")
            if loss.most <= most_lost:
                break
        if loss.most > most_lost:
            return kept, loss
        for block in sorted(kept[:-1], key=self._work, reverse=True):
            fewer = [other for other in kept if other != block]
            loss_of_fewer = self._loss(fewer)
            log(f"{block_of_call(block)} in int8 again: {_points(loss_of_fewer)}")
            if loss_of_fewer.most <= most_lost:
                kept, loss = fewer, loss_of_fewer
        return kept, loss

    def _most_harmful_first(self, blocks: Sequence[Unit]) -> list[Unit]:
        """By the change of the logits when a block alone is int8, for what it costs in float32."""
        split = self.dataset.validation
        rows = np.linspace(0, len(split) - 1, min(JUDGED_IMAGES, len(split))).astype(int)
        few = self._evaluator(split.take(rows))
        exact = self._logits(few, blocks)
        harm: dict[Unit, float] = {}
        with Task("judging blocks", len(blocks)) as task:
            for block in blocks:
                logits = self._logits(few, [other for other in blocks if other != block])
                harm[block] = float(((logits - exact) ** 2).mean())
                task.advance()
        return sorted(blocks, key=lambda block: -harm[block] / self._work(block))

    def _work(self, block: Unit) -> int:
        """Multiply-accumulates, with what it takes to convert the maps that a block reads and writes."""
        layers = [layer for layer in self.subnet.network.layers if layer.name in block]
        first, last = layers[0], layers[-1]
        converted = first.in_channels * first.in_size**2 + last.out_channels * last.out_size**2
        return sum(layer.macs for layer in layers) + CONVERSION_MACS * converted

    def _loss(self, kept: Collection[Unit]) -> Loss:
        """On the held-out images, with these blocks in float32."""
        return Loss.of(self._right(kept), self._right_in_float32)

    @cached_property
    def _right_in_float32(self) -> NDArray[np.bool_]:
        return self._right(units(self.subnet.network))

    def _right(self, kept: Collection[Unit]) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = self._logits(self._held_out, kept).argmax(1) == self.dataset.validation.labels
        return right

    @cached_property
    def _held_out(self) -> Evaluator:
        return self._evaluator(self.dataset.validation)

    def _evaluator(self, split: Split) -> Evaluator:
        return Evaluator(self.dataset, split, calibration_images=0)

    def _weights(self, kept: Collection[Unit]) -> Weights:
        return kept_in_float32(self.subnet.network, self.weights, [layer for unit in kept for layer in unit])

    def _logits(self, evaluator: Evaluator, kept: Collection[Unit]) -> NDArray[np.float32]:
        return evaluator.logits(self.subnet, self._library(self.subnet.network, self._weights(kept)))

    @cached_property
    def _library(self) -> Callable[[NetworkSpec, Weights], Classifier]:
        library = classifiers(self.target, all_winners(self.tuning_log), process_cores())
        assert library is not None, "int8 runs on every CPU"
        return library

    def _time_ratio(self, mixed: Weights) -> float:
        """Time of a call over that of int8 alone."""
        network, target = self.subnet.network, self.target
        shape = (target.batch, network.resolution, network.resolution, network.in_channels)
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        with tempfile.TemporaryDirectory() as folder:
            subjects: list[Callable[[], Window]] = []
            for name, weights in (("mixed", mixed), ("int8", self.weights)):
                library = Path(folder) / f"{name}{target.library_suffix}"
                codegen_of(target).build(network, weights, all_winners(self.tuning_log), library)
                subjects.append(partial(_window, load_anew(library).window, images))
            slower, faster = (median(window.p50_ms for window in windows) for windows in in_turn(subjects, TIMED))
        return slower / faster


def _window(timed: Callable[[NDArray[np.float32], float], list[float]], images: NDArray[np.float32]) -> Window:
    return Window.of(timed(images, TIMED.window_ms))


def _points(loss: Loss) -> str:
    return f"{100 * loss.share:.2f} ± {100 * loss.error:.2f} points"
