"""Results of searches as a search writes them, small and made up: for tests of what reads them."""

from __future__ import annotations

from typing import Any

from formula_device import window_figures

from ofa_tvm.spaces import MBV3_CIFAR, SubnetConfig
from ofa_tvm.spaces.subnet_blocks import subnet_blocks
from ofa_tvm.support.files import Record
from ofa_tvm.timing.window import Timing, Window

SUBNETS = ("r32.3x2-5x2.5x2-5x2.5x2-5x2", "r32.5x4-7x2.7x2-5x4-7x4.7x3-3x2", "r24.3x2-3x2.3x2-3x2.3x2-3x2")
COST: Record = {
    "phase": "search and verify",
    "wall_s": 75.0,
    "cpu_s": 130.0,
    "energy_kwh": 0.00022,
    "energy_low_kwh": 0.00011,
    "energy_high_kwh": 0.00044,
    "method": "estimated (6 W per busy core)",
}


def timing(calibration_ms: float = 0.05, times: float = 1.0) -> Record:
    """Three windows around 0.48 ms; others disturb them where the calibration kernel takes long."""
    windows = [Window.of(window_figures(0.48 * times * share, calibration_ms, 100, 7)) for share in (1, 1.02, 0.98)]
    made = Timing(
        windows=tuple(windows), host="a CPU; 0123", measured_at="2026-11-27T01:02:03", usual_calibration_ms=0.05
    )
    return made.model_dump()


def layers(subnet: str, whole_ms: float) -> list[Record]:
    """A call for each block, all equally long."""
    blocks = subnet_blocks(MBV3_CIFAR, SubnetConfig.parse(subnet))
    return [
        {
            "layers": [f"{block.name}_project" if block.name.startswith("block") else block.name],
            "kernel": f"conv_{block.in_size}x{block.in_size}_{block.in_channels}-{block.out_channels}_k1s1_bias_b1",
            "kind": "conv",
            "time_ms": whole_ms / len(blocks),
            "kernel_ms": 1.25 * whole_ms / len(blocks),
            "flops": 2 * block.macs,
            "moved_bytes": 4 * block.in_channels * block.out_channels,
            "is_tuned": True,
        }
        for block in blocks
    ]


def pick(number: int, **changes: object) -> Record:
    """A pick as results of older versions have it."""
    values: Record = {
        "number": number,
        "subnet": SUBNETS[(number - 1) % len(SUBNETS)],
        "budget_ms": 0.5 * number,
        "predicted_ms": 0.45 * number,
        "predicted_low_ms": 0.4 * number,
        "predicted_high_ms": 0.5 * number,
        "measured_ms": 0.475 * number,
        "predicted_top1": 0.90 + number / 100,
        "validation_top1": 0.905 + number / 100,
        "test_top1": 0.8991 + number / 100,
        "macs": 12_340_000 * number,
        "parameters": 1_500_000,
        "held": True,
    }
    return {**values, **changes}


def full_pick(number: int, **changes: object) -> Record:
    """A pick with all that a search stores of it."""
    made = pick(number, timing=timing(times=number), test_error=0.003, validation_error=0.01)
    made |= {"peak_activation_bytes": 300_000, "layers": layers(made["subnet"], 0.475 * number)}
    return {**made, **changes}


def result(**changes: object) -> Record:
    """The result of an older version."""
    values: Record = {
        "schema_version": 1,
        "space": "mbv3-cifar",
        "supernet": "runs/cifar/supernet.safetensors",
        "target": "x86",
        "threads": 1,
        "fingerprint": "haswell-1t-b1-01234567",
        "budgets_ms": [0.5, 1.0],
        "picks": [pick(1), pick(2, held=False)],
        "front": [
            {"subnet": SUBNETS[number % 3], "predicted_ms": 0.2 + number / 10, "predicted_top1": 0.9 + number / 500}
            for number in range(10)
        ],
        "cost": [COST, {**COST, "phase": "measure subnets", "method": "metered (RAPL, whole package)"}],
        "cost_model": {"mape": 0.031, "spearman": 0.987, "interval_coverage": 0.9, "samples": 60, "folds": 5},
        "accuracy_predictor": {"kendall_tau": 0.81, "mae": 0.004, "samples": 90},
        "conditions": {"cpu": "Some CPU", "threads": 1, "target": {"kind": "llvm"}},
        "rounds": [{}, {}],
    }
    return {**values, **changes}


