"""Amounts: a prefix that a person reads, bounds, and kinds that no arithmetic loses."""

from __future__ import annotations

import pytest

from ofa_tvm.support.amounts import Amount, added, averaged


def amount(value, low, high, *kinds, unit="Wh"):
    return Amount(value, low, high, unit, kinds)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.67e-5, "16.7 µWh"),
        (0.0123, "12.3 mWh"),
        (0.99996, "1 Wh"),
        (999.4, "999 Wh"),
        (999.96, "1 kWh"),
        (123_456.0, "123 kWh"),
        (0.0, "0 Wh"),
        (4e-13, "0.0004 nWh"),
    ],
)
def test_a_prefix_is_chosen_for_the_reader(value, text):
    assert amount(value, value, value).text == text


def test_bounds_have_the_prefix_of_the_middle_and_are_left_out_where_there_are_none():
    assert amount(0.006, 0.003, 0.012).text == "6 mWh (3-12)"
    assert amount(1500.0, 750.0, 3000.0, unit="g").text == "1.5 kg (0.75-3)"
    assert amount(0.0, 0.0, 5.0).text == "0 Wh (0-5)"


def test_kinds_are_kept_the_best_first():
    both = added([amount(1, 1, 1, "estimated"), amount(2, 2, 2, "metered")], "Wh")
    assert (both.value, both.kind) == (3, "metered, estimated")
    assert both.times(481, "published", unit="g") == Amount(
        3 * 481, 3 * 481, 3 * 481, "g", ("metered", "estimated", "published")
    )
    assert added([], "g").kind == "nothing counted"
    assert both.record()["kinds"] == ["metered", "estimated"]


def test_a_mean_lies_between_the_least_and_the_greatest_bound_of_any():
    assert averaged([amount(1, 0.5, 2, "metered"), amount(3, 2.5, 3.5, "metered")]) == amount(2, 0.5, 3.5, "metered")
