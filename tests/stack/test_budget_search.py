"""The search loop whole, on a device and a supernet that answer by formula."""

import dataclasses
import json
import math
import zlib
from typing import TypeVar

import numpy as np
import pytest
from formula_device import FormulaDevice, kernel_ms, tuned_log

from ofa_tvm.accuracy.doubt import doubts
from ofa_tvm.accuracy.samples import AccuracySamples
from ofa_tvm.accuracy.source import EvaluatedAccuracy
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.cost_model.power import UNKNOWN
from ofa_tvm.devices.replay import ReplayDevice
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.kernel_times import kernel_costs
from ofa_tvm.measurement.latency_bench import ANCHORS, MAX_FAILURES, NEW_ANCHORS, LatencyBench
from ofa_tvm.nas.budget_search import Finder
from ofa_tvm.nas.models import GUARD
from ofa_tvm.nas.regret import regret
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.spaces import SPACES, SubnetConfig, get_space
from ofa_tvm.support.errors import Infeasible, NotTuned, PartialResult, UserError
from ofa_tvm.support.files import append_jsonl
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.job import SubnetTiming, TunedSubnets
from ofa_tvm.tuner.latency_records import FILE_NAME, read_records
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult
from ofa_tvm.tuner.tuned_space import TunedSpace

SPACE = get_space("mbv3-cifar")
Value = TypeVar("Value")
IMAGES = 10**9
"""So many that nothing is chance."""


def latency_ms(config: SubnetConfig) -> float:
    return FormulaDevice().time_subnet(SPACE.name, SPACE.classes, config.key).times_ms[0]


def present(value: Value | None) -> Value:
    """The value, which must be there."""
    assert value is not None
    return value


def top1(config: SubnetConfig) -> float:
    macs = SPACE.network(config).macs
    return float(0.95 - 0.6 * (1e6 / macs) ** 0.5 / 2)


@pytest.fixture
def tuned(tmp_path):
    return tuned_log(tmp_path, SPACE)


def bench(log, device) -> LatencyBench:
    return LatencyBench(TunedSpace(SPACE, load_target("x86"), log), device)


def finder(log, device, tmp_path, **settings) -> Finder:
    latency_bench = bench(log, device)
    latency_bench.measure_samples(30)
    samples = AccuracySamples(SPACE, tmp_path / "supernet", "weights")
    samples.sample(40, top1)
    quick = SearchSettings(**{"evaluations": 2000, "population": 100, **settings})
    return Finder(latency_bench, EvaluatedAccuracy(samples, top1, IMAGES), quick)


def drop_from_the_record(log: TuningLog, key: str) -> None:
    """Take a key away from the only latency record, as an older version would have written it."""
    path = log.folder / FILE_NAME
    line = json.loads(path.read_text())
    del line[key]
    path.unlink()
    append_jsonl(path, [line])


def tuned_alike(log: TuningLog, folder) -> TuningLog:
    """Another log with the same kernels and times."""
    other = TuningLog(load_target("x86"), folder)
    for key, state in log.kernels.items():
        result = TrialResult("ok", (present(state.best_ms),), is_checked=True)
        other.commit(key, [(Candidate(key, "default", {}), result)])
    return other


def test_budget_is_held_by_measurement_and_nothing_is_measured_twice_but_the_pick(tuned, tmp_path) -> None:
    device = FormulaDevice()
    found = finder(tuned, device, tmp_path)
    pick = found.for_budget(0.3)
    assert pick.held is True
    assert present(pick.measured_ms) <= 0.3
    assert pick.predicted_low_ms <= pick.predicted_ms <= pick.predicted_high_ms
    assert pick.validation_top1 == top1(SubnetConfig.parse(pick.subnet))
    repeats = {key: device.measured.count(key) for key in device.measured}
    assert repeats.pop(pick.subnet) == 2
    assert set(repeats.values()) == {1}


