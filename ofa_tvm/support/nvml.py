"""The energy that an NVIDIA GPU has used by its driver's own count, through NVML's C interface; from Volta on.

A copy lies in packs beside ``measure.py``: this file knows nothing of ofa_tvm, and any Python from 3.9 on reads it.
"""

from __future__ import annotations

import ctypes
import os

LIBRARY = "libnvidia-ml.so.1"


def gpu_millijoules() -> float | None:
    """Of the first visible GPU, whole, since its driver was loaded; None where nothing counts."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    gpu, count = ctypes.c_void_p(), ctypes.c_ulonglong()
    try:
        nvml = ctypes.CDLL(LIBRARY)
        failed = nvml.nvmlInit_v2()
        if visible.isdecimal():
            failed = failed or nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(visible)), ctypes.byref(gpu))
        else:
            failed = failed or nvml.nvmlDeviceGetHandleByUUID(os.fsencode(visible), ctypes.byref(gpu))
        failed = failed or nvml.nvmlDeviceGetTotalEnergyConsumption(gpu, ctypes.byref(count))
    except (OSError, AttributeError):  # no driver, or one that is too old
        return None
    return None if failed else float(count.value)
