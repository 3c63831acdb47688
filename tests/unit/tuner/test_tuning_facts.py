"""Quality over trials, from the times of a log's trials."""

from __future__ import annotations

import pytest

from ofa_tvm.tuner.tuning_facts import TuningPoint, progress


@pytest.mark.parametrize(
    ("times", "points"),
    [
        ({}, ()),
        ({"a": [None, None]}, ()),
        ({"a": [2.0]}, ((1, 1.0),)),
        ({"a": [4.0, None, 2.0]}, ((1, 2.0), (2, 2.0), (3, 1.0))),
        ({"a": [None, 3.0, 4.0, 2.0]}, ((1, 1.5), (2, 1.5), (3, 1.0))),
        ({"a": [4.0, 2.0], "b": [1.0]}, ((1, 1.75), (2, 1.0))),
    ],
    ids=["none", "only failures", "one", "a failure between", "a failure first", "two kernels by their share"],
)
def test_quality_over_trials(times, points):
    found = progress(times, {key: share for key, share in (("a", 0.75), ("b", 0.25)) if key in times})
    assert found == tuple(TuningPoint(*point) for point in points)
