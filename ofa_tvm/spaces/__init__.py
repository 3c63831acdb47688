"""Search spaces by name. A new family is one file here and one line in ``SPACES``."""

from ofa_tvm.spaces.efficientnet_lite import EFFICIENTNET_LITE
from ofa_tvm.spaces.fused import FUSED, FUSED_CIFAR
from ofa_tvm.spaces.mobilenet_v3 import MBV3, MBV3_CIFAR, MBV3_CIFAR_LARGE, MBV3_SMALL, MBV3_W12
from ofa_tvm.spaces.own_model import OwnModel, own_model
from ofa_tvm.spaces.proxyless import PROXYLESS
from ofa_tvm.spaces.resnet import RESNET50D, RESNET50D_W065, RESNET50D_W08
from ofa_tvm.spaces.space import Genomes, SearchSpace, SubnetConfig
from ofa_tvm.support.errors import UserError

SPACES: dict[str, SearchSpace] = {
    space.name: space
    for space in (
        *(MBV3, MBV3_W12, MBV3_CIFAR, MBV3_CIFAR_LARGE, MBV3_SMALL, EFFICIENTNET_LITE, PROXYLESS),
        *(FUSED, FUSED_CIFAR, RESNET50D, RESNET50D_W08, RESNET50D_W065),
    )
}


def get_space(name: str) -> SearchSpace:
    """The space of that name.

    Raises:
        UserError: there is none.
    """
    if name not in SPACES:
        raise UserError(f"unknown space '{name}'", f"choose one of {', '.join(sorted(SPACES))}")
    return SPACES[name]


def described_space(name: str, classes: int, own: str) -> SearchSpace:
    """The space of a name and a number of classes, or that of a model of ``SearchSpace.own``.

    Raises:
        UserError: there is none.
    """
    return own_model(own) if own else get_space(name).with_classes(classes)


__all__ = [
    "EFFICIENTNET_LITE",
    "FUSED",
    "FUSED_CIFAR",
    "MBV3",
    "MBV3_CIFAR",
    "MBV3_CIFAR_LARGE",
    "MBV3_SMALL",
    "MBV3_W12",
    "PROXYLESS",
    "RESNET50D",
    "RESNET50D_W065",
    "RESNET50D_W08",
    "SPACES",
    "Genomes",
    "OwnModel",
    "SearchSpace",
    "SubnetConfig",
    "described_space",
    "get_space",
    "own_model",
]