def test_pick_is_near_the_best_that_any_subnet_reaches(tuned, tmp_path) -> None:
    device = FormulaDevice()
    pick = finder(tuned, device, tmp_path).for_budget(0.3)
    rng = np.random.default_rng(1)
    rivals = [SPACE.config(row) for row in SPACE.sample(rng, 3000)]
    holding = [config for config in rivals if latency_ms(config) <= (1 - GUARD) * 0.3]
    assert present(pick.validation_top1) >= max(map(top1, holding)) - 0.002


def test_second_search_uses_the_records_of_the_first(tuned, tmp_path) -> None:
    finder(tuned, FormulaDevice(), tmp_path).for_budget(0.3)
    again = FormulaDevice()
    pick = finder(TuningLog(load_target("x86"), tmp_path), again, tmp_path).for_budget(0.3)
    assert pick.held
    assert len(again.measured) < 30


def test_infeasible_budget_names_the_nearest(tuned, tmp_path) -> None:
    with pytest.raises(Infeasible) as error:
        finder(tuned, FormulaDevice(), tmp_path).for_budget(0.001)
    assert error.value.exit_code == 4
    smallest = latency_ms(SPACE.smallest)
    assert SPACE.smallest.key in str(error.value)
    nearest = float(str(error.value).split("the nearest is ")[1].split(" ms")[0])
    assert nearest == pytest.approx(smallest, rel=0.02)


def test_known_subnet_within_the_budget_is_found_where_the_search_misses_it(tuned, tmp_path, monkeypatch) -> None:
    found = finder(tuned, FormulaDevice(), tmp_path)
    configs, latency_ms = found.bench.known()
    order = np.argsort(latency_ms)
    slow = [configs[row] for row in order[-3:]]
    monkeypatch.setattr(found, "_finalists", lambda budget, number, tried: [] if tried else slow)
    budget_ms = float(latency_ms[order[10]])
    pick = found.for_budget(budget_ms)
    assert pick.held
    assert present(pick.measured_ms) <= budget_ms


def test_errors_count_only_subnets_that_the_models_had_not_learned_from(tuned, tmp_path) -> None:
    found = finder(tuned, FormulaDevice(), tmp_path)
    known = found.bench.known()[0]
    found._verify(known[:2], None)
    assert found.rounds[-1].mean_latency_error is None
    new = next(c for c in SPACE.sample_configs(np.random.default_rng(9), 50) if c not in known)
    predicted_ms = float(found.models.latency.predict(SPACE.genomes([new]))[0][0])
    found._verify([known[0], new], None)
    (measured_ms,) = found.bench.measure([new])
    assert found.rounds[-1].mean_latency_error == pytest.approx(abs(predicted_ms / present(measured_ms) - 1))


def test_failed_measurements_are_statuses_and_the_search_goes_on(tuned, tmp_path) -> None:
    reference = finder(tuned, FormulaDevice(), tmp_path / "a").for_budget(0.3)
    fresh = tmp_path / "b"
    other = tuned_alike(tuned, fresh)
    pick = finder(other, FormulaDevice(broken=frozenset({reference.subnet})), fresh).for_budget(0.3)
    assert pick.held
    assert pick.subnet != reference.subnet
    failed = [record for record in read_records(other.folder, SPACE.name) if record.status != "ok"]
    assert len(failed) == 1
    assert all(record.times_ms == () and record.error for record in failed)


def test_whole_front_is_measured_and_not_dominated(tuned, tmp_path) -> None:
    found = finder(tuned, FormulaDevice(), tmp_path)
    front = found.models.front()
    picks = found.along_front(front)
    assert len(picks) >= 4
    assert [pick.measured_ms for pick in picks] == sorted(present(pick.measured_ms) for pick in picks)
    assert [pick.validation_top1 for pick in picks] == sorted(present(pick.validation_top1) for pick in picks)
    assert all(pick.held is None and pick.budget_ms is None for pick in picks)


