"""The same subnets' libraries of two checkouts, timed in turn: ``python benchmarks/two_checkouts.py BEFORE AFTER``.

Each folder holds what ``python -m ofa_tvm.compile --random 5 --seed 3 --out FOLDER`` of a checkout wrote, from the same
tuning logs. Outputs are compared first; a figure above 1 says that the second one is slower.
"""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.compiler.threads import use_threads

ROUNDS = 40
BLOCK_MS = 30


def main() -> None:
    """Print a line for each subnet, and the geometric mean."""
    before, after = (Path(folder) for folder in sys.argv[1:3])
    use_threads(1)
    ratios = []
    for path in sorted(before.glob("*.so")):
        size = int(re.findall(r"^r(\d+)", path.name)[0])
        images = np.random.default_rng(0).standard_normal((1, size, size, 3)).astype(np.float32)
        models = [LoadedModel(folder / path.name) for folder in (before, after)]
        difference = float(np.abs(models[0](images) - models[1](images)).max())
        pairs = [[model.window(images, BLOCK_MS)[0] for model in models] for _ in range(ROUNDS)]
        ratios.append(statistics.median(other / own for own, other in pairs))
        middle = statistics.median(own for own, _ in pairs)
        print(
            f"{path.stem}: {middle:.4f} ms before, {ratios[-1]:.4f} times that after, logits differ by {difference:.1g}"
        )
    mean = float(np.exp(np.mean(np.log(ratios))))
    print(f"{len(ratios)} subnets: {mean:.4f} ({min(ratios):.4f}-{max(ratios):.4f})")


if __name__ == "__main__":
    main()
