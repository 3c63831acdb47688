"""Logits of many images by a network's library: copies of it, each with its own memory, share them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel, load_anew
from ofa_tvm.graph.kernel import Winners
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.hardware.target_files import load_target

BATCH = 50
"""Images of one call."""


class Classifier:
    """A network on this machine's CPU.

    Args:
        network: its layers.
        weights: folded weights.
        target: this machine.
        winners: tuned schedules by kernel.
        copies: that run at once, each on the target's threads.
    """

    def __init__(
        self, network: NetworkSpec, weights: Weights, target: TargetSpec, winners: Winners, copies: int
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / f"model{target.library_suffix}"
            assemble(network, weights, winners, ObjectCache(target.attributes), library, BATCH, target.toolchain.linker)
            self._models = [load_anew(library) for _ in range(copies)]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, classes) of normalised images (n, resolution, resolution, channels)."""
        count = len(images)
        padded = np.concatenate([images, np.zeros((-count % BATCH, *images.shape[1:]), np.float32)])
        batches = padded.reshape(-1, BATCH, *images.shape[1:])
        logits: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(batches)

        def run(number: int, model: LoadedModel) -> None:
            for row in range(number, len(batches), len(self._models)):
                logits[row] = model(batches[row])

        with ThreadPoolExecutor(len(self._models)) as pool:
            list(pool.map(run, range(len(self._models)), self._models))
        return np.concatenate(logits)[:count]


def classifiers(
    target: TargetSpec, winners: Winners, cores: int
) -> Callable[[NetworkSpec, Weights], Classifier] | None:
    """What makes classifiers of a target's networks on this machine; None where its CPU computes something else.

    What int8 kernels compute is the same on every CPU, so this one stands in for others.

    Args:
        target: what the networks are for.
        winners: its tuned schedules by kernel, which another CPU does without.
        cores: that they may use.

    Raises:
        UserError: this CPU lacks the instructions of int8.
    """
    if not target.is_this_cpu:
        if target.dtype != "int8":
            return None
        target, winners = load_target("x86", dtype="int8"), {}
        codegen_of(target)  # says what this machine lacks
    copies = max(1, cores // target.threads)
    return lambda network, weights: Classifier(network, weights, target, winners, copies)