def test_latency_report_compares_with_what_it_has_to_beat(tuned) -> None:
    latency_bench = bench(tuned, FormulaDevice())
    latency_bench.measure_samples(60)
    report = latency_bench.fit_and_save()
    assert report["samples"] == 60
    assert report["estimated_kernels"] == 0
    assert (latency_bench.tuned.model_folder / "cost_model.report.json").exists()
    assert {"model", "xgboost_raw", "table_alone", "additive", "flops"} <= report["methods"].keys()
    assert report["mape"] < 0.02


def test_records_of_other_schedules_are_stale(tuned) -> None:
    first = FormulaDevice()
    latency_bench = bench(tuned, first)
    latency_bench.measure([SPACE.largest])
    kernel = fused_steps(SPACE.network(SPACE.largest))[0].kernel.key
    better = TrialResult("ok", (1e-6,), is_checked=True)
    tuned.commit(kernel, [(Candidate(kernel, "template", {"template": "t", "parameters": {}}), better)])
    assert bench(tuned, first).known()[0] == []


def test_untuned_kernels_are_estimated_and_counted(tuned) -> None:
    kernels = fused_kernels(SPACE)
    some = dataclasses.replace(next(iter(kernels.values())), out_channels=640)
    costs, estimated = kernel_costs(tuned, {**kernels, some.key: some}, SPACE)
    assert estimated == 1
    assert costs[some.key] > 0


def test_nothing_tuned_says_what_to_do(tmp_path) -> None:
    with pytest.raises(NotTuned, match="tune"):
        bench(TuningLog(load_target("x86"), tmp_path), FormulaDevice())


def test_too_many_failures_end_with_the_reason(tuned) -> None:
    class Dead(FormulaDevice):
        def time_subnet(self, space, classes, subnet):
            self.measured.append(subnet)
            return SubnetTiming("timed_out", error="took longer than 300 s")

    dead = Dead()
    with pytest.raises(PartialResult, match="took longer than 300 s"):
        bench(tuned, dead).measure_samples(60)
    assert len(dead.measured) == len(set(dead.measured)) == MAX_FAILURES


def test_failed_subnets_are_replaced_and_may_be_measured_again_by_a_later_run(tuned) -> None:
    first = {config.key for config in SPACE.sample_configs(np.random.default_rng(0), 25)}
    failing = frozenset(sorted(first)[:5])
    device = FormulaDevice(broken=failing)
    latency_bench = bench(tuned, device)
    latency_bench.measure_samples(25)
    assert len(latency_bench.known()[0]) == 25
    assert len(device.measured) == len(set(device.measured)) == 30
    later = FormulaDevice()
    measured = bench(tuned, later).measure([SubnetConfig.parse(key) for key in sorted(failing)])
    assert all(present(latency_ms) > 0 for latency_ms in measured)
    assert set(later.measured) == failing


def test_a_subnet_that_failed_last_is_not_known_to_a_later_run(tuned) -> None:
    bench(tuned, FormulaDevice()).measure([SPACE.largest])
    bench(tuned, FormulaDevice(broken=frozenset({SPACE.largest.key}))).confirm(SPACE.largest)
    assert bench(tuned, FormulaDevice()).known()[0] == []


def test_fitting_again_keeps_the_saved_report(tuned) -> None:
    latency_bench = bench(tuned, FormulaDevice())
    latency_bench.measure_samples(30)
    latency_bench.fit_and_save()
    files = [latency_bench.tuned.model_folder / name for name in ("cost_model.ubj", "cost_model.report.json")]
    saved = [path.read_bytes() for path in files]
    bench(tuned, FormulaDevice()).measure_samples(40)
    assert [path.read_bytes() for path in files] == saved


