"""How fast the largest subnet trains on this CPU: our fused norms and activations against torch's operators, in turn.

That both give the same gradients is checked first. ``--profile`` shows which operators a step's time goes to.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from store import keep

from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.spaces import SearchSpace, get_space
from ofa_tvm.supernet import norm_activation
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.plan import make_plan
from ofa_tvm.supernet.step import Step
from ofa_tvm.supernet.update import Update
from ofa_tvm.support.cores import process_cores

VALUES = Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Trained:
    """A supernet and its step, always of the same subnet and images."""

    def __init__(self, space: SearchSpace, batch: int) -> None:
        torch.manual_seed(0)
        self.supernet = channels_last(Supernet(space)).train()
        self.subnets = [space.largest]
        plan = make_plan("single-stage", 100, batch=batch)
        self._step, self._update = Step(self.supernet, plan, VALUES), Update(self.supernet, plan, self.supernet)
        rng, size = np.random.default_rng(0), space.largest.resolution
        self._images = torch.from_numpy(rng.integers(0, 256, (batch, 3, size, size), np.uint8))
        labels = torch.from_numpy(rng.integers(0, space.classes, batch))
        self._targets = torch.nn.functional.one_hot(labels, space.classes).float()

    def gradients(self) -> dict[str, torch.Tensor]:
        """Of one step."""
        self._step(self._images, self._targets, self.subnets)
        return {name: one.grad.clone() for name, one in self.supernet.named_parameters() if one.grad is not None}

    def __call__(self) -> None:
        """One step."""
        self._step(self._images, self._targets, self.subnets)
        self._update(0, 0.1)


@contextmanager
def torchs_own() -> Iterator[None]:
    """Torch's operators instead of ours."""
    with patch.object(norm_activation, "_is_fused", lambda *_: False):
        yield


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mbv3-cifar")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(process_cores())
    trained = Trained(get_space(options.space), options.batch)
    ours = trained.gradients()
    with torchs_own():
        theirs = trained.gradients()
    # What a later norm takes away, a bias before it, has a gradient of rounding errors alone.
    least = 1e-3 * max(one.norm() for one in theirs.values())
    apart = {name: float((ours[name] - one).norm() / one.norm().clamp(min=least)) for name, one in theirs.items()}
    worst = max(apart, key=lambda name: apart[name])
    print(f"gradients differ by at most {apart[worst]:.1e} of their norm ({worst})")
    if options.profile:
        with torch.profiler.profile() as profile:
            for _ in range(options.steps):
                trained()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=60))
        return

    def images_per_s() -> float:
        start = time.perf_counter()
        for _ in range(options.steps):
            trained()
        seconds = time.perf_counter() - start
        return float(options.steps * options.batch / seconds)

    images_per_s()
    found: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(options.rounds):
        found["ours"].append(images_per_s())
        with torchs_own():
            found["torch"].append(images_per_s())
    for name, speeds in found.items():
        print(f"{name}: {statistics.median(speeds):.0f} images/s ({min(speeds):.0f}-{max(speeds):.0f})")
    ratio = statistics.median(one / other for one, other in zip(found["ours"], found["torch"], strict=True))
    print(f"ours is {ratio:.2f} times as fast")
    keep("training_speed", {**vars(options), "images_per_s": found, "ratio": ratio, "torch": torch.__version__})


if __name__ == "__main__":
    main()
