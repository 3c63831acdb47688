"""Warnings about a supernet's accuracies, given before a search uses them."""

from __future__ import annotations

import numpy as np

from ofa_tvm.accuracy.predictor import PredictorQuality
from ofa_tvm.accuracy.samples import AccuracySamples
from ofa_tvm.accuracy.uncertainty import standard_error

WEAK_TAU = 0.5
"""Kendall's tau below which a predictor's order is little better than none."""
NEEDED = 2.0
"""Standard errors that subnets should lie apart, so that a search can distinguish them."""

MOST_IMAGES = 1_000_000
"""Held-out images that anybody can be told to get."""
MORE_IMAGES = (
    "more training images would tell: a tenth or more of them is held out, or all, each once, with train --folds 4; "
    "test images in a folder val/ of their own leave more of train/ for that"
)
"""What raises the number of held-out images, which no option names."""


def doubts(samples: AccuracySamples, images: int, report: PredictorQuality) -> list[str]:
    """Warnings about too few images and a weak predictor; none where all is well.

    Args:
        samples: evaluated subnets.
        images: held-out images that they were evaluated on.
        report: quality of the predictor, see ``AccuracySamples.report``.
    """
    top1 = np.asarray(list(samples.learnt.values()))
    error = standard_error(float(top1.mean()), images)
    spread = max(0.0, float(top1.var()) - error**2) ** 0.5  # part of the variance comes from counting
    sentences = []
    guessing = 1 / samples.space.classes
    if top1.max() <= guessing + NEEDED * standard_error(guessing, images):
        sentences.append(
            f"the best of {len(top1)} subnets is right on {top1.max():.1%} of {images} held-out images, which guessing "
            f"among {samples.space.classes} classes gives, too: nothing was learned; train longer (--steps), or with "
            "another learning rate (--set rate_scale=...), and look whether the loss falls"
        )
    elif spread < NEEDED * error:
        enough = round(images * (NEEDED * error / max(spread, 1e-9)) ** 2, -2)
        if enough <= MOST_IMAGES:
            found = f"subnets differ by {spread:.1%} beyond that"
            remedy = f"about {enough:,.0f} such images would tell them apart"
        else:
            found = f"the {len(top1)} subnets that were evaluated differ by no more than chance"
            remedy = f"which of them is better is not known; {MORE_IMAGES}"
        sentences.append(
            f"{images} held-out images tell an accuracy to ±{error:.1%} (standard error), and {found}: much of a "
            f"pick's accuracy is chance; {remedy}"
        )
    if report.kendall_tau < WEAK_TAU:
        sentences.append(
            f"the accuracy predictor orders subnets weakly (Kendall tau {report.kendall_tau:.2f}): more held-out "
            "images, longer training or more evaluated subnets (train --accuracy-samples) help; ties go to the faster "
            "subnet"
        )
    return sentences