def test_another_number_of_classes_is_measured_and_kept_apart(tuned) -> None:
    space = SPACE.with_classes(2)
    device = FormulaDevice()
    own = bench(tuned, device)
    two_classes = TunedSpace(space, load_target("x86"), tuned)
    other = LatencyBench(two_classes, device)
    assert own.tuned.model_folder == tuned.folder / SPACE.name
    assert two_classes.model_folder == tuned.folder / f"{SPACE.name}-2c"
    own.measure([SPACE.largest])
    assert device.classes == {SPACE.classes}
    other.measure([SPACE.smallest])
    assert device.classes == {SPACE.classes, 2}
    assert bench(tuned, device).known()[0] == [SPACE.largest]
    assert LatencyBench(two_classes, device).known()[0] == [SPACE.smallest]


def test_records_without_a_number_of_classes_are_of_the_spaces_own(tuned) -> None:
    bench(tuned, FormulaDevice()).measure([SPACE.largest])
    drop_from_the_record(tuned, "classes")
    assert bench(tuned, FormulaDevice()).known()[0] == [SPACE.largest]


@pytest.mark.parametrize("path", sorted(shipped_folder("tuning_logs").glob(f"*/*/{FILE_NAME}")), ids=str)
def test_shipped_records_are_readable(path) -> None:
    read = sum(len(read_records(path.parent, space)) for space in SPACES)
    assert read == len(path.read_text().splitlines())


def test_damaged_records_name_file_and_line(tuned) -> None:
    append_jsonl(tuned.folder / FILE_NAME, [{"space": SPACE.name}])
    with pytest.raises(UserError, match="line 1"):
        bench(tuned, FormulaDevice())


@pytest.mark.parametrize("subnet", ["r24.1x1", "r32.7x4", "r33.3x2-3x2.3x2-3x2.3x2-3x2", "r32.3x2-3x2.3x2-3x2.3x2-3x9"])
def test_records_of_subnets_that_are_none_name_file_and_subnet(tuned, subnet) -> None:
    bench(tuned, FormulaDevice()).measure([SPACE.largest])
    path = tuned.folder / FILE_NAME
    path.write_text(path.read_text().replace(SPACE.largest.key, subnet))
    with pytest.raises(UserError, match=rf"{path} has a record of {subnet}: .*\n +remove its lines: sed -i "):
        bench(tuned, FormulaDevice())


def test_accuracy_samples_resume_and_ignore_other_weights(tmp_path) -> None:
    calls = []

    def counted(config: SubnetConfig) -> float:
        calls.append(config.key)
        return top1(config)

    AccuracySamples(SPACE, tmp_path, "weights").sample(20, counted)
    again = AccuracySamples(SPACE, tmp_path, "weights")
    again.sample(30, counted)
    assert len(calls) == len(set(calls)) == 30
    assert AccuracySamples(SPACE, tmp_path, "other weights").top1 == {}
    report = again.report()
    assert (report.samples, report.held_out, report.folds) == (20, 10, 3)
    assert report == again.report()
    assert -1 <= report.kendall_tau <= 1


@pytest.mark.parametrize("line", [{"subnet": "x"}, {"right": "AAA=", "images": 9}, {"right": "eA==", "images": -8}])
def test_damaged_accuracy_samples_name_file_and_line(tmp_path, line) -> None:
    whole = {"subnet": "x", "validation_top1": 0.5, "checkpoint": "weights"} if "right" in line else {}
    append_jsonl(tmp_path / "accuracy.jsonl", [{**whole, **line}])
    with pytest.raises(UserError, match="line 1"):
        AccuracySamples(SPACE, tmp_path, "weights")


def answering(images: int, seed: int = 0):
    """An evaluation on so many images, of which subnets get most alike right."""
    rng = np.random.default_rng(seed)
    easy = rng.random(images)

    def answers(config: SubnetConfig):
        own = np.random.default_rng(zlib.crc32(config.key.encode())).random(images)
        return np.where(own < 0.2, rng.random(images), easy) < top1(config)

    return answers


