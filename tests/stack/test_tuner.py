"""The real tuner: templates compute what they should, and a tuning run survives whatever happens to it.

Tuning runs in processes of its own: its worker is forked, which a process with TVM's threads should not be.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from ofa_tvm.compiler.cpu_features import cpu_features
from ofa_tvm.compiler.pipeline import compile_network
from ofa_tvm.compiler.runtime import load
from ofa_tvm.compiler.tvm_import import Target
from ofa_tvm.kernels import KernelSpec, network_kernels, space_kernels
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.targets import load_target
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.database import load_database
from ofa_tvm.tuner.evolution import Evolution, PooledCostModel
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.sources import Sources
from ofa_tvm.tuner.templates import template_candidates
from ofa_tvm.weights import random_weights

LONG_S = 120
CONV = KernelSpec("conv", 24, 48, 7, activation="hard_swish", bias=True)
DEPTHWISE = KernelSpec("depthwise", 48, 48, 8, kernel_size=3, activation="relu", bias=True)
KERNELS = {
    "pointwise": CONV,
    "pointwise on 3x3": replace(CONV, in_size=3),
    "pointwise on 9x9": replace(CONV, in_size=9),
    "scaled": replace(CONV, scaled=True, activation="none"),
    "residual": replace(CONV, residual=True, activation="none"),
    "scaled and residual": replace(CONV, scaled=True, residual=True, activation="relu"),
    "stem": KernelSpec("conv", 3, 16, 28, kernel_size=3, stride=2, activation="hard_swish", bias=True),
    "batch of three": replace(CONV, batch=3),
    "few channels": replace(CONV, out_channels=24),
    **{
        f"depthwise k{kernel_size}s{stride} on {size}": replace(
            DEPTHWISE, kernel_size=kernel_size, stride=stride, in_size=size
        )
        for kernel_size in (3, 5, 7)
        for stride, size in ((1, 8), (2, 8), (1, 7), (2, 9), (1, 3))
    },
}


@pytest.fixture(scope="module")
def target_file(tmp_path_factory):
    """The x86 target with short measurements."""
    text = (Path(__file__).parents[2] / "targets" / "x86.toml").read_text()
    for old, new in (
        ("min_repeat_ms = 4", "min_repeat_ms = 1"),
        ("repeats = 7", "repeats = 2"),
        ("\nbatch = 6", "\nbatch = 3"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path_factory.mktemp("target") / "quick.toml"
    path.write_text(text)
    return path


def command(target_file, logs, *options):
    base = [sys.executable, "-m", "ofa_tvm.tune", "--target", str(target_file), "--logs", str(logs)]
    return [*base, "--resolution", "28", "--samples", "0", "--json", *options]


def tune(target_file, logs, *options):
    return subprocess.run(command(target_file, logs, *options), capture_output=True, text=True, check=False)


@pytest.fixture
def start(target_file, tmp_path):
    """Starts a long tuning run in a group of its own, under way as soon as its first batch is in the log."""
    started = []

    def start():
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        process = subprocess.Popen(command(target_file, tmp_path), **options)
        started.append(process)
        trials = TuningLog(load_target(str(target_file)), tmp_path).folder / "trials.jsonl"
        while not (trials.exists() and trials.stat().st_size):
            ended, _, _ = select.select([process.stdout], [], [], 0.05)
            assert not ended, process.stderr.read()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def ledger(target_file, logs):
    path = TuningLog(load_target(str(target_file)), logs).folder / "trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


TRIALS = """
import json, sys
from pathlib import Path
from ofa_tvm.devices.local import LocalDevice
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.targets import load_target
from ofa_tvm.tuner.candidate import Candidate

with LocalDevice(load_target(sys.argv[1])) as device:
    for line in sys.stdin:
        kernel, schedule = json.loads(line)
        spec = KernelSpec(**kernel)
        result = device.trial(spec, Candidate(spec.key, "template", schedule), None)
        print(json.dumps([result.status, result.error, result.best_ms, result.record is not None]), flush=True)
