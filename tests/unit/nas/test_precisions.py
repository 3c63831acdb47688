"""Of several precisions each budget gets the better pick."""

from __future__ import annotations

from typing import Any

import pytest

from ofa_tvm.nas.precisions import better_of
from ofa_tvm.nas.result import Pick
from ofa_tvm.nas.session import _possible
from ofa_tvm.support.errors import Infeasible


def pick(dtype: Any, top1: float, milliseconds: float, held: bool | None = True) -> Pick:
    return Pick(
        number=1,
        subnet="r32.3x2",
        budget_ms=1.0,
        predicted_ms=milliseconds,
        predicted_low_ms=milliseconds,
        predicted_high_ms=milliseconds,
        measured_ms=milliseconds,
        expected_top1=top1,
        macs=1,
        parameters=1,
        dtype=dtype,
        held=held,
    )


def test_the_more_accurate_one_is_offered():
    assert better_of([pick("float32", 0.90, 0.5), pick("int8", 0.92, 0.9)]).dtype == "int8"


def test_of_equal_ones_the_faster():
    assert better_of([pick("float32", 0.9203, 0.9), pick("int8", 0.92, 0.5)]).dtype == "int8"


def test_one_that_breaks_its_budget_comes_last():
    assert better_of([pick("float32", 0.90, 0.9), pick("int8", 0.95, 1.1, held=False)]).dtype == "float32"
    assert better_of([pick("int8", 0.95, 1.1, held=False)]).dtype == "int8"


def _refuse(item: int) -> None:
    if item < 2:
        raise Infeasible(f"{item} is too small", "take another")


def test_one_precision_or_target_suffices():
    refused: dict[str, Infeasible] = {}
    assert _possible({"a": 1, "b": 2, "c": 3}, _refuse, refused) == {"b": 2, "c": 3}
    assert refused["a"].what == "1 is too small"
    with pytest.raises(Infeasible, match=r"^a: 1 is too small; d: 0 is too small") as several:
        _possible({"d": 0}, _refuse, refused)
    assert several.value.hint == "a: take another\nd: take another"
    with pytest.raises(Infeasible, match=r"^1 is too small"):
        _possible({"a": 1}, _refuse, {})