def test_answers_are_kept_and_come_back(tmp_path) -> None:
    samples, answers = AccuracySamples(SPACE, tmp_path, "weights"), answering(1001)
    samples.evaluate([SPACE.largest, SPACE.smallest], answers, compared=True)
    again = AccuracySamples(SPACE, tmp_path, "weights")
    assert again.top1 == samples.top1
    for key, kept in samples.answers.items():
        assert np.array_equal(again.answers[key], kept)
    again.evaluate([SPACE.largest], lambda config: pytest.fail("it is known"), compared=True)


def test_accuracies_of_another_machine_are_taken_over_once(tmp_path) -> None:
    there = AccuracySamples(SPACE, tmp_path / "there", "weights")
    there.sample(25, top1)
    here = AccuracySamples(SPACE, tmp_path / "here", "weights")
    here.sample(20, top1)
    assert here.merge(there.folder / "accuracy.jsonl") == 5
    assert here.merge(there.folder / "accuracy.jsonl") == 0
    assert AccuracySamples(SPACE, tmp_path / "here", "weights").top1 == here.top1 == there.top1
    with pytest.raises(UserError, match="tells nothing of the supernet other"):
        AccuracySamples(SPACE, tmp_path, "other").merge(there.folder / "accuracy.jsonl")
    with pytest.raises(UserError, match="does not exist"):
        here.merge(tmp_path / "nowhere")


def doubted(tmp_path, images: int) -> list[str]:
    samples = AccuracySamples(SPACE, tmp_path, "weights")
    samples.sample(60, answering(images))
    return doubts(samples, images, samples.report())


def test_few_images_are_said_to_be_few(tmp_path) -> None:
    few = doubted(tmp_path / "few", 100)
    assert "100 held-out images tell an accuracy to ±4" in few[0]
    assert "orders subnets weakly" in few[1]
    assert doubted(tmp_path / "many", 20_000) == []


def test_ties_go_to_the_faster(tuned, tmp_path) -> None:
    """Where chance decides among many, the pick is faster than the most accurate on the held-out images."""

    def picked(images: int):
        latency_bench = bench(tuned, FormulaDevice())
        latency_bench.measure_samples(30)
        samples = AccuracySamples(SPACE, tmp_path / str(images), "weights")
        samples.sample(40, answering(images))
        source = EvaluatedAccuracy(samples, answering(images), images)
        return Finder(latency_bench, source, SearchSettings(evaluations=2000, population=100)).for_budget(0.4)

    few, many = picked(100), picked(100_000)
    assert present(few.measured_ms) < present(many.measured_ms)
    assert present(few.validation_error) > 5 * present(many.validation_error)
    assert present(many.expected_top1) == pytest.approx(present(many.validation_top1), abs=0.003)


class Machine(FormulaDevice):
    """A machine that is so many times slower than usual, for everything; ``own`` for all but the reference subnet."""

    def __init__(self, slow: float = 1.0, own: float = 1.0) -> None:
        super().__init__()
        self.slow, self.own = slow, own

    def slowness(self):
        return self.slow

    def own_slowness(self, subnet):
        return self.own


CONFIGS = SPACE.sample_configs(np.random.default_rng(3), 30)
STEADY_MS = np.asarray([latency_ms(config) for config in CONFIGS])


def test_what_is_told_is_what_was_measured_now(tuned) -> None:
    bench(tuned, Machine()).measure(CONFIGS[:25])
    today = bench(tuned, Machine(slow=1.4))
    assert today.known()[1] == pytest.approx(STEADY_MS[:25])
    assert today.measure(CONFIGS[:3]) == pytest.approx(1.4 * STEADY_MS[:3])
    assert today.reference_ms == pytest.approx(1.4)
    configs, known_ms = today.known()
    assert configs == CONFIGS[:25]
    assert known_ms == pytest.approx(1.4 * STEADY_MS[:25])


