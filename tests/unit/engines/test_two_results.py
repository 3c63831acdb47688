"""bench --compare: what differs is said, what cannot be compared refused, and spread is no difference."""

from __future__ import annotations

import json

import pytest

from ofa_tvm.engines.two_results import compare_results, export, read_result
from ofa_tvm.reporting.comparison_text import two_results_text
from ofa_tvm.support.errors import UserError


def timing(median, spread=0.01):
    return {"runs": 60, "median_ms": median, "low_ms": median * (1 - spread), "high_ms": median * (1 + spread)}


def payload(ours=1.0, ort=2.0, spread=0.01, **changes):
    times = {"ofa_tvm": timing(ours, spread), "ort": timing(ort, spread), "default": timing(ours, spread)}
    engine = {"version": "1", "precision": "float32", "settings": ""}
    values = {"machine": "cpu", "machine_facts": {"cores": 2}, "target": "x86", "threads": 1, "space": "tiny"}
    values |= {"seed": 7, "engines": dict.fromkeys(times, engine)}
    values["subnets"] = [{"subnet": key, "protocols": {"blocks": times}} for key in ("a", "b")]
    return {**values, **changes}


@pytest.fixture
def result(tmp_path):
    def made(**changes):
        path = tmp_path / "result.json"
        export(path, payload(**changes))
        return read_result(path)

    return made


@pytest.mark.parametrize(
    ("second", "spread", "verdict"),
    [
        (1.0, 0.001, "no difference shown"),
        (1 / 1.015, 0.001, "no difference shown"),
        (0.9, 0.001, "faster"),
        (1.1, 0.001, "slower"),
        (0.9, 0.06, "no difference shown"),
        (1.1, 0.06, "no difference shown"),
    ],
)
def test_a_difference_is_one_only_outside_the_spread(result, second, spread, verdict):
    found = compare_results(result(spread=spread), result(ours=second, spread=spread), anyway=False)
    change = found["changes"]["blocks"]["ofa_tvm"]
    assert change["ratio"] == pytest.approx(1 / second)
    assert change["low"] < change["ratio"] < change["high"]
    assert change["verdict"] == verdict
    assert found["changes"]["blocks"]["ort"]["verdict"] == "no difference shown"


def test_engines_that_are_the_same_tell_what_the_machine_did(result):
    found = compare_results(result(spread=0.001), result(ours=0.5, ort=1.0, spread=0.001), anyway=False)
    assert found["changes"]["blocks"]["ofa_tvm"]["verdict"] == "faster"
    assert found["unchanged_engines"] == ["ort"]
    beside = found["ours_beside_them"]["blocks"]
    assert beside["ratio"] == pytest.approx(1)
    assert beside["verdict"] == "no difference shown"
    assert "ours beside ort, which are the same in both" in two_results_text(found)


def test_an_unstable_result_is_said(result):
    found = compare_results(result(), result(stability={"verdict": "unstable"}), anyway=False)
    assert f"the result of {found['created_at'][1]} is unstable" in two_results_text(found)
    stable = compare_results(result(), result(stability={"verdict": "fair"}), anyway=False)
    assert "unstable" not in two_results_text(stable)


def test_without_such_an_engine_that_is_said(result):
    newer = payload()
    newer["engines"] = {**newer["engines"], "ort": {"version": "2", "precision": "float32"}}
    found = compare_results(result(), result(engines=newer["engines"]), anyway=False)
    assert found["unchanged_engines"] == [] and found["ours_beside_them"] == {}
    assert found["versions"]["ort"] == ["1", "2"]
    assert "what the machine did cannot be told" in two_results_text(found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": "other"}, "machine: cpu and other"),
        ({"machine_facts": {"cores": 8}}, "cores: 2 and 8"),
        ({"threads": 2}, "threads: 1 and 2"),
        ({"target": "arm"}, "target: x86 and arm"),
        ({"seed": 8}, "seed: 7 and 8"),
        ({"engines": {"ofa_tvm": {"version": "1", "precision": "int8"}}}, "precision of ofa_tvm: float32 and int8"),
        ({"subnets": payload()["subnets"][:1]}, "subnets: "),
    ],
)
def test_other_conditions_are_refused_unless_asked_for(result, changes, said):
    with pytest.raises(UserError, match=said) as refused:
        compare_results(result(), result(**changes), anyway=False)
    assert "--anyway" in refused.value.hint
    found = compare_results(result(), result(**changes), anyway=True)
    assert len(found["differences"]) == 1
    assert "differ in" in two_results_text(found)


def test_results_without_a_common_engine_or_subnet_are_refused(result):
    others = [{**row, "subnet": f"{row['subnet']}'"} for row in payload()["subnets"]]
    with pytest.raises(UserError, match="share no engine and subnet"):
        compare_results(result(), result(subnets=others), anyway=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "'format'"),
        ({"schema_version": 2}, "'schema_version'"),
        ({"subnets": []}, "'subnets'"),
        ({"threads": "many"}, "'threads'"),
        ({"subnets": [{"subnet": "a", "protocols": {"blocks": {"ort": timing(0.0)}}}]}, "median_ms"),
    ],
)
def test_damaged_files_are_named_with_their_field(tmp_path, change, said):
    path = tmp_path / "result.json"
    export(path, payload())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=said):
        read_result(path)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_result(tmp_path / "none.json")
