"""How well estimated times rank kernels, on x86, where both estimates and measurements can be had.

``python benchmarks/estimates.py [--kernels 20] [--candidates 6]``: kernels of mbv3 at 224 px, with candidates
from their whole ranking; estimates from instruction counts under qemu and llvm-mca's model of this CPU's family,
measurements of all candidates of a kernel in turn. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from store import keep
from tuning import Timer, say

from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.devices.estimate.device import EstimateDevice
from ofa_tvm.hardware.machine import cpu_name
from ofa_tvm.hardware.target import Estimate
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.regression.metrics import spearman
from ofa_tvm.spaces import get_space
from ofa_tvm.tuner.candidate import Candidate

CLOCK_MHZ = 3500
WEIGHTS_GB_S = 20


def estimates(mca_cpu: str, kernels: int, most: int, weights_gb_s: float) -> dict[str, Any]:
    """Estimated and measured times, and how they agree."""
    target = load_target("x86")
    settings = Estimate(llvm=19, mca_cpu=mca_cpu, clock_mhz=CLOCK_MHZ, weights_gb_s=weights_gb_s)
    timer = Timer(target.attributes)
    chosen = list(fused_kernels(get_space("mbv3"), (224,)).values())
    chosen = chosen[:: max(1, len(chosen) // kernels)][:kernels]
    rows = []
    with EstimateDevice(target.model_copy(update={"device": "estimate", "estimate": settings})) as device:
        for spec in chosen:
            ranked = candidates(spec, timer.cache.features)
            schedules = [ranked[i] for i in sorted({round(i) for i in np.linspace(0, len(ranked) - 1, most)})]
            tried = [Candidate(spec.key, "template", schedule) for schedule in schedules]
            estimated = [result.best_ms for result in device.trials(spec, tried, None)]
            measured = timer.in_turn(spec, schedules)
            pairs = [(a, b) for a, b in zip(estimated, measured, strict=True) if a is not None]
            rows.append(
                {"kernel": spec.key, "estimated_ms": [a for a, _ in pairs], "measured_ms": [b for _, b in pairs]}
            )
            say(f"{spec.key}: {json.dumps([[round(1e3 * a, 1), round(1e3 * b, 1)] for a, b in pairs])}")
    return {"mca_cpu": mca_cpu, "cpu": cpu_name(), "weights_gb_s": weights_gb_s, **_agreement(rows), "kernels": rows}


def _agreement(rows: list[dict[str, Any]]) -> dict[str, Any]:
    within, lost, first_lost = [], [], []
    for row in rows:
        estimated, measured = np.array(row["estimated_ms"]), np.array(row["measured_ms"])
        if len(measured) > 2:
            within.append(spearman(estimated, measured))
        lost.append(float(measured[estimated.argmin()] / measured.min() - 1))
        first_lost.append(float(measured[0] / measured.min() - 1))
    pooled = [np.concatenate([row[name] for row in rows]) for name in ("estimated_ms", "measured_ms")]
    ratio = np.log(pooled[1] / pooled[0])
    return {
        "pairs": len(ratio),
        "spearman_of_all": spearman(*pooled),
        "spearman_within_a_kernel": {"median": float(np.median(within)), "mean": float(np.mean(within))},
        "spread_of_measured_over_estimated": float(np.exp(ratio.std()) - 1),
        "measured_over_estimated": float(np.exp(ratio.mean())),
        "slower_than_the_best_of_these": {
            "the estimate's choice": float(np.mean(lost)),
            "the first candidate": float(np.mean(first_lost)),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mca-cpu", default="znver3")
    parser.add_argument("--kernels", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--weights-gb-s", type=float, default=WEIGHTS_GB_S)
    options = parser.parse_args()
    keep("estimates-x86", estimates(options.mca_cpu, options.kernels, options.candidates, options.weights_gb_s))


if __name__ == "__main__":
    main()