def on_another_host(log) -> None:
    path = log.folder / FILE_NAME
    lines = [{**json.loads(line), "host": "another"} for line in path.read_text().splitlines()]
    path.unlink()
    append_jsonl(path, lines)


def test_records_of_another_host_are_corrected_by_a_few_that_are_measured_here(tuned, capsys) -> None:
    bench(tuned, Machine()).measure(CONFIGS[:25])
    on_another_host(tuned)
    device = Machine(slow=1.2, own=1.5)
    here = bench(tuned, device)
    here.anchor()
    assert len(device.measured) == NEW_ANCHORS
    assert here.known()[1] == pytest.approx(1.2 * 1.5 * STEADY_MS[:25])
    assert capsys.readouterr().err.count("subnets take 1.80x the time that the records tell") == 1


def test_the_next_search_on_the_same_host_needs_few(tuned) -> None:
    bench(tuned, Machine()).measure(CONFIGS[:25])
    device = Machine(slow=1.3)
    bench(tuned, device).anchor()
    assert len(device.measured) == ANCHORS


def test_other_percentiles_and_load_start_from_what_is_known_and_are_corrected(tuned) -> None:
    bench(tuned, Machine()).measure(CONFIGS[:25])
    device = Machine()
    slow_calls = LatencyBench(TunedSpace(SPACE, load_target("x86"), tuned), device, percentile=99, busy_cores=1)
    slow_calls.anchor()
    assert len(device.measured) == NEW_ANCHORS
    assert slow_calls.known()[1] == pytest.approx(1.3 * STEADY_MS[:25])
    assert bench(tuned, Machine()).known()[1] == pytest.approx(STEADY_MS[:25])


def test_all_windows_of_today_count(tuned) -> None:
    device = Machine(own=1.1)
    noisy = bench(tuned, device)
    noisy.measure([SPACE.largest])
    device.own = 0.9
    timing = noisy.confirm(SPACE.largest)
    assert timing is not None
    assert len(timing.windows) == 6
    assert timing.slowest_ms() == pytest.approx(1.1 * 1.01 * latency_ms(SPACE.largest))
    assert noisy.latency_ms(SPACE.largest) == timing.told_ms() == pytest.approx(latency_ms(SPACE.largest), rel=0.02)


def test_a_disturbed_machine_is_waited_for(tuned, tmp_path, monkeypatch) -> None:
    found = finder(tuned, device := FormulaDevice(), tmp_path)
    slept = []

    def wait(seconds):
        slept.append(seconds)
        device.calibration_ms = 0.05

    monkeypatch.delenv("OFA_TVM_LONGEST_WAIT_S")
    monkeypatch.setattr("time.sleep", wait)
    device.calibration_ms = 0.1
    pick = found.for_budget(0.3)
    assert pick.held is True
    assert slept == [5]
    timing = present(pick.timing)
    assert timing.is_sound


