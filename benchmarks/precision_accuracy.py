"""Accuracy that int8, bfloat16 or float16 costs: random subnets through compiled libraries, on test images.

    python benchmarks/precision_accuracy.py --supernet mbv3-cifar --subnets 20 --dtype bfloat16

Each line has the subnet's top-1 in float32 and the other type, their difference on the same images with its 95 %
interval, the share of images that are decided otherwise, and the logits' signal over their change in dB. float16 is
what ARM computes, by code for this x86 CPU, slowly: LLVM rounds each operation.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu import object_cache
from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.classifier import Classifier
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.evaluate import Evaluator, supernet_images
from ofa_tvm.supernet.facts import checkpoint_path
from ofa_tvm.supernet.host_threads import use_host_threads
from ofa_tvm.supernet.subnet import Subnet

Logits = NDArray[np.float32]


def emit_float16() -> None:
    """Let kernels of float16 be emitted for this CPU, which no target does: they would be slower than float32's."""
    vars(object_cache)["cpu_features"] = lambda target: replace(cpu_features(target), has_float16=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernet", default="mbv3-cifar", help="shipped name, or folder")
    parser.add_argument("--subnets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--dtype", choices=("int8", "bfloat16", "float16"), default="int8")
    parser.add_argument("--data")
    options = parser.parse_args()
    if options.dtype == "float16":
        emit_float16()
    checkpoint = checkpoint_path(Path(options.supernet))
    supernet, facts = load_supernet(checkpoint)
    dataset = supernet_images(options.data, facts, checkpoint, print)
    threads, target = use_host_threads(None), load_target("x86")
    in_float = Evaluator(dataset, dataset.test)
    in_other = Evaluator(dataset, dataset.test, dtype=options.dtype)
    labels, losses = dataset.test.labels, []

    def logits_of(subnet: Subnet, weights: Weights) -> Logits:
        return in_float.logits(subnet, Classifier(subnet.network, weights, target, {}, threads))

    for config in supernet.space.sample_configs(np.random.default_rng(options.seed), options.subnets):
        subnet = in_float.subnet(supernet, config)
        exact, levels = (logits_of(subnet, evaluator.weights(subnet)) for evaluator in (in_float, in_other))
        right, still_right = (logits.argmax(1) == labels for logits in (exact, levels))
        change = still_right.astype(float) - right
        losses.append(-100 * change.mean())
        print(
            f"{config.key}: float32 {100 * right.mean():.2f} %, {options.dtype} {100 * still_right.mean():.2f} %, "
            f"{100 * change.mean():+.2f} points +-{196 * change.std() / len(change) ** 0.5:.2f}, "
            f"{(exact.argmax(1) != levels.argmax(1)).mean():.2%} otherwise, "
            f"{10 * np.log10((exact**2).mean() / ((levels - exact) ** 2).mean()):.1f} dB",
            flush=True,
        )
    error = 1.96 * np.std(losses, ddof=1) / len(losses) ** 0.5
    print(f"{len(losses)} subnets lose {np.mean(losses):.3f} +-{error:.3f} points, at most {max(losses):.2f}")


if __name__ == "__main__":
    main()
