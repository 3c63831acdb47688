"""Two emulated arm64 boards behind a tracker. Times are not looked at: under emulation they say nothing."""

from __future__ import annotations

import pytest
from boards import check_int8, leftovers, tuned_round

from ofa_tvm import doctor
from ofa_tvm.devices.emulation.device import SESSION_S, EmulatedDevice
from ofa_tvm.devices.rpc.jobs import BoardJobs
from ofa_tvm.devices.rpc.session import Access, BoardRequest
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.job import TunedSubnets
from ofa_tvm.tuner.log import TuningLog

pytestmark = [pytest.mark.arm, pytest.mark.timeout(600)]


def test_int8_and_a_round_on_two_boards_of_which_one_is_killed(emulator, tiny_space, tmp_path):
    target = load_target("arm", device="emulated")
    with EmulatedDevice(target, count=2) as device:
        levels = load_target("arm", device="emulated", dtype="int8")
        assert levels.rpc is not None
        access = Access(device.servers.tracker, levels.rpc.key, SESSION_S, (), levels.toolchain.linker)
        check_int8(BoardJobs(), BoardRequest(access), levels, tmp_path)
        device.start()
        plan = WindowPlan(windows=1, window_ms=1, gap_s=0)
        subnets = TunedSubnets(MBV3_CIFAR.name, 10, (MBV3_CIFAR.smallest.key,), tmp_path)
        (timing,) = device.time_subnets(subnets, plan)
        assert timing.status == "ok", timing
        # A log refuses emulated times, so this one is made as if they were estimates.
        log = TuningLog(load_target("arm", device="estimate"), tmp_path)
        tuned_round(tiny_space, log, target.attributes, device, device.servers)
        assert not leftovers(device.servers)


def test_doctor_runs_a_tiny_kernel_on_an_emulated_board(emulator, capsys):
    doctor.main(["--target", "arm", "--device", "emulated"])
    text = capsys.readouterr().out
    assert "ok    emulated board" in text, text
