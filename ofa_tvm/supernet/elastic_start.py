"""From a model as it is to an elastic supernet: norms measured on images, the most important channels first.

A model's norms are folded into its convolutions. A supernet needs them, because a narrower layer gives other sums: so
each convolution gets a norm with the mean and variance that it has on some images, which changes nothing that the
whole network computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ofa_tvm.data.dataset import Dataset
from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces.own_model import OwnModel, elastic_model
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.depthwise import depthwise_conv2d, padded_conv2d
from ofa_tvm.supernet.elastic import ElasticConv, ElasticDepthwise, Layer, channels_last, run
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.norm_activation import finish
from ofa_tvm.supernet.sorting import sort_channels
from ofa_tvm.support.errors import UserError

IMAGES, BATCH = 512, 64


@torch.inference_mode()
def elastic_supernet(fixed: Supernet, space: OwnModel, dataset: Dataset, resolutions: Sequence[int] = ()) -> Supernet:
    """An elastic supernet whose largest subnet computes what a model does.

    Args:
        fixed: the model.
        space: its space of one.
        dataset: training images and preprocessing.
        resolutions: input sizes that the space has; empty for all that it can have.

    Raises:
        UserError: it has no blocks that can be cut.
    """
    elastic, names = elastic_model(space)
    _require_separable(elastic)
    norms = _norms(fixed, space, _batches(dataset, space.model.resolution))
    supernet = Supernet(elastic.trained_at(resolutions))
    parameters = supernet.state_dict()
    for old, tensor in fixed.state_dict().items():
        layer, _, part = old.removeprefix("layers.").partition(".")
        new = names.get(layer, layer)
        if part.startswith("matrices") or (layer in norms and part == "bias"):
            continue
        parameters[f"layers.{new}.{part}"].copy_(tensor)
    for layer, norm in norms.items():
        for part, tensor in norm.tensors(_epsilon(supernet)).items():
            parameters[f"layers.{names.get(layer, layer)}.norm.{part}"].copy_(tensor)
    sort_channels(supernet)
    return channels_last(supernet).eval()


def _require_separable(space: OwnModel) -> None:
    """Refuse a space whose blocks cannot be told apart, before hours of training.

    Raises:
        UserError: what a block costs depends on others.
    """
    try:
        SubnetTable(space)
    except ValueError as error:
        raise UserError(
            f"{space.name}: what a block costs depends on other blocks", "tune and deploy the model as it is"
        ) from error


def _epsilon(supernet: Supernet) -> float:
    return supernet.space.norm_epsilon


def _batches(dataset: Dataset, resolution: int) -> Iterator[Tensor]:
    rows = np.random.default_rng(0).permutation(len(dataset.train))[:IMAGES]
    for images in to_tensor(dataset.train.images[rows]).split(BATCH):  # type: ignore[no-untyped-call]
        yield preprocess(images, dataset.preprocess, resolution)


class _Norm:
    """What a convolution gives by channel, and what is added to it."""

    def __init__(self, bias: Tensor) -> None:
        self._bias = bias.double()
        self._count = 0
        self._sum = self._squares = torch.zeros_like(self._bias)

    def see(self, maps: Tensor) -> None:
        """Count a batch of maps, (batch, channels, height, width)."""
        wide = maps.double()
        self._count += maps.numel() // maps.shape[1]
        self._sum = self._sum + wide.sum((0, 2, 3))
        self._squares = self._squares + wide.square().sum((0, 2, 3))

    def tensors(self, epsilon: float) -> dict[str, Tensor]:
        """Those of a norm that adds the bias and changes nothing else."""
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0)
        weight = (variance + epsilon).sqrt()
        parts = {"weight": weight, "bias": self._bias + mean, "running_mean": mean, "running_var": variance}
        return {name: tensor.float() for name, tensor in parts.items()}


def _norms(fixed: Supernet, space: OwnModel, batches: Iterator[Tensor]) -> dict[str, _Norm]:
    """Statistics of all convolutions of a model, by layer."""
    norms: dict[str, _Norm] = {}

    def watched(name: str) -> Layer:
        module = fixed.layer(name)
        if not isinstance(module, ElasticConv | ElasticDepthwise):
            return module

        def layer(inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
            bias = torch.zeros(spec.out_channels) if module.bias is None else module.bias
            if spec.kind == "depthwise":
                maps = depthwise_conv2d(inputs, module.kernel(spec), spec.stride, spec.pads)
            else:
                maps = padded_conv2d(inputs, module.kernel(spec), spec.stride, spec.pads, spec.groups)
            norms.setdefault(name, _Norm(bias)).see(maps)
            return finish(maps + bias[:, None, None], spec.activation, residual)

        return layer

    for images in batches:
        run(space.model, images, watched)
    return norms
