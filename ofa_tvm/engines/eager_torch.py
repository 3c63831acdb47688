"""torch in eager mode, as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights


class Torch(Engine):
    """torch in eager mode: what a subnet costs without a compiler."""

    package = "torch"
    settings = "eager, inference mode, channels_last, batch norm folded"

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Write the weights."""
        from safetensors.numpy import save_file

        save_file(dict(weights), folder / "model.safetensors")
        return folder / "model.safetensors"

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Read the weights."""
        from safetensors.numpy import load

        from ofa_tvm.supernet.folded import FoldedSubnet

        return _EagerTorch(FoldedSubnet(network, load(file.read_bytes()), threads))


class _EagerTorch(Model):
    def __init__(self, subnet: Any) -> None:
        self._subnet = subnet

    def bind(self, images: Array) -> Call:
        inputs, run = self._subnet.inputs(images), self._subnet
        return lambda: run(inputs)

    def logits(self, output: Any) -> Array:
        return np.asarray(output.numpy())
