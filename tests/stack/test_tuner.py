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

from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.evolution import Evolution, PooledCostModel
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tile_candidates import Sources
from ofa_tvm.tuner.tiles import CpuTiles
from ofa_tvm.tuner.trial import KernelState

LONG_S = 120
CONV = KernelSpec("conv", 24, 48, 7, activation="hard_swish", bias=True)
PAIR = KernelSpec("expand_depthwise", 24, 48, 8, kernel_size=5, activation="relu", bias=True, pooled=True)


@pytest.fixture(scope="module")
def target_file(tmp_path_factory):
    """The x86 target with short measurements."""
    text = (Path(__file__).parents[2] / "targets" / "x86.toml").read_text()
    for old, new in (
        ("min_repeat_ms = 4", "min_repeat_ms = 1"),
        ("repeats = 7", "repeats = 2"),
        ("\nbatch = 4", "\nbatch = 3"),
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
        process = subprocess.Popen(
            command(target_file, tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
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
from ofa_tvm.devices.local.device import LocalDevice
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.tuner.candidate import Candidate

with LocalDevice(load_target(sys.argv[1])) as device:
    for line in sys.stdin:
        kernel, schedule = json.loads(line)
        spec = KernelSpec(**kernel)
        result = device.trial(spec, Candidate(spec.key, "template", schedule), None)
        print(json.dumps([result.status, result.error, result.best_ms, result.is_checked]), flush=True)
"""


def run_trials(target_file, pairs):
    """[status, error, best_ms, is checked] of each (kernel, schedule), all in one worker."""
    lines = "".join(json.dumps([asdict(spec), schedule]) + "\n" for spec, schedule in pairs)
    done = subprocess.run(
        [sys.executable, "-c", TRIALS, str(target_file)], input=lines, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_candidates_run_and_are_checked(target_file):
    features = cpu_features(Target(load_target("x86").attributes))
    pairs = [(spec, schedule) for spec in (CONV, PAIR) for schedule in candidates(spec, features)[::6]]
    results = run_trials(target_file, pairs)
    assert [(status, is_checked) for status, _, _, is_checked in results] == [("ok", True)] * len(pairs)
    assert all(best_ms > 0 for _, _, best_ms, _ in results)


def test_a_candidate_that_cannot_be_built_costs_one_trial(target_file):
    schedules = [
        {"trace": "no trace"},
        {"template": "no_such_template", "parameters": {}},
        {"template": "pointwise", "parameters": {"pixels": 1}},
        {"template": "depthwise", "parameters": {"columns": 1, "channels": 8}},
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
    done = tune(target_file, logs, "--trials", "14")
    assert done.returncode == 0, done.stderr
    return logs, json.loads(done.stdout)


def test_a_run_reports_what_it_did(target_file, tuned):
    logs, report = tuned
    log = TuningLog(load_target(str(target_file)), logs)
    assert report["schema_version"] == 1
    assert report["target"] == "quick"
    assert report["fingerprint"] == log.folder.name
    assert (report["trials"], report["stopped_by"]) == (14, "trial budget")
    assert report["kernels"] == len(fused_kernels(MBV3_CIFAR, (28,)))
    assert report["tuned"] + report["fallback"] == report["kernels"]
    assert report["tuned"] == len(log.winners) > 0
    assert report["cost"]["energy_kwh"] > 0
    assert len(log.tried) == 14


def test_a_resumed_run_measures_nothing_again(target_file, tuned):
    logs, _ = tuned
    known = {line["digest"] for line in ledger(target_file, logs)}
    done = tune(target_file, logs, "--trials", "7")
    assert json.loads(done.stdout)["trials"] == 7
    digests = [line["digest"] for line in ledger(target_file, logs)]
    assert len(digests) == len(set(digests)) == len(known) + 7


def test_winners_make_the_same_network(target_file, tuned, tmp_path):
    logs, _ = tuned
    spec = load_target(str(target_file))
    winners, cache = TuningLog(spec, logs).winners, ObjectCache(spec.attributes)
    config = next(
        config
        for config in MBV3_CIFAR.sample_configs(np.random.default_rng(0), 200)
        if config.resolution == 28
        and any(step.kernel.key in winners for step in fused_steps(MBV3_CIFAR.network(config)))
    )
    network = MBV3_CIFAR.network(config)
    weights, outputs = random_weights(network), []
    for number, known in enumerate(({}, winners)):
        library = tmp_path / f"{number}.so"
        assemble(network, weights, known, cache, library, 1, "g++")
        images = np.random.default_rng(1).standard_normal((1, 28, 28, 3), np.float32)
        outputs.append(LoadedModel(library)(images))
    assert np.abs(outputs[1] - outputs[0]).max() / np.abs(outputs[0]).max() < 1e-4


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
    assert json.loads(done.stdout)["error"]["code"] == 2
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
    saved = len(ledger(target_file, tmp_path))  # a kill between a log's two files leaves a winner that no ledger knows
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
    assert process.returncode == json.loads(out)["error"]["code"] == code
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


def proposals(source):
    proposed = []
    while asked := source.ask(5):
        proposed += asked
        source._sources.tried.update(candidate.digest for candidate in asked)
    return proposed


def sources(known=None, donors=None, tried=(), kernels=(CONV,), transfer=True):
    attributes = load_target("x86").attributes
    by_key = {spec.key: spec for spec in kernels}
    return Sources(CpuTiles(attributes), by_key, known or {}, donors or {}, set(tried), transfer)


def test_sources_propose_each_program_once():
    ranked = candidates(CONV, cpu_features(Target(load_target("x86").attributes)))
    tried = {Candidate(CONV.key, "template", ranked[1]).digest}
    donors = {CONV.key: [ranked[1], {"trace": []}, ranked[3]]}
    proposed = proposals(sources(donors=donors, tried=tried)(CONV))
    assert proposed[:2] == [Candidate(CONV.key, "default", ranked[0]), Candidate(CONV.key, "donor", ranked[3])]
    digests = [candidate.digest for candidate in proposed]
    assert not tried & set(digests)
    assert len(digests) == len(set(digests)) == len(ranked) - 1


def test_vectors_decide_before_cores_how_unlike_a_target_is():
    def of(kind="llvm", **target):
        return {"target": {"kind": kind, **target}}

    narrow, wide = {"mcpu": "znver3", "num-cores": 1}, {"mcpu": "znver4", "num-cores": 2}
    arm = {"mtriple": "aarch64-linux-gnu", "mattr": ["+neon"], "num-cores": 1}
    distance = CpuTiles({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 1}).unlike
    assert sorted([of(**arm), of("cuda"), of(**narrow), of(**wide), {}], key=distance)[0] == of(**wide)
    assert not any(CpuTiles({"kind": "llvm", **narrow}).unlike(of(**narrow)))
    assert all(distance({}))
    assert all(distance(of("cuda")))


def test_neighbours_stand_between_the_two_likest_donors():
    ranked = candidates(CONV, cpu_features(Target(load_target("x86").attributes)))
    near = replace(CONV, in_size=14)
    known = {near.key: KernelState(near.key, 1.0, 1, schedule=ranked[7])}
    unsuitable = {**ranked[4], "parameters": dict.fromkeys(ranked[4]["parameters"], 0)}
    donors = [{"trace": []}, unsuitable, ranked[3], ranked[2], ranked[5]]
    first = sources(known, {CONV.key: donors}, kernels=(CONV, near))(CONV).ask(5)
    assert [(candidate.source, candidate.schedule) for candidate in first] == [
        ("default", ranked[0]),
        ("donor", ranked[3]),
        ("neighbour", ranked[7]),
        ("donor", ranked[2]),
        ("template", ranked[1]),
    ]


def test_the_winner_of_a_similar_kernel_comes_early():
    near, far = replace(CONV, in_size=14), replace(CONV, in_size=56, in_channels=96)
    features = cpu_features(Target(load_target("x86").attributes))
    ranked = candidates(near, features)
    known = {
        near.key: KernelState(near.key, 1.0, 1, schedule=ranked[7]),
        far.key: KernelState(far.key, 1.0, 1, schedule=ranked[5]),
        PAIR.key: KernelState(PAIR.key, 1.0, 1, schedule={"template": "expand_depthwise", "parameters": {}}),
    }
    kernels = (CONV, PAIR, far, near)
    first = sources(known, kernels=kernels)(CONV).ask(3)
    assert [(candidate.source, candidate.schedule) for candidate in first] == [
        ("default", candidates(CONV, features)[0]),
        ("neighbour", ranked[7]),
        ("neighbour", ranked[5]),
    ]
    assert sources(known, kernels=kernels, transfer=False)(CONV).ask(1)[0].source == "default"
