"""Supernets read from official files against OFA's own code, all numbers random, in torch and compiled.

The oracle is of development only (MIT): ``pip install --no-deps ofa==0.1.0.post202307202001``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.classifier import BATCH, Classifier
from ofa_tvm.spaces import get_space
from ofa_tvm.supernet.ofa_files import read_ofa
from ofa_tvm.supernet.subnet import Subnet, extract

SUBNETS, OF_RESNETS = 20, 7
"""Of a space; of each of the three of one family, whose kernels take long to compile."""
LARGEST = 160
"""Pixels, so that it does not take long."""
CALIBRATED = (2, 64)
"""Batches that recalibrate, and images of each."""
CHOICES: dict[str, Any] = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
RESNETS: dict[str, Any] = {"depth_list": [0, 1, 2], "expand_ratio_list": [0.2, 0.25, 0.35]}
RESNETS["width_mult_list"] = [0.65, 0.8, 1.0]
ABSENT = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets")


class Stub(ModuleType):
    """A library that the oracle imports and does not use here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="module")
def networks() -> Any:
    """OFA's networks."""
    pytest.importorskip("ofa", reason="the oracle is not installed")
    for name in (*ABSENT, "tqdm", "yaml", "matplotlib", "matplotlib.pyplot", "horovod", "horovod.torch"):
        if name.startswith("torchvision") or importlib.util.find_spec(name.partition(".")[0]) is None:
            parent, _, child = name.rpartition(".")
            sys.modules[name] = Stub(name)
            if parent:
                setattr(sys.modules[parent], child, sys.modules[name])
    import ofa.imagenet_classification.elastic_nn.networks as found

    return found


def randomise(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            drawn = torch.randn(tensor.shape, generator=generator)
            if "matrix" in name:
                tensor.copy_(torch.eye(len(tensor)) + 0.1 * drawn / len(tensor) ** 0.5)
            elif "running_var" in name or (tensor.dim() == 1 and name.endswith("bn.weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.dim() == 1:
                tensor.copy_(0.2 * drawn)
            elif tensor.dim() > 1:
                tensor.copy_(drawn * (2 / np.prod(tensor.shape[1:])) ** 0.5)


def apart(known: torch.Tensor, found: torch.Tensor) -> float:
    return float((known - found).abs().max() / known.abs().max())


def compiled(subnet: Subnet, images: torch.Tensor) -> torch.Tensor:
    classify = Classifier(subnet.network, subnet.folded(), load_target("x86"), {}, 1)
    few = images[:BATCH].permute(0, 2, 3, 1).contiguous().numpy()
    return torch.from_numpy(classify(few))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("family", "space", "options"),
    [
        ("OFAMobileNetV3", "mbv3", {**CHOICES, "width_mult": 1.0}),
        ("OFAMobileNetV3", "mbv3-w1.2", {**CHOICES, "width_mult": 1.2}),
        ("OFAProxylessNASNets", "proxyless", {**CHOICES, "width_mult": 1.3, "base_stage_width": "proxyless"}),
        ("OFAResNets", "resnet50d", RESNETS),
        ("OFAResNets", "resnet50d-w0.8", RESNETS),
        ("OFAResNets", "resnet50d-w0.65", RESNETS),
    ],
)
def test_logits_are_the_official_ones(networks, tmp_path: Path, family, space, options):
    from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

    official = getattr(networks, family)(dropout_rate=0, **options).eval()
    randomise(official)
    torch.save({"state_dict": official.state_dict()}, path := tmp_path / "official")
    ours = read_ofa(path, getattr(get_space(space), "width", 1.0)).eval()
    assert ours.space.name == space
    generator = torch.Generator().manual_seed(1)
    number = OF_RESNETS if family == "OFAResNets" else SUBNETS
    small = [size for size in ours.space.resolutions if size <= LARGEST]
    for config in ours.space.with_resolutions(small).sample_configs(np.random.default_rng(1), number):
        arch = ours.space.to_ofa(config)
        official.set_active_subnet(**{name: value for name, value in arch.items() if name != "r"})
        alone = official.get_active_subnet(preserve_weight=True).eval()
        count, images = CALIBRATED
        shape = (images, 3, config.resolution, config.resolution)
        batches = [torch.randn(shape, generator=generator) for _ in range(count)]
        asked = torch.randn((2, *shape[1:]), generator=generator)
        subnet = extract(ours, config)
        with torch.inference_mode():
            known = alone(asked)
            assert apart(known, official(asked)) < 1e-5
            assert apart(known, ours(asked, config)) < 1e-4
            assert apart(known, subnet(asked)) < 1e-4
            assert apart(known, compiled(subnet, asked)) < 1e-4
            set_running_statistics(alone, [(batch, None) for batch in batches])
            subnet.calibrate(batches)
            known = alone.eval()(asked)
            assert apart(known, subnet(asked)) < 1e-4
            assert apart(known, compiled(subnet, asked)) < 1e-4
