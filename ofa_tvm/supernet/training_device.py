"""Where a supernet is trained: a CPU, or the GPU that torch sees."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch

from ofa_tvm.supernet.plan import Device
from ofa_tvm.support.errors import UserError


def training_device(name: Device | None) -> torch.device:
    """The device to train on; by default the GPU if torch sees one.

    Args:
        name: where to train.

    Raises:
        UserError: ``cuda`` is wanted and torch sees no GPU.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        raise UserError(reason, "give --device cpu; 'python -m ofa_tvm.doctor --target cuda' looks for GPU and driver")
    return torch.device(name or ("cuda" if has_gpu else "cpu"))


@lru_cache
def has_triton(device: torch.device) -> bool:
    """Whether our Triton kernels can run there: on NVIDIA's GPUs, where torch brings Triton along."""
    return device.type == "cuda" and torch.version.cuda is not None and find_spec("triton") is not None