def _verified(number: int) -> Record:
    return {
        "subnet": SUBNETS[number % 3],
        "predicted_ms": 0.4 + number / 10,
        "predicted_low_ms": 0.38 + number / 10,
        "predicted_high_ms": 0.42 + number / 10,
        "verified_ms": 0.41 + number / 10,
        "predicted_top1": 0.91 + number / 100,
        "validation_top1": 0.9 + number / 100,
        "is_new": True,
    }


def full_result(front: int = 10, **changes: object) -> Record:
    """The result of today's version."""
    errors: dict[str, float] = {"model": 0.02, "additive": 0.05}
    kernel = {"kernel": "conv_16x16_16-24_k1s1_bias_b1", "best_ms": 0.01, "gflops_per_s": 100.0, "calls": 1.0}
    kernel |= {"share": 0.2, "trials": 20, "source": "template"}
    made = result(
        dtype="float32",
        batch=1,
        command="python -m ofa_tvm.search --target x86 --max-latency-ms 0.5",
        created_at="2026-11-28T01:02:03+00:00",
        ofa_tvm="1.2.3",
        picks=[full_pick(number) for number in (1, 2)],
        front=[
            {"subnet": SUBNETS[n % 3], "predicted_ms": 0.2 + 0.8 * n / front, "predicted_top1": 0.9 + 0.02 * n / front}
            for n in range(front)
        ],
        rounds=[
            {"budget_ms": 0.5, "finalists": list(SUBNETS), "within_budget": 2, "verified": [_verified(0)]},
            {"budget_ms": 1.0, "finalists": list(SUBNETS), "within_budget": 3, "verified": [_verified(1)]},
        ],
        cost_model={
            **{"mape": 0.031, "spearman": 0.987, "interval_coverage": 0.9, "samples": 60},
            "methods": {"model": {"mape": 0.031, "spearman": 0.987}, "flops": {"mape": 0.1, "spearman": 0.9}},
            "learning_curve": [{"samples": count, "mape": errors} for count in (10, 30, 48)],
            "importance": {"base": {"kernel times": 0.3}, "trees": {"depthwise_ms": 0.01}},
        },
        tuning={
            **{"folder": "logs", "tuned": 9, "fallback": 1, "fallback_calls": 0.1, "expected_gap": 0.2},
            **{"mean_subnet_ms": 0.3, "trials": 180, "kernels": [kernel], "progress_share": 0.9},
            "progress": [{"trials": count, "times_final": 1 + 1 / count} for count in (1, 2, 4, 8)],
        },
    )
    return {**made, **changes}


def bench() -> Record:
    """A comparison of two engines as ``bench --json`` prints it."""
    times = {
        engine: {"runs": 9, "median_ms": ms, "low_ms": 0.9 * ms, "high_ms": 1.1 * ms, "p90_ms": 1.2 * ms}
        for engine, ms in (("ofa_tvm", 0.5), ("ort", 1.0))
    }
    facts: dict[str, Any] = {"settings": "as it comes", "precision": "float32"}
    return {
        "space": "mbv3-cifar",
        "threads": 1,
        "machine": "Some CPU",
        "target": "x86",
        "protocols": {"blocks": "20 runs of an engine in turn"},
        "engines": {"ofa_tvm": {"version": "1.2.3", **facts}, "ort": {"version": "1.32.0", **facts}},
        "subnets": [{"subnet": SUBNETS[0], "protocols": {"blocks": times}}],
    }
