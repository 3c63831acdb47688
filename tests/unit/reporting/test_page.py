"""The report page: complete, self-contained, escaped, and every number says how it came about."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from formula_device import window_figures

from ofa_tvm import report
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.reporting.chart import Axis, scatter
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.window import Timing, Window

COST = {
    "phase": "search and verify",
    "wall_s": 75.0,
    "cpu_s": 130.0,
    "energy_kwh": 0.00022,
    "energy_low_kwh": 0.00011,
    "energy_high_kwh": 0.00044,
    "method": "estimated (6 W per busy core)",
}


def pick(number, **changes):
    values = {
        "number": number,
        "subnet": f"r32.3x{number}",
        "budget_ms": 0.5 * number,
        "predicted_ms": 0.45 * number,
        "predicted_low_ms": 0.4 * number,
        "predicted_high_ms": 0.5 * number,
        "measured_ms": 0.475 * number,
        "predicted_top1": 0.90 + number / 100,
        "validation_top1": 0.905 + number / 100,
        "test_top1": 0.8991 + number / 100,
        "macs": 12_340_000 * number,
        "parameters": 1_500_000,
        "held": True,
    }
    return {**values, **changes}


def result(**changes):
    values = {
        "schema_version": 1,
        "space": "mbv3-cifar",
        "supernet": "runs/cifar/supernet.safetensors",
        "target": "x86",
        "threads": 1,
        "fingerprint": "haswell-1t-b1-01234567",
        "budgets_ms": [0.5, 1.0],
        "picks": [pick(1), pick(2, held=False)],
        "front": [
            {"subnet": f"r32.5x{number}", "predicted_ms": 0.2 + number / 10, "predicted_top1": 0.9 + number / 500}
            for number in range(10)
        ],
        "cost": [COST, {**COST, "phase": "measure subnets", "method": "metered (RAPL, whole package)"}],
        "cost_model": {"mape": 0.031, "spearman": 0.987, "interval_coverage": 0.9, "samples": 60, "folds": 5},
        "accuracy_predictor": {"kendall_tau": 0.81, "mae": 0.004, "samples": 90},
        "conditions": {"cpu": "Some CPU", "threads": 1, "target": {"kind": "llvm"}},
        "rounds": [{}, {}],
    }
    return {**values, **changes}


class Page(HTMLParser):
    """Text and tags of a page; asserts that every element is closed in order."""

    VOID = frozenset({"meta", "link", "br", "hr", "img"})

    def __init__(self, text):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.ids: set[str] = set()
        self.refers: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.note(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def note(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            if name in ("aria-labelledby", "aria-describedby"):
                self.refers |= set(value.split())

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def count(self, tag, css=None):
        return sum(name == tag and (css is None or attrs.get("class") == css) for name, attrs in self.tags)


@pytest.fixture
def made(tmp_path):
    """Writes a result and its page; returns the text of the page."""

    def made(**changes):
        (tmp_path / "result.json").write_text(json.dumps(result(**changes)))
        assert report.main(["--from", str(tmp_path)]) == 0
        return (tmp_path / "report.html").read_text()

    return made


def timing(calibration_ms: float) -> dict[str, Any]:
    windows = [Window.of(window_figures(0.48 * share, calibration_ms, 100, 7)) for share in (1, 1.02, 0.98)]
    made = Timing(
        windows=tuple(windows), host="a CPU; 0123", measured_at="2026-11-27T01:02:03", usual_calibration_ms=0.05
    )
    return made.model_dump()


def test_windows_stand_behind_what_is_told(made):
    text = Page(made(picks=[pick(1, timing=timing(0.05))])).text
    assert "1 0.480 0.470 to 0.490 0.528 0.624 3 of 3 300 21 0.050 0.050 2026-11-27T01:02:03" in text
    assert "Host: a CPU; 0123" in text
    assert "budget held" in text


def test_a_disturbed_machine_is_told(made):
    text = Page(made(picks=[pick(1, held=None, timing=timing(0.09))])).text
    assert "too much other work to say" in text
    assert "0 of 3" in text


def test_headline_says_budget_pick_and_whether_it_held(made):
    text = Page(made()).text
    assert "Pick 1 · budget 0.500 ms" in text
    assert re.search(r"0\.475 ms measured ✓ budget held 90\.91 % top-1, measured on test images r32\.3x1", text)
    assert re.search(r"0\.950 ms measured ✗ budget missed", text)


def test_table_has_predicted_and_measured_values(made):
    text = Page(made()).text
    assert "predicted ms predicted interval measured ms" in text
    assert "0.450 0.400 to 0.500 0.475 -5.3 % 91.00 % 91.50 % 90.91 % 12.34 M 1.50 M" in text


def test_chart_shows_front_picks_intervals_and_budgets(made):
    page = Page(made())
    assert page.count("circle", "dot") == 10
    for tag, css in (("line", "interval"), ("circle", "predicted"), ("rect", "measured"), ("line", "budget")):
        assert page.count(tag, css) == 2
    boxes = [attrs for tag, attrs in page.tags if tag == "circle"]
    assert all(64 <= float(box["cx"]) <= 704 and 16 <= float(box["cy"]) <= 352 for box in boxes)


def test_costs_carry_their_method_and_are_not_mixed_silently(made):
    text = Page(made()).text
    assert "search and verify 1:15 2:10 0.22 0.11 to 0.44 estimated (6 W per busy core)" in text
    assert (
        "all phases 2:30 4:20 0.44 0.22 to 0.88 estimated (6 W per busy core) + metered (RAPL, whole package)" in text
    )


def test_quality_and_conditions(made):
    text = Page(made()).text
    assert "cross-validated on 60 measured subnets: mean error 3.1 %, rank correlation 0.987; 90 % of" in text
    assert "mean error 0.40 % top-1, rank correlation (Kendall) 0.810" in text
    assert '{"kind": "llvm"}' in text
    assert "2 rounds of search" in text


def test_page_fetches_and_runs_nothing(made):
    page = Page(made())
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    assert not any(name in ("src", "href") or name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_page_is_accessible(made):
    page = Page(made())
    assert ("html", {"lang": "en"}) in page.tags
    assert page.refers <= page.ids
    svg = next(attrs for tag, attrs in page.tags if tag == "svg")
    assert svg["role"] == "img"
    assert svg["aria-labelledby"]
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert headers
    assert all("scope" in attrs for attrs in headers)
    assert "prefers-color-scheme: dark" in page.text


def test_names_are_escaped(made):
    evil = "<script>alert('x')</script>\"&"
    text = made(
        space=evil,
        target=evil,
        supernet=evil,
        fingerprint=evil,
        picks=[pick(1)],
        cost=[{**COST, "phase": evil, "method": evil}],
        conditions={evil: evil, "nested": {"name": evil}},
    )
    assert "<script" not in text
    page = Page(text)
    assert page.count("script") == 0
    assert evil in page.text


def test_a_search_without_budgets_and_without_extras(made):
    bare = {"number": 1, "subnet": "r32.3x3", "predicted_ms": 1, "predicted_low_ms": 1, "predicted_high_ms": 1}
    text = Page(
        made(
            budgets_ms=[],
            picks=[{**bare, "macs": 1, "parameters": 1}],
            front=[],
            cost=[],
            cost_model=None,
            accuracy_predictor=None,
            conditions={},
            rounds=[],
        )
    ).text
    assert "Picks along the front" in text
    assert "– ms measured" in text  # noqa: RUF001
    assert "What the search cost" not in text
    assert "says nothing of its latency model" in text
    assert "Accuracy against latency" not in text


def test_one_point_alone_can_be_drawn(made):
    page = Page(
        made(
            budgets_ms=[],
            front=[],
            picks=[pick(1, predicted_low_ms=1, predicted_ms=1, predicted_high_ms=1, measured_ms=1)],
        )
    )
    assert page.count("circle", "predicted") == 1


def test_no_pick_is_said(made):
    assert "found no subnet to offer" in Page(made(picks=[])).text


def test_a_budget_far_away_does_not_squeeze_the_chart(made):
    page = Page(made(budgets_ms=[0.5, 50.0]))
    assert "Beyond the chart: 50.000 ms." in page.text
    (near,) = [attrs for tag, attrs in page.tags if (tag, attrs.get("class")) == ("line", "budget")]
    dots = [float(attrs["cx"]) for tag, attrs in page.tags if (tag, attrs.get("class")) == ("circle", "dot")]
    assert 64 < float(near["x1"]) < 704
    assert max(dots) - min(dots) > 320


def test_budgets_that_nothing_holds_are_listed(made):
    assert "Budgets that nothing holds" not in made()
    unmet = {"budget_ms": 0.01, "nearest_ms": 0.2, "nearest_subnet": "r24.3x2"}
    assert "0.010 ms: the nearest subnet takes 0.200 ms, measured" in Page(made(infeasible=[unmet])).text


def test_json_and_out(tmp_path, capsys):
    (tmp_path / "result.json").write_text(json.dumps(result()))
    out = tmp_path / "pages" / "page.html"
    assert report.main(["--from", str(tmp_path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "report": str(out), "picks": 2}
    assert out.read_text().startswith("<!doctype html>")
    assert not (tmp_path / "report.html").exists()


def test_a_missing_search_ends_with_2(tmp_path, capsys):
    assert report.main(["--from", str(tmp_path)]) == 2
    assert "result.json is missing" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_ends_with_2(tmp_path, capsys):
    (tmp_path / "result.json").write_text(json.dumps(result()))
    (tmp_path / "file").write_text("")
    assert report.main(["--from", str(tmp_path), "--out", str(tmp_path / "file" / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"picks": [{"number": 1}]}, "picks.0.subnet"),
        ({"picks": [pick(1, measured_ms=float("nan"))]}, "picks.0.measured_ms"),
        ({"front": [{"subnet": "r32.3x3", "predicted_ms": "slow", "predicted_top1": 0.9}]}, "front.0.predicted_ms"),
        ({"cost": [{"phase": "search"}]}, "cost.0.wall_s"),
    ],
)
def test_a_damaged_result_is_named_with_its_key(tmp_path, changes, key):
    (tmp_path / "result.json").write_text(json.dumps(result(**changes)))
    with pytest.raises(UserError) as caught:
        load_search_result(tmp_path)
    assert f"'{key}'" in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_result_that_is_no_object(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        load_search_result(tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.9, 5.2, ["1", "2", "3", "4", "5"]),
        (90.01, 90.06, ["90.01", "90.02", "90.03", "90.04", "90.05", "90.06"]),
        (0, 700, ["0", "200", "400", "600"]),
    ],
)
def test_ticks_are_round(low, high, labels):
    axis = Axis(low, high, 0, 100)
    assert [label for _, label in axis.ticks] == labels
    assert all(0 <= position <= 100 for position, _ in axis.ticks)


def test_nothing_to_draw():
    assert scatter([], [], []) is None


def test_finalists_that_wait_for_their_device_are_listed(made):
    text = Page(made(unmeasured=["r28.3x2-3x2.5x3-5x2.3x2-3x2"])).text
    assert "Finalists that wait for the device" in text
    assert "r28.3x2-3x2.5x3-5x2.3x2-3x2" in text
    assert "Finalists that wait" not in Page(made()).text
