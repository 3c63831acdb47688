"""The verdict on a benchmark's windows, and what it advises."""

from __future__ import annotations

import pytest

from ofa_tvm.engines import stability
from ofa_tvm.engines.comparison import Timing
from ofa_tvm.engines.stability import Watch


def timings(*apart):
    return [Timing(3, 1.0, 1.0, 1.0 + one, 1.0, 1.0) for one in apart]


@pytest.mark.parametrize(
    ("apart", "verdict"),
    [((0.0, 0.01, 0.02), "stable"), ((0.01, 0.03, 0.5), "fair"), ((0.01, 0.06, 0.07), "unstable")],
)
def test_the_verdict_is_of_the_median_timing(apart, verdict):
    found = Watch().judge(timings(*apart), 4.0)
    assert found.verdict == verdict
    assert found.apart == pytest.approx(sorted(apart)[1])
    assert found.most_apart == pytest.approx(max(apart))
    assert bool(found.remedies) == (verdict != "stable")
    assert found.record()["remedies"] == list(found.remedies)


@pytest.mark.parametrize(
    ("seen", "advice"),
    [
        ((0.5, 0.0, 9.0, ""), ["other processes worked 50%", "--seconds 16"]),
        ((0.0, 0.05, 0.0, ""), ["the host took 5%", "--seconds 16"]),
        ((0.0, 0.0, 9.0, ""), ["taskset -c", "--seconds 16"]),
        ((0.0, 0.0, 0.0, "powersave"), ["governor is powersave", "--seconds 16"]),
        ((0.0, 0.0, 0.0, "performance"), ["--seconds 16"]),
    ],
)
def test_the_advice_follows_from_what_was_seen(seen, advice):
    busy, stolen, switches, clock = seen
    said = stability._remedies(busy, stolen, switches, clock, 4.0)
    assert len(said) == len(advice)
    assert all(words in line for words, line in zip(advice, said, strict=True))


def test_the_machines_facts_are_plain():
    facts = stability.machine_facts()
    assert facts["cores"] >= 1 and facts["memory_gb"] > 0 and facts["system"]
