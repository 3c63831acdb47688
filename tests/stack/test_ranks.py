"""Two processes train one supernet: the same weights in both, and one alone goes on where they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ofa_tvm.supernet.ranks import Ranks
from ofa_tvm.support.errors import UserError

SCRIPT = Path(__file__).parents[1] / "together.py"


def run(folder, processes, stop):
    torchrun = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    command = [sys.executable, *torchrun, SCRIPT, folder, str(stop)]
    done = subprocess.run(command, cwd=SCRIPT.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


def test_two_train_together_and_one_goes_on(tmp_path):
    first, second = run(tmp_path, 2, 6)
    assert first["count"] == second["count"] == 2
    assert first["weights"] == second["weights"]
    assert first["spread"] == second["spread"] == [30.5, 10.5, 40.5, 10.5, 50.5]
    assert sorted(first["rows"] + second["rows"]) == list(range(8))
    (alone,) = run(tmp_path, 1, 12)
    assert (alone["count"], alone["began"]) == (1, 6)
    assert alone["weights"] != first["weights"]
    assert alone["spread"] == first["spread"]


def test_a_batch_that_cannot_be_divided():
    with pytest.raises(UserError, match="a batch of 10 cannot be divided among 4 processes"):
        Ranks(1, 4).share(torch.arange(10))
