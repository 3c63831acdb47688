"""The report page: complete, self-contained, escaped, and every number says how it came about."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser

import pytest
from search_results import COST, SUBNETS, bench, full_pick, full_result, pick, result, timing

from ofa_tvm import report
from ofa_tvm.bundle.folder import write_bundle
from ofa_tvm.bundle.manifest import Accuracy, InputFacts, Latency, Manifest, Preparation, SupernetSource, TargetFacts
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.reporting import sci_parts
from ofa_tvm.reporting.page_data import page_data
from ofa_tvm.reporting.sci_parts import account_of
from ofa_tvm.reporting.source import read_source
from ofa_tvm.support.carbon import assumptions
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl
from ofa_tvm.timing.window import Timing

MOST_BYTES = 600_000


class Page(HTMLParser):
    """Text and tags of a page; asserts that every element is closed in order."""

    VOID = frozenset({"meta", "link", "br", "hr", "img"})
    SILENT = frozenset({"script", "style"})

    def __init__(self, text):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.ids: list[str] = []
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
                self.ids.append(value)
            if name in ("aria-labelledby", "aria-describedby"):
                self.refers |= set(value.split())
            if name == "href" and value.startswith("#"):
                self.refers.add(value[1:])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in self.SILENT:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def count(self, tag, css):
        return sum(name == tag and css in attrs.get("class", "").split() for name, attrs in self.tags)


@pytest.fixture
def made(tmp_path):
    """Writes a result and its page; returns the text of the page."""

    def made(values=None, *options, **changes):
        values = result() if values is None else values
        (tmp_path / "result.json").write_text(json.dumps({**values, **changes}))
        assert report.main(["--from", str(tmp_path), *options]) == 0
        return (tmp_path / "report.html").read_text()

    return made


def test_windows_stand_behind_what_is_told(made):
    text = Page(made(picks=[pick(1, timing=timing())])).text
    assert "p50 / p90 / p99 0.480 / 0.528 / 0.624 ms, of single calls" in text
    assert "in each window 0.470 to 0.490 ms 3 of 3 undisturbed" in text
    assert "1 0.480 0.470 0.490 0.528 0.624 3 3 300 21 0.050 0.050 2026-11-27 01:02:03" in text
    assert "host a CPU; 0123" in text
    assert "budget held" in text


def test_a_disturbed_machine_is_told(made):
    text = Page(made(picks=[pick(1, held=None, timing=timing(0.09))])).text
    assert "too much other work to say" in text
    assert "0 of 3 undisturbed" in text


def test_cards_say_budget_latency_and_whether_it_held(made):
    text = Page(made(full_result())).text
    assert re.search(r"Pick 1 budget 0\.500 ms · float32 0\.475 ms p50 measured ✓ budget held", text)
    assert "top-1, test images 90.91 ± 0.30 %" in text
    assert "maps alive at once 300 kB" in text
    assert re.search(r"0\.950 ms p50 measured ✗ budget missed", Page(made()).text)


def test_what_is_not_known_is_said_with_the_command_that_measures_it(made, tmp_path):
    text = Page(made()).text
    command = f"python -m ofa_tvm.deploy --from {tmp_path} --pick 1 --out bundle-1"
    assert (
        f"p50 / p90 / p99, library, load, first inference, peak memory not measured what measures it {command}" in text
    )
    assert "no comparison with other engines was given" in text
    assert "predict --space mbv3-cifar --target x86 --subnet" in text


def test_energy_and_emissions_have_bounds(made):
    """0.475 ms at 6 W a million times are 2850 J; emissions are those of the ledger further down."""
    text = Page(made()).text
    assert "energy 792 mWh (396-1580) of a million images; estimated" in text
    told = re.search(r"CO2e (540 mg [^;]+) likewise; estimated, published, assumed", text)
    assert told is not None
    assert told.group(1) in text.partition("Running them")[2]


def test_energy_of_a_gpu_is_not_guessed_from_cores(made):
    text = Page(made(dtype="float16", conditions={"target": {"kind": "cuda"}})).text
    assert "energy and CO2e of a million images not measured a GPU's energy by call was not metered" in text
    assert "792 mWh" not in text


def test_energy_of_a_gpu_is_told_where_it_was_metered(made):
    """A million calls of 95 mJ, which is 200 W for 0.475 ms."""
    conditions = {"target": {"kind": "cuda"}}
    metered = pick(1, energy_mj=95.0, objectives={"energy": 95.0})
    text = Page(made(dtype="float16", conditions=conditions, picks=[metered])).text
    assert "energy 26.4 Wh of a million images; metered" in text
    assert "energy of one call 95.000 mJ metered by the GPU's driver" in text
    guessed = pick(1, objectives={"energy": 2.85})
    assert "energy of one call 2.850 mJ estimated" in Page(made(picks=[guessed])).text


def test_table_has_predicted_and_measured_values(made):
    text = Page(made()).text
    assert f"0.500 0.450 0.400 0.500 0.475 -5.3 % 91.00 % 91.50 % – 90.91 % 12.3 M 1.50 M {SUBNETS[0]}" in text  # noqa: RUF001


def test_front_shows_points_picks_intervals_and_budgets(made):
    page = Page(made(full_result()))
    (front,) = [number for number, (tag, attrs) in enumerate(page.tags) if tag == "figure" and "data-pins" in attrs]
    end = next(number for number, (_, attrs) in enumerate(page.tags) if attrs.get("id") == "architecture")
    inside = page.tags[front:end]

    def marks(css):
        return [attrs for _, attrs in inside if f"mark {css}" in attrs.get("class", "")]

    assert len(marks("dot")) == 10
    assert len(marks("square")) == 2
    assert len(marks("ring")) == 2
    assert sum("rule" in attrs.get("class", "").split() for tag, attrs in inside if tag == "line") == 2
    assert sum("whisker" in attrs.get("class", "") for _, attrs in inside) == 2
    every = [*marks("dot"), *marks("square"), *marks("ring")]
    places = [mark.get(side) or mark[f"c{side}"] for mark in every for side in "xy"]
    assert all(0 <= float(place.rstrip("%")) <= 100 for place in places)
    assert all(any(subnet in mark["aria-label"] for subnet in SUBNETS) for mark in every)


def test_networks_are_drawn_and_their_differences_marked(made):
    page = Page(made())
    assert page.count("svg", "network") == 2
    assert page.count("g", "skipped") == 1
    assert page.count("path", "differs-mark") == page.count("g", "differs") > 3
    assert "32 px in, 2 + 2 + 2 blocks in 3 stages" in page.text
    assert page.count("svg", "network") == Page(made(space="own-space")).count("svg", "network") + 2


def test_layers_add_up_and_are_compared_with_the_fastest(made):
    page = Page(made(full_result()))
    assert "Pick 1: 0.475 ms, 11 calls" in page.text
    assert "1x1 convolution, 24 → 24 channels, 16 px" in page.text
    shares = [
        float(attrs["style"].partition(":")[2])
        for tag, attrs in page.tags
        if tag == "span" and "slice" in attrs.get("class", "")
    ]
    assert sum(shares) == pytest.approx(2, abs=1e-3)
    assert "compared with the fastest kernel" in page.text
    assert " 100 % " in page.text


def test_layers_are_compared_with_the_cores_peak_where_it_is_known(made):
    text = Page(made(full_result(core_rates={"gflops_per_s": 40.0, "gbytes_per_s": 12.0}))).text
    assert "At most, 1 core did 40 GOP/s in float32 when measured, and one core read 12.0 GB/s from memory" in text
    assert re.search(r"stem stem 1x1 convolution, 3 → 16 channels, 32 px 54\.0 9\.1 % 16\.4 41 %", text)
    assert "Alone, the kernels take 593.7 µs together, the network as a whole 475.0 µs" in text


def test_rates_above_the_peak_have_a_reason(made):
    def told(peak):
        return "Rates above that" in Page(made(full_result(core_rates={"gflops_per_s": peak, "gbytes_per_s": 9}))).text

    assert told(10.0)
    assert not told(1000.0)


def test_layers_of_older_versions_have_shares_but_no_rates(made):
    old = full_pick(1)
    for layer in old["layers"]:
        del layer["kernel_ms"]
    text = Page(made(full_result(picks=[old]))).text
    assert "is not in files of older versions" in text
    assert "stem stem 1x1 convolution, 3 → 16 channels, 32 px 9.1 %" in text
    assert "rate alone" not in text


def test_rates_count_operations_in_every_precision_and_maps_say_theirs(made):
    assert "rate alone GOP/s" in Page(made(full_result(dtype="float32"))).text
    text = Page(made(full_result(dtype="int8"))).text
    assert "rate alone GOP/s" in text
    assert "maps alive at once 75.0 kB in int8, one image" in text


def test_networks_that_differ_in_pixels_alone_are_alike(made):
    keys = ("r32.3x2-3x2.3x2-3x2.3x2-3x2", "r24.3x2-3x2.3x2-3x2.3x2-3x2")
    picks = [pick(number, subnet=key) for number, key in enumerate(keys, 1)]
    page = Page(made(picks=picks))
    assert page.count("svg", "network") == 2
    assert page.count("path", "differs-mark") == 0


def test_the_front_says_by_which_models(made):
    assert "front, predicted before the first round" in Page(made(full_result())).text
    assert "front, predicted after the last round" in Page(made(full_result(front_rounds=2))).text


def test_why_a_finalist_is_no_pick(made):
    page = Page(made(full_result(picks=[full_pick(1, expected_top1=0.9137)])))
    assert "91.50 ± 1.00 % 91.37 % 90.91 ± 0.30 %" in page.text
    assert "best expected accuracy" in page.text
    assert "Why a finalist may stand above a pick" in page.text
    assert "best expected accuracy" not in Page(made(full_result(budgets_ms=[], rounds=[{}, {}]))).text


def test_more_samples_that_gain_nothing_promise_nothing(made):
    quality = {"mape": 0.014, "samples": 60}
    for twice, said in ((0.016, "no gain expected"), (0.012, "1.2 %")):
        page = Page(made(cost_model={**quality, "mape_with_twice_the_samples": twice}))
        assert f"error with twice the samples {said}" in page.text


def test_an_unstable_comparison_says_so_and_praises_nothing(made, tmp_path):
    told = bench()
    verdict = {"apart": 0.081, "most_apart": 2.6, "remedies": ["time longer: --seconds 16"]}
    start = {"load_ms": 0.21, "first_ms": 3.04, "peak_mb": None, "file_mb": 0.78}
    path = tmp_path / "bench.json"

    def page(name):
        path.write_text(json.dumps({**told, "stability": {"verdict": name, **verdict}, "starts": {"ofa_tvm": start}}))
        return Page(made(result(), "--bench", str(path)))

    unstable = page("unstable")
    said = "Unstable: windows are 8.1 % apart in the median, 260.0 % at most; time longer: --seconds 16."
    assert said in unstable.text
    assert unstable.count("span", "good") == 0
    assert page("stable").count("span", "good") == 1
    assert "ofa_tvm 0.21 3.04 – 0.78" in unstable.text  # noqa: RUF001


def test_engines_are_compared_with_their_spread(made, tmp_path):
    (tmp_path / "bench.json").write_text(json.dumps(bench()))
    text = Page(made(result(), "--bench", str(tmp_path / "bench.json"))).text
    assert "ONNX Runtime 1.32.0 2.00x 1.64 to 2.44" in text


def test_engines_are_compared_block_by_block_where_that_was_measured(made, tmp_path):
    told = bench()
    told["subnets"][0]["blocks"] = {"ofa_tvm": {"stem": 0.01, "block1": 0.02}, "ort": {"stem": 0.03}}
    (tmp_path / "bench.json").write_text(json.dumps(told))
    text = Page(made(result(), "--bench", str(tmp_path / "bench.json"))).text
    assert "block ofa_tvm µs ONNX Runtime µs stem 10.0 30.0 block1 20.0 –" in text  # noqa: RUF001


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({"first_ms": 0.75}, "load 3.26 ms in a fresh process first inference 0.75 ms likewise"),
        ({}, "load and first inference 3.3 ms in a fresh process"),
    ],
)
def test_a_benchmark_of_the_bundles_program_fills_the_card(made, tmp_path, first, said):
    told = {"subnet": SUBNETS[0], "benchmark": {"load_ms": 3.26, **first, "peak_memory_bytes": 5_500_000}}
    (tmp_path / "run.json").write_text(json.dumps(told))
    text = Page(made(result(), "--bench", str(tmp_path / "run.json"))).text
    assert f"{said} peak memory 5.50 MB" in text


def test_what_the_search_did(made):
    text = Page(made(full_result())).text
    assert "2 rounds of search" in text
    assert "Front reached, round by round" in text
    assert "2 finalists that the model had not learned from" in text
    assert "not in results of older versions" in Page(made()).text


def test_tuning(made):
    text = Page(made(full_result())).text
    assert "kernels tuned 9 of 10 by default schedule, before any trial, a typical one takes 20 % longer" in text
    assert "Quality over trials" in text
    assert "1x1 convolution, 16 → 24 channels, 16 px 10.0 1.00 20.0 % 100 20 template" in text


def test_costs_carry_their_method_and_are_not_mixed_silently(made):
    text = Page(made()).text
    assert "search and verify 1 min 15 s 2 min 10 s 220 mWh (110-440) estimated (6 W per busy core)" in text
    mixed = "estimated (6 W per busy core) + metered (RAPL, whole package)"
    assert f"all phases 2 min 30 s 4 min 20 s 440 mWh (220-880) {mixed}" in text
    assert "sum 440 mWh (220-880)" in text, "the account of emissions counts the same"
    assert "Training of the supernet and tuning of its kernels, which all its subnets share, are not in it." in text


def test_an_interrupted_attempt_is_a_cost_of_the_page_everywhere(made, tmp_path):
    attempt = {**COST, "phase": "measure subnets", "ended_at": "2026-01-01T00:00"}
    append_jsonl(tmp_path / "ledger.jsonl", [attempt, COST])
    text = Page(made(full_result(cost=[COST]))).text
    assert "other attempt: measure subnets 1 min 15 s" in text
    assert "all phases 2 min 30 s" in text
    assert "search 440 mWh (220-880)" in text


def test_the_grid_and_pue_that_are_given_are_the_pages(made):
    text = Page(made(full_result(), "--region", "Germany", "--pue", "1.56")).text
    assert "(381 g a kWh, Germany's mean of 2023; PUE 1.56)" in text
    assert "Assumed: PUE 1.56 (given by --pue); the grid 381 g a kWh (germany, " in text
    assert "481 g" not in text
    told = re.search(r"CO2e (\S+ mg) \S+ likewise", text)
    assert told is not None and told.group(1) != "540 mg"
    assert f" {told.group(1)} " in text.partition("Running them")[2], "cards and table agree"


@pytest.mark.parametrize("option", ["--alone", "--meter", "--watts"])
def test_what_a_page_cannot_use_is_refused(tmp_path, capsys, option):
    assert report.main(["--from", str(tmp_path), option, "1"]) == 2
    assert f"{option} goes with --ledger only" in capsys.readouterr().err


def test_the_download_has_the_account_of_emissions(made, tmp_path):
    made(full_result())
    source = read_source(tmp_path)
    values = page_data(source, account_of(source.folders, assumptions()))
    emissions = values["emissions"]
    assert isinstance(emissions, dict)
    assert emissions["assumptions"]["grid"]["g_per_kwh"] == 481
    assert len(emissions["consumer"]["networks"]) == 2
    assert page_data(source, UserError("no ledger"))["emissions"] == {"unknown": "no ledger"}


def test_emissions_of_making_and_running(made):
    text = Page(made(full_result())).text
    assert "Software Carbon Intensity (ISO/IEC 21031:2024" in text
    assert "Running them, per 1,000,000 images" in text
    assert "Assumed: PUE 1 " in text
    assert "481 g a kWh" in text


def test_emissions_that_cannot_be_counted_say_why(made, monkeypatch):
    def damaged(*_):
        raise UserError("ledger x, line 1, is damaged")

    monkeypatch.setattr(sci_parts, "sci_report", damaged)
    assert "Emissions are not known: ledger x, line 1, is damaged" in Page(made(full_result())).text


def test_models_and_conditions(made):
    text = Page(made(full_result())).text
    assert "latency model, mean error 3.1 % cross-validated on 60 measured subnets" in text
    assert "latencies in their 90 % interval 90 %" in text
    assert "accuracy predictor, mean error 0.40 %" in text
    assert "time of depthwise kernels" in text
    assert "Error over samples" in text
    assert "target compiler llvm" in text
    assert "date 2026-11-28 01:02:03 UTC" in text
    assert "python -m ofa_tvm.search --target x86 --max-latency-ms 0.5" in text


def test_paths_in_the_users_home_do_not_tell_where_that_is(made, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    command = shlex.join(["python", "-m", "ofa_tvm.search", "--supernet", f"{tmp_path}/my net", "--out", "runs/s"])
    text = Page(made(full_result(), supernet=f"{tmp_path}/my net/supernet.safetensors", command=command)).text
    assert str(tmp_path) not in text
    assert "python -m ofa_tvm.search --supernet ~/'my net' --out runs/s" in text
    assert "supernet ~/'my net/supernet.safetensors'" in text


def test_no_name_of_a_variable_and_no_tiny_number_stands_in_the_text(made):
    words = Page(made(full_result())).text
    for command in re.findall(r"python -m \S+", words):
        words = words.replace(command, "")
    assert set(re.findall(r"\b[a-z]+_[a-z_]+\b", words)) <= {"ofa_tvm"}
    assert not re.search(r"\de-\d", words)


def test_page_fetches_nothing(made):
    text = made(full_result())
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object"}
    assert not any(name == "src" or name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert {attrs["href"][0] for _, attrs in page.tags if "href" in attrs} == {"#"}
    assert not re.search(r"https?://|@import|url\(|fetch\(", text)


def test_page_is_accessible(made):
    page = Page(made(full_result()))
    assert ("html", {"lang": "en"}) in page.tags
    assert page.refers <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert headers
    assert all("scope" in attrs for attrs in headers)
    regions = [attrs for _, attrs in page.tags if "scroll" in attrs.get("class", "").split()]
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" for attrs in regions)


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
        accuracy_note=evil,
    )
    assert "<script>alert" not in text
    page = Page(text)
    assert [attrs.get("id") for tag, attrs in page.tags if tag == "script"] == ["data", None]
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
    assert "– ms not measured" in text  # noqa: RUF001
    assert "What it cost" not in text
    assert "says nothing of its latency model" in text
    assert "Accuracy against latency" not in text


def test_one_point_alone_can_be_drawn(made):
    lone = pick(1, predicted_low_ms=1, predicted_ms=1, predicted_high_ms=1, measured_ms=1)
    assert Page(made(budgets_ms=[], front=[], picks=[lone])).count("svg", "square") == 1


def test_no_pick_is_said(made):
    assert "found no subnet to offer" in Page(made(picks=[])).text


def test_a_budget_far_away_does_not_squeeze_the_plot(made):
    page = Page(made(budgets_ms=[0.5, 50.0]))
    assert "Budgets beyond the plot: 50.00 ms." in page.text
    assert page.count("line", "rule") == 1
    dots = [float(attrs["cx"].rstrip("%")) for tag, attrs in page.tags if "mark dot" in attrs.get("class", "")]
    assert max(dots) - min(dots) > 50


def test_budgets_that_nothing_holds_are_listed(made):
    assert "Budgets that nothing holds" not in made()
    unmet = {"budget_ms": 0.01, "nearest_ms": 0.2, "nearest_subnet": "r24.3x2"}
    assert "0.010 ms on x86 the nearest subnet takes 0.200 ms, measured" in Page(made(infeasible=[unmet])).text


def test_finalists_that_wait_for_their_device_are_listed(made):
    text = Page(made(unmeasured=["r28.3x2-3x2.5x3-5x2.3x2-3x2"])).text
    assert "Finalists that wait for the device" in text
    assert "r28.3x2-3x2.5x3-5x2.3x2-3x2" in text
    assert "Finalists that wait" not in Page(made()).text


@pytest.mark.parametrize(("held", "said"), [(True, "budget held"), (False, "budget missed")])
def test_a_bundle_tells_its_budget(tmp_path, held, said):
    def fill(_):
        latency = Latency(provenance="measured", measured_ms=1.0, conditions={}, budget_ms=1.1, budget_held=held)
        accuracy = Accuracy(
            data="tiny", how="", test_images=0, compared_images=1, validation_top1=0.9, validation_error=0.01
        )
        return Manifest(
            ofa_tvm="0",
            created_at="2026-01-01T00:00:00+00:00",
            space="mbv3-cifar",
            subnet=SUBNETS[0],
            supernet=SupernetSource(file="supernet.safetensors", sha256="0", weights_sha256="1"),
            input=InputFacts(name="image", layout="NHWC", shape=(1, 32, 32, 3), dtype="float32", resolution=32),
            preprocess=Preparation(mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3)),
            class_names=("cat", "dog"),
            classes=2,
            macs=10,
            parameters=5,
            accuracy=accuracy,
            latency=latency.model_copy(update={"timing": Timing(**timing())}),
            target=TargetFacts(
                name="x86", fingerprint="f", attributes={}, threads=1, tuned_kernels=1, default_kernels=0
            ),
            versions={},
            cost=(),
        )

    write_bundle(tmp_path / "bundle", fill)
    assert report.main(["--from", str(tmp_path / "bundle"), "--out", str(tmp_path / "page.html")]) == 0
    text = Page((tmp_path / "page.html").read_text()).text
    assert "The bundle budget 1.100 ms · float32" in text
    assert said in text
    assert "top-1, held-out images 90.00 ± 1.00 %" in text


@pytest.mark.parametrize(
    ("provenance", "said"), [("estimated", "no measurements"), ("replayed", "nothing was measured")]
)
def test_latencies_that_were_not_measured_are_said_first(made, provenance, said):
    text = Page(made(provenance=provenance)).text
    assert said in text.partition("What fits each budget")[0]


def several(tmp_path, targets=("x86", "arm"), unsure_budgets=None, told=(), **options):
    for target in targets:
        (tmp_path / target).mkdir()
        values = full_result(target=target, fingerprint=target, **options)
        (tmp_path / target / "result.json").write_text(json.dumps(values))
    matrix = [
        {
            "shipped": shipped,
            "on": on,
            "top1_lost": 0.002,
            "slower": 0.1 * (shipped != on),
            "broken_budgets": 1,
            "picks": 2,
            "unsure_budgets": unsure_budgets,
            **(dict(told) if shipped != on else {}),
        }
        for shipped in targets
        for on in targets
    ]
    (tmp_path / "regret.json").write_text(json.dumps({"schema_version": 1, "regret": matrix}))


def test_several_targets_have_colours_a_matrix_and_one_page(tmp_path, capsys):
    several(tmp_path)
    assert report.main(["--from", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["picks"] == 4
    page = Page((tmp_path / "report.html").read_text())
    assert "mbv3-cifar on arm, x86" in page.text
    assert {"s0", "s1"} <= {css for _, attrs in page.tags for css in attrs.get("class", "").split()}
    assert "+10.0 % 0.20 points lost 1 of 2 over budget or unsure" in page.text
    assert f"--from {tmp_path / 'x86'} --pick 2 --out bundle-x86-2" in page.text
    assert f"--from {tmp_path / 'arm'} --pick 2 --out bundle-arm-2" in page.text


def test_budgets_that_are_broken_and_those_that_cannot_be_judged_are_told_apart(tmp_path):
    several(tmp_path, unsure_budgets=1)
    assert report.main(["--from", str(tmp_path)]) == 0
    text = Page((tmp_path / "report.html").read_text()).text
    assert "1 of 2 over budget 1 of 2 unsure: too much other work" in text
    assert "over budget or unsure" not in text


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"predicted": 2}, "predicted"),
        ({"predicted": 1}, "measured, 1 predicted"),
        ({"predicted": 0, "provenance": "replayed"}, "replayed"),
    ],
)
def test_picks_that_were_not_measured_on_a_target_are_told(tmp_path, told, said):
    several(tmp_path, unsure_budgets=0, told=told)
    assert report.main(["--from", str(tmp_path)]) == 0
    text = Page((tmp_path / "report.html").read_text()).text
    assert f"+10.0 % 0.20 points lost 1 of 2 over budget {said}" in text


def test_costs_of_several_targets_are_told_apart(tmp_path):
    several(tmp_path, dtype="float32")
    assert report.main(["--from", str(tmp_path)]) == 0
    text = Page((tmp_path / "report.html").read_text()).text
    assert "search: arm 440 mWh (220-880)" in text
    assert re.search(rf"{SUBNETS[0]} arm, float32 \d+ mWh", text)
    assert re.search(rf"{SUBNETS[0]} x86, float32 \d+ mWh", text)


def test_several_precisions_of_one_target_are_told_apart(made):
    names = {"float32": "haswell-1t-b1-01234567", "int8": "haswell-1t-b1-i8-0123"}
    picks = [pick(1, dtype="int8"), pick(2, dtype="float32")]
    page = Page(made(dtype=None, fingerprints=names, picks=picks))
    assert "Pick 1 budget 0.500 ms · int8" in page.text
    assert page.count("li", "s1") == 1
    assert "pick precision budget" in page.text
    assert "pick target budget" not in page.text


def test_why_a_precision_lost_is_told(made, tmp_path):
    names = {"float32": "haswell-1t-b1-01234567", "int8": "haswell-1t-b1-i8-0123"}
    unmet = {"budget_ms": 0.5, "nearest_ms": 0.6, "nearest_subnet": SUBNETS[2]}
    own = result(dtype="float32", picks=[pick(2, expected_top1=0.92)], infeasible=[unmet])
    (tmp_path / "float32").mkdir()
    (tmp_path / "float32" / "result.json").write_text(json.dumps(own))
    text = Page(made(dtype=None, fingerprints=names, picks=[pick(1, dtype="int8"), pick(2, dtype="int8")])).text
    assert f"in float32 for 1.000 ms 92.00 % expected at 0.950 ms {SUBNETS[1]}" in text
    assert f"in float32 for 0.500 ms 0.600 ms at least {SUBNETS[2]}" in text


@pytest.mark.seconds(3)
def test_a_page_of_three_targets_stays_small(tmp_path):
    picks = [full_pick(number) for number in range(1, 9)]
    picks = [{**made, "layers": 4 * made["layers"]} for made in picks]
    several(tmp_path, ("x86", "arm", "gpu"), picks=picks, front=500)
    assert report.main(["--from", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").stat().st_size < MOST_BYTES


def test_json_and_out(tmp_path, capsys):
    (tmp_path / "result.json").write_text(json.dumps(result()))
    out = tmp_path / "pages" / "page.html"
    assert report.main(["--from", str(tmp_path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "report": str(out), "picks": 2}
    assert out.read_text().startswith("<!doctype html>")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({}, [], "result.json is missing"),
        ({"result.json": "{"}, [], "is damaged"),
        ({"result.json": result(), "regret.json": {"regret": [{"on": "x86"}]}}, [], "'0.shipped'"),
        ({"result.json": result(), "regret.json": []}, [], "regret.json is damaged"),
        ({"manifest.json": {}}, [], "is not the manifest of a bundle"),
        ({"result.json": result(), "b": {}}, ["--bench", "b"], "'space'"),
        ({"result.json": result(), "b": {"benchmark": {"load_ms": 0}}}, ["--bench", "b"], "'benchmark.load_ms'"),
        ({"result.json": result(), "b": [1]}, ["--bench", "b"], "is no benchmark"),
        ({"result.json": result()}, ["--bench", "none"], "does not exist"),
        ({"result.json": result()}, ["--bundle", "none"], "does not exist"),
        ({"result.json": result(), "b": {**bench(), "space": "mbv3"}}, ["--bench", "b"], "b compares subnets of mbv3"),
        ({"result.json": result(), "file": ""}, ["--out", "file/page.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_read_or_written_ends_with_2(tmp_path, capsys, monkeypatch, files, options, said):
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert report.main(["--from", ".", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema_version": 0}, "schema_version"),
        ({"picks": [{"number": 1}]}, "picks.0.subnet"),
        ({"picks": [pick(1, measured_ms=float("nan"))]}, "picks.0.measured_ms"),
        ({"front": [{"subnet": "r32.3x3", "predicted_ms": "slow", "predicted_top1": 0.9}]}, "front.0.predicted_ms"),
        ({"cost": [{"phase": "search"}]}, "cost.0.wall_s"),
        ({"rounds": [{"verified": [{}]}]}, "rounds.0.verified.0.subnet"),
        ({"tuning": {"folder": "logs"}}, "tuning.tuned"),
    ],
)
def test_a_damaged_result_is_named_with_its_key(tmp_path, changes, key):
    (tmp_path / "result.json").write_text(json.dumps(result(**changes)))
    with pytest.raises(UserError) as caught:
        load_search_result(tmp_path)
    assert f"'{key}'" in str(caught.value)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"gone does not exist\n.*report --from FOLDER"):
        read_source(tmp_path / "gone")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_result_that_is_no_object(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        read_source(tmp_path)


def test_a_page_replaces_no_file_that_is_none(made, tmp_path, capsys):
    made()
    path = tmp_path / "result.json"
    before = path.read_bytes()
    assert report.main(["--from", str(tmp_path), "--out", str(path)]) == 2
    assert "is no page, and would be lost" in capsys.readouterr().err
    assert path.read_bytes() == before
