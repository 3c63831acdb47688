"""A training in words: what it will cost, and what it gave."""

from __future__ import annotations

from ofa_tvm.accuracy.uncertainty import standard_error
from ofa_tvm.support.command import share, table
from ofa_tvm.training.session import ExpectedTraining, TrainingOutcome

LONG_S = 3600
"""Seconds from which on it is said what makes a training shorter."""


def expected_text(expected: ExpectedTraining) -> str:
    """Images, steps, time and energy."""
    plan, held_out, trainings, seconds = expected.plan, expected.held_out, expected.trainings, expected.cost.wall_s
    more = f" ({held_out} more held out)" if trainings == 1 else ""
    times = f", {trainings} times for a cross-validation that holds out {held_out}" if trainings > 1 else ""
    minutes = max(1, round(seconds / 60))
    hours = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{minutes} minute{'s' * (minutes > 1)}"
    text = (
        f"{expected.images} images{more}, {plan.steps} steps of {plan.batch} ({expected.epochs:.1f} epochs), "
        f"{plan.recipe}{times}: about {hours}, {expected.cost.energy}, without evaluation"
    )
    if seconds < LONG_S:
        return text
    folds = "; --folds 1 trains once, and judges subnets by fewer images" if trainings > 1 else ""
    return f"{text}\nfor less: half the --steps take half the time (now {plan.steps}){folds}"


def outcome_text(outcome: TrainingOutcome) -> str:
    """Accuracies on the test images, the predictor's quality, the cost."""
    rows = [
        [name, subnet.key, share(subnet.top1, standard_error(subnet.top1, outcome.test_images))]
        for name, subnet in outcome.test.items()
    ]
    lines = [table(["subnet", "key", "test top-1"], rows)]
    if (predictor := outcome.predictor) is not None:
        lines.append(
            f"accuracy predictor: Kendall tau {predictor.kendall_tau:.3f}, mean error {predictor.mae:.2%}, "
            f"each fitted to {predictor.samples} subnets and asked about {predictor.held_out} others"
        )
    done = "wrote" if outcome.has_written else "was trained before:"
    return "\n".join([*lines, str(outcome.cost), f"{done} {outcome.checkpoint}"])
