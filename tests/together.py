"""Run by torchrun in test_ranks.py: train a few steps together, and write what each process has then."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from ofa_tvm.data.dataset import Dataset, Preprocess, Split
from ofa_tvm.spaces import get_space
from ofa_tvm.supernet.plan import make_plan
from ofa_tvm.supernet.ranks import end_process, joined
from ofa_tvm.supernet.training import Trainer

STEPS, BATCH = 12, 8


def images(count: int, seed: int) -> Split:
    """Noise of a class's brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    bright = 60 * labels[:, None, None, None] + rng.integers(0, 60, (count, 32, 32, 3))
    return Split(bright.astype(np.uint8), labels)


def main(folder: Path, stop: int) -> None:
    """Train up to a step."""
    torch.set_num_threads(1)
    ranks = joined(torch.device("cpu"))
    dataset = Dataset("noise", ("a", "b", "c"), Preprocess((0.5,) * 3, (0.25,) * 3), images(48, 0), images(12, 1), 8)
    plan = make_plan("single-stage", STEPS, batch=BATCH)
    trainer = Trainer(get_space("mbv3-cifar").with_classes(3), dataset, plan, folder, ranks=ranks)
    began = trainer.steps_done
    while trainer.steps_done < stop:
        trainer.step()
    if ranks.is_first:
        trainer._save()
    ranks.wait()
    values = torch.cat([one.detach().flatten() for one in trainer.supernet.parameters()])
    found = {
        "began": began,
        "count": ranks.count,
        "weights": hashlib.sha256(values.numpy().tobytes()).hexdigest(),
        "spread": ranks.spread([3, 1, 4, 1, 5], lambda number: 10.0 * number + 0.5),
        "rows": ranks.share(torch.arange(BATCH)).tolist(),
    }
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps(found))
    if ranks.count > 1:
        end_process(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
