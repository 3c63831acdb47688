"""float16 and int8 against float32 on a Cortex-A76 by estimates: ``python benchmarks/arm_precisions.py [--random 1]``.

Random subnets of ``mbv3-cifar`` and of ``mbv3`` at 224 px, with the ranking's tiles; some minutes each. No ARM chip ran
any of it.
"""

from __future__ import annotations

import argparse

import numpy as np
from tuning import say

from ofa_tvm.devices.estimate.device import EstimateDevice
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import get_space
from ofa_tvm.support.dtype import DType
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.job import TunedSubnets

DTYPES: tuple[DType, ...] = ("float32", "float16", "int8")


def estimated_ms(space: str, subnets: tuple[str, ...], dtype: DType) -> list[float]:
    """Sums of the kernels of subnets."""
    target = load_target("arm", device="estimate", dtype=dtype)
    with EstimateDevice(target) as device:
        order = TunedSubnets(space, get_space(space).classes, subnets, None)
        return [timing.times_ms[0] for timing in device.time_subnets(order, WindowPlan(1, 1, 0))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=1, help="random subnets of each space")
    options = parser.parse_args()
    rng = np.random.default_rng(7)
    for name, space in (("mbv3-cifar", get_space("mbv3-cifar")), ("mbv3", get_space("mbv3").with_resolutions([224]))):
        subnets = tuple(config.key for config in space.sample_configs(rng, options.random))
        times_ms = {dtype: estimated_ms(name, subnets, dtype) for dtype in DTYPES}
        for row, subnet in enumerate(subnets):
            exact = times_ms["float32"][row]
            quicker = (
                f"{dtype} {times[row]:.3f} ms ({exact / times[row]:.2f} times as fast)"
                for dtype, times in times_ms.items()
                if dtype != "float32"
            )
            say(f"{name} {subnet}: float32 {exact:.3f} ms, {', '.join(quicker)}")


if __name__ == "__main__":
    main()
