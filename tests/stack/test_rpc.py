"""Boards behind a tracker, played by RPC servers of this machine."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from boards import check_int8, leftovers, tuned_round

import ofa_tvm.tune as tune_command
from ofa_tvm import doctor
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.devices.rpc import jobs as rpc_jobs
from ofa_tvm.devices.rpc import session
from ofa_tvm.devices.rpc.board_health import Limits
from ofa_tvm.devices.rpc.board_servers import BoardServers
from ofa_tvm.devices.rpc.device import RpcDevice
from ofa_tvm.devices.rpc.session import Access, BoardRequest
from ofa_tvm.graph.numpy_reference import compute
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.support.errors import DeviceUnreachable, OfaTvmError
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.timing.window import Window
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.drift import REFERENCE
from ofa_tvm.tuner.job import KernelJob, SubnetJob, TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget, Tuner
from ofa_tvm.tuner.tile_candidates import Sources
from ofa_tvm.tuner.tiles import CpuTiles

ANY = Limits(math.inf, math.inf)
KEY = "this-machine"
DEFAULT = Candidate(REFERENCE.key, "default", {})
RPC = f"""
[rpc]
tracker_env = "OFA_TVM_TEST_TRACKER"
key = "{KEY}"
session_timeout_s = 60
cores = []
"""


@pytest.fixture(scope="module")
def target_file(tmp_path_factory):
    text = (shipped_folder("targets") / "x86.toml").read_text().replace('device = "local"', 'device = "rpc"')
    path = tmp_path_factory.mktemp("target") / "boards.toml"
    path.write_text(text + RPC)
    return path


@pytest.fixture(scope="module")
def servers():
    with BoardServers(2, KEY) as started:
        yield started


@pytest.fixture(scope="module")
def target(target_file, servers):
    return load_target(str(target_file), device=f"rpc:{servers.tracker}")


@pytest.fixture(scope="module")
def device(target):
    with RpcDevice(target, ANY) as opened:
        opened.start()
        yield opened


def test_doctor_tells_of_each_board(servers, target_file, capsys):
    """Before others use them. A machine as busy as this one may be is too noisy for a board, and doctor says so."""
    doctor.main(["--target", str(target_file), "--device", f"rpc:{servers.tracker}"])
    text = capsys.readouterr().out
    assert f"{servers.tracker} has 2 boards '{KEY}'" in text
    for address in servers.addresses:
        assert f"board {address}" in text
    assert "a reference kernel takes" in text


def test_boards_tell_about_themselves(device, servers, target):
    boards = device.boards()
    assert sorted(board["board"] for board in boards) == sorted(servers.addresses)
    for board in boards:
        assert board["facts"]["processors"]
        assert board["reference_ms"] > 0
        assert (board["key"], board["threads"], board["cores"], board["quarantine"]) == (KEY, target.threads, [], "")


def test_trials_are_timed_and_a_good_one_is_checked(device, servers):
    first = device.trial(REFERENCE, DEFAULT, None)
    assert (first.status, first.is_checked) == ("ok", True)
    assert len(first.times_ms) == load_target("x86").tuning.repeats
    results = list(device.trials(REFERENCE, [DEFAULT] * 4, 0.0))
    assert [(one.status, one.is_checked) for one in results] == [("ok", False)] * 4
    bad = Candidate(REFERENCE.key, "template", {"template": "none", "parameters": {}})
    assert device.trial(REFERENCE, bad, None).status == "failed"
    assert not leftovers(servers)


def test_both_boards_work(device):
    before = {board["board"]: board["jobs"] for board in device.boards()}
    list(device.trials(REFERENCE, [DEFAULT] * 8, 0.0))
    assert all(board["jobs"] > before[board["board"]] for board in device.boards())


def test_subnets_are_timed_with_their_reference(device, servers, tmp_path):
    plan = WindowPlan(windows=3, window_ms=5, gap_s=0)
    keys = (MBV3_CIFAR.smallest.key, MBV3_CIFAR.middle.key)
    for timing in device.time_subnets(TunedSubnets(MBV3_CIFAR.name, 10, keys, tmp_path), plan):
        assert timing.status == "ok", timing
        assert len(timing.times_ms) == len(timing.reference_ms) == len(timing.figures) == 3
    assert not leftovers(servers)


@pytest.fixture(scope="module")
def library(tiny_space, target, tmp_path_factory):
    network, path = tiny_space.network(tiny_space.smallest), tmp_path_factory.mktemp("library") / "subnet.so"
    assemble(network, random_weights(network), {}, ObjectCache(target.attributes), path, 1, target.toolchain.linker)
    return path, np.random.default_rng(0).standard_normal((3, network.resolution, network.resolution, 3), np.float32)


def test_a_library_runs_on_a_board_as_it_does_here(device, servers, library):
    path, images = library
    model, here = device.load(path), LoadedModel(path)
    expected = np.concatenate([here(images[index : index + 1]) for index in range(len(images))])
    np.testing.assert_allclose(model(images), expected, rtol=1e-5)
    assert Window.of(model.window(images[:1], 1)).p50_ms > 0
    assert not leftovers(servers)
    with pytest.raises(OfaTvmError, match="does not run on the board: failed"):
        model.window(images[:, :4], 1)


def test_a_dead_tracker_ends_the_command(target_file, tmp_path, capsys):
    arguments = ["--target", str(target_file), "--logs", str(tmp_path), "--trials", "2", "--device"]
    assert tune_command.main([*arguments, "rpc:127.0.0.1:9"]) == DeviceUnreachable.exit_code
    assert tune_command.main([*arguments, "rpc:no.such.host.invalid:9190"]) == DeviceUnreachable.exit_code
    said = capsys.readouterr().err
    assert "does not answer: Connection refused" in said
    assert "tvm.exec.rpc_tracker" in said
    assert "asks nobody who they are" in said
    assert "Traceback" not in said


def test_an_unknown_key_ends_the_command(target_file, servers, tmp_path, capsys):
    arguments = ["--target", str(target_file), "--logs", str(tmp_path), "--trials", "2"]
    code = tune_command.main([*arguments, "--device", f"rpc:{servers.tracker}:other"])
    assert code == DeviceUnreachable.exit_code
    assert f"{servers.tracker} has no board 'other'" in capsys.readouterr().err


def test_tuning_goes_on_when_the_tracker_starts_again(servers, device, target, tiny_space, tmp_path):
    log = TuningLog(target, tmp_path)
    kernels = dict(list(fused_kernels(tiny_space, (12,)).items())[:2])
    sources = Sources(CpuTiles(target.attributes), kernels, log.kernels, {}, log.tried, transfer=False)
    with log.exclusive():
        device.calibrate_to(log)
        tuner = Tuner(kernels, dict.fromkeys(kernels, 1.0), log, device, sources, batch=2)
        tuner.run(Budget(trials=2, seconds=None, trials_per_kernel=2))
        servers.restart_tracker()
        done = tuner.run(Budget(trials=2, seconds=None, trials_per_kernel=2))
    assert (done.trials, done.failures) == (2, 0)
    assert not any(board["quarantine"] for board in device.boards())


def test_cores_are_chosen_and_a_session_ends_in_time(servers, device, target, library):
    """In this process: a board ends a session that has lasted, which is no crash, and the next one is another."""
    device.close()  # its boards become free
    patient = Access(servers.tracker, KEY, 60, (max(os.sched_getaffinity(0)),), target.toolchain.linker)
    path, images = library
    stored = path.with_suffix(".npy")
    np.save(stored, images[:1])
    held = rpc_jobs.BoardJobs()
    answer = held.time_model(BoardRequest(patient), path, stored, window_ms=1.0)
    assert answer["status"] == "ok", answer
    held = rpc_jobs.BoardJobs()
    answer = held.time_model(BoardRequest(replace(patient, cores=(62,))), path, stored, window_ms=1.0)
    assert answer["status"] == "no_board"
    assert "cannot use cores [62]" in answer["error"]
    avoided = held.ping(BoardRequest(replace(patient, cores=()), tuple(servers.addresses)))
    assert (avoided["status"], "no further board" in avoided["error"]) == ("no_board", True)

    # Nothing is compiled within this short session: that may take longer on a busy machine.
    brief = replace(patient, session_timeout_s=4, cores=())
    subnets = TunedSubnets(MBV3_CIFAR.name, 10, (MBV3_CIFAR.smallest.key,), path.parent)
    job = SubnetJob(subnets, target, WindowPlan(windows=2, window_ms=1, gap_s=6))
    answer = rpc_jobs.BoardJobs().time_subnet(BoardRequest(brief), job)
    assert (answer["status"], answer["error"]) == ("lost", "its session of 4 s ended")


def test_two_coordinators_share_boards_of_a_key(servers, target, monkeypatch):
    """While one holds all boards, the other is told so; when the first lets go, the other goes on."""
    monkeypatch.setattr(session, "WAIT_S", 2.0)
    request = BoardRequest(Access(servers.tracker, KEY, 60, (), target.toolchain.linker))
    holding = [rpc_jobs.BoardJobs() for _ in servers.addresses]
    for number, jobs in enumerate(holding):
        assert jobs.ping(replace(request, others=number))["status"] == "ok"
    other = rpc_jobs.BoardJobs()
    answer = other.ping(request)
    assert (answer["status"], "became free" in answer["error"]) == ("no_board", True)
    trial = holding[0].trial(request, KernelJob(REFERENCE, {}, target), with_reference=True)
    assert (trial["status"], trial["beside_ms"] > 0) == ("ok", True), "the first one is not disturbed"
    monkeypatch.undo()
    del holding[0], jobs
    assert other.ping(request)["status"] == "ok"


@pytest.mark.skipif("avx2" not in cpu_flags(), reason="int8 needs AVX2")
def test_int8_runs_on_a_board_bit_for_bit(servers, target_file, tmp_path, monkeypatch):
    target = load_target(str(target_file), device=f"rpc:{servers.tracker}", dtype="int8")
    request = BoardRequest(Access(servers.tracker, KEY, 60, (), target.toolchain.linker))
    board = rpc_jobs.BoardJobs()
    check_int8(board, request, target, tmp_path)
    subnets = TunedSubnets(MBV3_CIFAR.name, 10, (MBV3_CIFAR.smallest.key,), tmp_path)
    timing = board.time_subnet(request, SubnetJob(subnets, target, WindowPlan(windows=1, window_ms=1, gap_s=0)))
    assert timing["status"] == "ok", timing

    def one_level_off(spec, inputs):
        outputs = compute(spec, inputs)
        outputs[0].flat[-1] = int(outputs[0].flat[-1]) ^ 1
        return outputs

    monkeypatch.setattr(rpc_jobs, "compute", one_level_off)
    trial = board.trial(request, KernelJob(replace(REFERENCE, dtype="int8"), {}, target), with_reference=True)
    assert (trial["status"], trial["beside_ms"] > 0) == ("wrong_output", True)


def test_tuning_goes_on_when_a_board_is_killed(servers, target, tiny_space, tmp_path):
    """The last one here: it takes a board away."""
    with RpcDevice(target, ANY) as opened:
        opened.start()
        tuned_round(tiny_space, TuningLog(target, tmp_path), target.attributes, opened, servers)
