"""What a training is expected to cost, in words."""

from __future__ import annotations

import pytest

from ofa_tvm.reporting.training_text import expected_text
from ofa_tvm.supernet.plan import make_plan
from ofa_tvm.support.ledger import estimated
from ofa_tvm.training.session import ExpectedTraining


@pytest.mark.parametrize(
    ("seconds", "trainings", "said"),
    [
        (3000, 5, "without evaluation"),
        (23_000, 1, "(now 2000)"),
        (23_000, 5, "(now 2000); --folds 1 trains once, and judges subnets by fewer images"),
    ],
)
def test_a_long_training_says_what_shortens_it(seconds, trainings, said):
    plan = make_plan("single-stage", 2000, batch=64)
    text = expected_text(ExpectedTraining(plan, 150, 37, trainings, estimated("train", seconds, seconds)))
    assert text.endswith(said)
    assert ("half the --steps" in text) == (seconds >= 3600)