def test_on_a_machine_that_stays_disturbed_no_budget_is_called_held(tuned, tmp_path, monkeypatch) -> None:
    found = finder(tuned, device := FormulaDevice(), tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    device.calibration_ms = 0.1
    pick = found.for_budget(0.3)
    assert pick.held is None
    assert not present(pick.timing).is_sound
    there = regret("here", [pick], "here", found, [pick])
    assert (there.broken_budgets, there.unsure_budgets, there.picks) == (0, 1, 1)


def test_where_a_device_elsewhere_was_disturbed_it_is_to_measure_again(tuned, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    there = bench(tuned, device := FormulaDevice())
    there.measure([SPACE.smallest, SPACE.middle])
    device.calibration_ms = 0.1
    there.measure([SPACE.largest])
    elsewhere = bench(tuned, None)
    elsewhere.measure([SPACE.smallest, SPACE.largest])
    assert list(elsewhere.wanted) == [SPACE.largest.key]
    assert elsewhere.latency_ms(SPACE.largest) is not None


def test_records_without_a_reference_are_not_used(tuned) -> None:
    bench(tuned, FormulaDevice()).measure([SPACE.largest])
    drop_from_the_record(tuned, "reference_ms")
    assert bench(tuned, FormulaDevice()).known()[0] == []


def test_other_limits_are_kept_and_other_objectives_told(tuned, tmp_path) -> None:
    found = finder(tuned, FormulaDevice(), tmp_path, limits={"size": 0.8}, objectives=("macs", "memory"))
    pick = found.for_budget(0.5)
    network = SPACE.network(SubnetConfig.parse(pick.subnet))
    assert network.parameter_bytes <= 0.8e6
    assert pick.objectives == {
        "macs": pytest.approx(network.macs / 1e6),
        "memory": pytest.approx(network.peak_activation_bytes / 1e6),
    }
    front = found.models.front()
    assert all(SPACE.network(SubnetConfig.parse(point.subnet)).parameter_bytes <= 0.8e6 for point in front)
    assert all(set(point.objectives) == {"macs", "memory"} for point in front)


def test_only_some_resolutions_may_be_taken(tuned, tmp_path) -> None:
    found = finder(tuned, FormulaDevice(), tmp_path, resolutions=(28,))
    assert {SubnetConfig.parse(point.subnet).resolution for point in found.models.front()} == {28}
    assert SubnetConfig.parse(found.for_budget(0.3).subnet).resolution == 28


@pytest.mark.parametrize(("limits", "unit"), [({"size": 0.01}, "MB"), ({"macs": 0.1}, "M"), ({"memory": 1e-3}, "MB")])
def test_a_limit_that_nothing_meets_is_refused_without_a_measurement(tuned, tmp_path, limits, unit) -> None:
    device = FormulaDevice()
    found = finder(tuned, device, tmp_path, limits=limits)
    before = len(device.measured)
    with pytest.raises(Infeasible, match=f"the nearest is .* {unit} \\({SPACE.smallest.key}\\)"):
        found.for_budget(0.3)
    assert len(device.measured) == before


def test_the_fastest_subnet_follows_from_the_model(tuned, tmp_path) -> None:
    model = finder(tuned, FormulaDevice(), tmp_path).models.latency
    sampled = SPACE.sample(np.random.default_rng(2), 20_000)
    fastest = SPACE.genomes([model.fastest()])
    assert model.screen(fastest)[0] <= model.screen(sampled).min() + 1e-12
    assert model.fastest([28]).resolution == 28


def test_regret_is_nothing_at_home_and_something_where_kernels_cost_otherwise(tuned, tmp_path) -> None:
    class Elsewhere(FormulaDevice):
        """A device that large kernels slow down."""

        def own_slowness(self, subnet):
            return 1 + 0.2 * sum(kernel > 3 for stage in SubnetConfig.parse(subnet).stages for kernel, _ in stage)

    home = finder(tuned, FormulaDevice(), tmp_path)
    other_log = tuned_alike(tuned, tmp_path / "elsewhere")
    away = finder(other_log, Elsewhere(), tmp_path)
    picks = [home.for_budget(budget) for budget in (0.25, 0.35)]
    assert regret("home", picks, "home", home, picks).record() == {
        "shipped": "home",
        "on": "home",
        "top1_lost": 0,
        "slower": 0,
        "broken_budgets": 0,
        "picks": 2,
        "unsure_budgets": 0,
        "predicted": 0,
        "provenance": "measured",
    }
    there_ms = away.bench.measure([SubnetConfig.parse(pick.subnet) for pick in picks])
    others = [away.for_budget(present(latency_ms)) for latency_ms in there_ms]
    elsewhere = regret("home", picks, "away", away, others)
    assert elsewhere.broken_budgets == 2
    assert elsewhere.top1_lost > 0.001
    assert elsewhere.slower > 0


def test_picks_are_predicted_where_no_device_is_at_hand(tuned, tmp_path) -> None:
    there = finder(tuned, FormulaDevice(), tmp_path)
    own = there.for_budget(0.35)
    picks = [own.model_copy(update={"subnet": config.key}) for config in (SPACE.middle, SPACE.largest)]
    later = finder(tuned, None, tmp_path)
    found = regret("home", picks, "there", later, [own])
    assert (found.predicted, found.broken_budgets, found.unsure_budgets, found.how) == (2, 0, 0, "predicted")
    assert math.isfinite(found.slower)
    assert {pick.subnet for pick in picks} <= set(later.bench.wanted)
    there.bench.measure([SPACE.largest])
    found = regret("home", picks, "there", finder(tuned, None, tmp_path), [own])
    assert (found.predicted, found.broken_budgets, found.how) == (1, 1, "measured, 1 predicted")


class MeteredGpu(FormulaDevice):
    """A device of 50 W whose calls draw 0.2 mJ for each million MACs besides; some draw twice as much."""

    def time_subnet(self, space, classes, subnet):
        timing = super().time_subnet(space, classes, subnet)
        return dataclasses.replace(timing, energy_mj=self.energy_mj(SubnetConfig.parse(subnet)))

    def energy_mj(self, config: SubnetConfig) -> float:
        alike = 50 * latency_ms(config) + 0.2e-6 * SPACE.network(config).macs
        return alike * (2 if zlib.crc32(config.key.encode()) % 4 == 0 else 1)


def test_a_gpus_energy_holds_its_limit_as_it_was_metered(tmp_path) -> None:
    gpu = load_target("cuda-sm90", device="local")
    tuned = TunedSpace(SPACE, gpu, TuningLog(gpu, tmp_path))
    tuned.log.folder.mkdir(parents=True)
    for key, kernel in tuned.kernels().items():
        result = TrialResult("ok", (kernel_ms(kernel),), is_checked=True)
        tuned.log.commit(key, [(Candidate(key, "default", {}), result)])
    device = MeteredGpu()
    latency_bench = LatencyBench(tuned, device)
    assert latency_bench.power() == UNKNOWN
    latency_bench.measure_samples(30)
    samples = AccuracySamples(SPACE, tmp_path / "supernet", "weights")
    samples.sample(40, top1)
    limit_mj = 0.7 * float(np.median([device.energy_mj(config) for config in latency_bench.known()[0]]))
    assert device.energy_mj(SPACE.largest) > limit_mj
    quick = SearchSettings(evaluations=1000, population=100, objectives=("energy",), limits={"energy": limit_mj})
    pick = Finder(latency_bench, EvaluatedAccuracy(samples, top1, IMAGES), quick).for_budget(10)
    assert pick.held
    assert pick.energy_mj == device.energy_mj(SubnetConfig.parse(pick.subnet)) <= limit_mj
    assert pick.objectives == {"energy": pick.energy_mj}
    assert present(pick.watts) > 50
    again = LatencyBench(tuned, ReplayDevice.from_log(tuned.log.folder))
    assert again.energy_mj(SubnetConfig.parse(pick.subnet)) == pick.energy_mj
    assert again.power().watts == pytest.approx(latency_bench.power().watts)


def test_a_search_on_recorded_latencies_finds_the_same(tuned, tmp_path) -> None:
    pick = finder(tuned, FormulaDevice(), tmp_path).for_budget(0.3)
    replayed = tuned_alike(tuned, tmp_path / "again")
    device = ReplayDevice.from_log(tuned.folder)
    again = finder(replayed, device, tmp_path / "again").for_budget(0.3)
    assert again.subnet == pick.subnet
    (missing,) = device.time_subnets(
        TunedSubnets(SPACE.name, SPACE.classes, ("r1.3x3",), tmp_path), WindowPlan(1, 1, 0)
    )
    assert missing.status == "failed"