"""


def run_trials(target_file, pairs):
    """[status, error, best_ms, has a record] of each (kernel, schedule), all in one worker."""
    lines = "".join(json.dumps([asdict(spec), schedule]) + "\n" for spec, schedule in pairs)
    done = subprocess.run(
        [sys.executable, "-c", TRIALS, str(target_file)], input=lines, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def spread(candidates, count=3):
    """The best-ranked two and a few from the rest of the ranking."""
    return [*candidates[:2], *candidates[2 :: max(1, len(candidates) // count)]][: count + 1]


def test_templates_compute_what_the_kernel_does(target_file):
    features = cpu_features(Target(load_target("x86").attributes))
    named = [
        (name, spec, {"template": template, "parameters": parameters})
        for name, spec in KERNELS.items()
        for template, parameters in spread(template_candidates(spec, features))
    ]
    assert {name for name, _, _ in named} == KERNELS.keys()
    results = run_trials(target_file, [(spec, schedule) for _, spec, schedule in named])
    wrong = [
        (name, schedule, result)
        for (name, _, schedule), result in zip(named, results, strict=True)
        if result[0] != "ok"
    ]
    assert not wrong
    assert all(best_ms > 0 and has_record for _, _, best_ms, has_record in results)


def test_a_candidate_that_cannot_be_built_costs_one_trial(target_file):
    schedules = [
        {"trace": "no trace"},
        {"template": "no_such_template", "parameters": {}},
        {"template": "conv_tile", "parameters": {"rows": 1}},
        {"template": "depthwise_tile", "parameters": {"columns": 1, "channels": 8, "lanes": 8, "copy_rows": 0}},
        {},
    ]
    results = run_trials(target_file, [(CONV, schedule) for schedule in schedules])
    assert [status for status, *_ in results[:-1]] == ["failed"] * 4
    assert all(error for _, error, *_ in results[:-1])
    assert results[-1][0] == "ok"


@pytest.fixture(scope="module")
def tuned(target_file, tmp_path_factory):
    """Logs of a short run, and what it printed."""
    logs = tmp_path_factory.mktemp("logs")
    done = tune(target_file, logs, "--trials", "14", "--no-evolution")
    assert done.returncode == 0, done.stderr
    return logs, json.loads(done.stdout)


def test_a_run_reports_what_it_did(target_file, tuned):
    logs, report = tuned
    log = TuningLog(load_target(str(target_file)), logs)
    assert report["schema_version"] == 1
    assert report["target"] == "quick"
    assert report["fingerprint"] == log.folder.name
    assert (report["trials"], report["stopped_by"]) == (14, "trial budget")
    assert report["kernels"] == len(space_kernels(MBV3_CIFAR, (28,)))
    assert report["tuned"] + report["fallback"] == report["kernels"]
    assert report["tuned"] == len(log.best_records()) > 0
    assert report["cost"]["energy_kwh"] > 0
    assert len(log.tried) == 14


def test_a_resumed_run_measures_nothing_again(target_file, tuned):
    logs, _ = tuned
    known = {line["digest"] for line in ledger(target_file, logs)}
    done = tune(target_file, logs, "--trials", "7", "--no-evolution")
    assert json.loads(done.stdout)["trials"] == 7
    digests = [line["digest"] for line in ledger(target_file, logs)]
    assert len(digests) == len(set(digests)) == len(known) + 7


def test_records_make_the_same_network(target_file, tuned):
    logs, _ = tuned
    log = TuningLog(load_target(str(target_file)), logs)
    config = next(
        config
        for config in MBV3_CIFAR.sample_configs(np.random.default_rng(0), 200)
        if config.resolution == 28
        and any(spec.key in log.best_records() for _, spec in network_kernels(MBV3_CIFAR.network(config)))
    )
    network = MBV3_CIFAR.network(config)
    kernels = [spec for _, spec in network_kernels(network)]
    database = load_database(kernels, log.best_records())
    assert len(database) == len({spec.key for spec in kernels} & log.best_records().keys()) > 0
    weights, target = random_weights(network), Target(load_target("x86").attributes)
    images = np.random.default_rng(1).standard_normal((1, 28, 28, 3), np.float32)
    expected = load(compile_network(network, weights, target))(images)
    found = load(compile_network(network, weights, target, database))(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


def test_coverage_and_plan_measure_nothing(target_file, tuned):
    logs, _ = tuned
    before = len(ledger(target_file, logs))
    covered = json.loads(tune(target_file, logs, "--coverage").stdout)
    planned = json.loads(tune(target_file, logs, "--dry-run", "--trials", "50").stdout)
    assert covered["tuned"] == planned["tuned"] > 0
    assert planned["planned_trials"] == 50
    assert planned["planned_s"] > 0
    assert len(ledger(target_file, logs)) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "no-such-target"], "unknown target 'no-such-target'"),
        (["--space", "no-such-space"], "unknown space 'no-such-space'"),
        (["--resolution", "29"], "29"),
    ],
)
def test_bad_input_ends_with_2(target_file, tmp_path, options, message):
    done = tune(target_file, tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_a_second_process_is_refused_and_a_killed_one_resumes(target_file, tmp_path, start):
    process = start()
    family = psutil.Process(process.pid).children(recursive=True)
    second = tune(target_file, tmp_path)
    assert second.returncode == 2
    assert f"in use by process {process.pid} " in second.stderr
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=LONG_S)
    assert not alive
    saved = len(TuningLog(load_target(str(target_file)), tmp_path).tried)
    assert saved > 0
    resumed = tune(target_file, tmp_path, "--trials", "2")
    assert resumed.returncode == 0, resumed.stderr
    digests = [line["digest"] for line in ledger(target_file, tmp_path)]
    assert len(digests) == len(set(digests)) == saved + 2


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_saves_and_says_so(target_file, tmp_path, start, number, code, word):
    process = start()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, out) == (code, "")
    assert f"{word}; what was done is saved" in err
    assert "Traceback" not in err
    log = TuningLog(load_target(str(target_file)), tmp_path)
    assert len(log.tried) == sum(state.trials for state in log.kernels.values()) > 0
    with log.exclusive():
        assert (log.folder / "ledger.jsonl").read_text().count("tune mbv3-cifar") == 1


def test_evolution_asks_and_is_told(target_file):
    target = Target(load_target("x86").attributes)
    evolution = Evolution(CONV, target, 3, PooledCostModel(), seed=0)
    first = evolution.ask()
    assert 0 < len(first) <= 3
    assert {candidate.source for candidate in first} == {"evolution"}
    evolution.tell([[1e-3 * (1 + number)] if number else None for number in range(len(first))])
    second = evolution.ask()
    assert second
    assert not {candidate.digest for candidate in first} & {candidate.digest for candidate in second}
    evolution.tell([None] * len(second))
    results = run_trials(target_file, [(CONV, candidate.schedule) for candidate in [*first, *second]])
    assert {status for status, *_ in results} == {"ok"}


def test_sources_propose_each_program_once():
    attributes = load_target("x86").attributes
    template = next(
        {"template": name, "parameters": parameters}
        for name, parameters in template_candidates(CONV, cpu_features(Target(attributes)))
    )
    tried = {Candidate(CONV.key, "default", {}).digest}
    donors = {CONV.key: [{}, template]}
    source = Sources(attributes, donors, tried, batch=4, evolution=False)(CONV)
    proposed = []
    while asked := source.ask(5):
        proposed += asked
    assert proposed[0] == Candidate(CONV.key, "donor", template)
    digests = [candidate.digest for candidate in proposed]
    assert not tried & set(digests)
    assert len(digests) == len(set(digests))
