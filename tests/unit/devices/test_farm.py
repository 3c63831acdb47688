"""Tuning on boards that fail for a while: the winners of a well farm, or exit code 5 and a log to go on from."""

from __future__ import annotations

import pytest
from farm import FOR_EVER, Fault, farm, farm_target

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.support.errors import DeviceUnreachable
from ofa_tvm.support.files import read_jsonl
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget, Tuner

BUDGET = Budget(trials=None, seconds=None, trials_per_kernel=10)


class Listed:
    """Proposes ten candidates of a kernel."""

    def __init__(self, kernel, tried):
        self.every = [Candidate(kernel, "template", {"parameters": {"number": number}}) for number in range(10)]
        self.tried = tried

    def ask(self, count):
        return [candidate for candidate in self.every if candidate.digest not in self.tried][:count]

    def tell(self, results):
        """Nothing to learn."""


def tuned(space, folder, device):
    """The log after tuning three kernels."""
    log = TuningLog(farm_target(), folder)
    kernels = dict(sorted(fused_kernels(space, (12,)).items())[:3])
    with log.exclusive():
        device.start()
        device.calibrate_to(log)
        tuner = Tuner(kernels, dict.fromkeys(kernels, 1.0), log, device, lambda spec: Listed(spec.key, log.tried), 5)
        tuner.run(BUDGET)
    return log


@pytest.fixture
def undisturbed(tiny_space, tmp_path, monkeypatch):
    """What a farm without faults finds."""
    with farm(monkeypatch, []) as (device, _):
        return tuned(tiny_space, tmp_path / "undisturbed", device).kernels


def same(fault, **more):
    """The fault on both boards."""
    return [fault, Fault(fault.kind, fault.at, fault.calls, board=1, **more)]


KINDS = ("away", "held", "hangs", "garbage", "wrong", "slow", "full")
ONE = [
    Fault(kind, 8, calls) for kind in ("away", "held", "hangs", "garbage", "wrong", "slow", "full") for calls in (1, 6)
]
BOTH = [Fault(kind, 8, 8) for kind in ("away", "tracker", "hangs", "garbage", "wrong", "slow", "full")]
SCHEDULES = {
    **{f"{fault.kind} for {fault.calls}": [fault] for fault in ONE},
    **{f"{fault.kind}, both": same(fault) for fault in BOTH},
    "one for ever": [Fault("hangs", 10, FOR_EVER)],
    "one slow for ever": [Fault("slow", 10, FOR_EVER)],
    "one after the other": [Fault("away", 6, 5), Fault("slow", 20, 5), Fault("garbage", 9, 5, board=1)],
}


@pytest.mark.parametrize("faults", SCHEDULES.values(), ids=SCHEDULES)
def test_tuning_ends_as_without_faults(tiny_space, tmp_path, monkeypatch, undisturbed, faults):
    with farm(monkeypatch, faults) as (device, boards):
        log = tuned(tiny_space, tmp_path / "faults", device)
    assert log.kernels == undisturbed
    lines = read_jsonl(log.folder / "trials.jsonl", "trial ledger")
    assert len({line["digest"] for line in lines}) == len(lines) == 30
    assert sum(board.calls for board in boards) < 250


@pytest.mark.parametrize("kind", ["away", "tracker", "hangs", "garbage", "wrong", "slow", "full"])
def test_a_farm_that_stays_broken_ends_the_run_and_the_next_one_goes_on(
    tiny_space, tmp_path, monkeypatch, undisturbed, kind
):
    with (
        farm(monkeypatch, same(Fault(kind, 12, FOR_EVER)), return_s=0.05) as (device, _),
        pytest.raises(DeviceUnreachable, match="what was measured is saved") as caught,
    ):
        tuned(tiny_space, tmp_path / "faults", device)
    assert caught.value.exit_code == 5
    assert ("--max-noise" in caught.value.hint) == (kind == "slow")
    before = read_jsonl(TuningLog(farm_target(), tmp_path / "faults").folder / "trials.jsonl", "trial ledger")
    assert 0 < len(before) < 30
    with farm(monkeypatch, []) as (device, _):
        log = tuned(tiny_space, tmp_path / "faults", device)
    assert log.kernels == undisturbed


def test_a_limit_of_noise_decides_what_counts(tiny_space, tmp_path, monkeypatch, undisturbed):
    monkeypatch.setattr("farm.farm_target", lambda: farm_target().with_max_noise(20.0))
    with farm(monkeypatch, same(Fault("slow", 8, FOR_EVER))) as (device, boards):
        log = tuned(tiny_space, tmp_path / "faults", device)
    assert sum(state.trials for state in log.kernels.values()) == 30
    assert log.kernels != undisturbed, "slow times count then"
    assert all(board.tried for board in boards)


@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "_b1"), ("int8", "_b1_i8")])
def test_a_board_is_checked_in_the_precision_that_is_asked_of_it(monkeypatch, dtype, suffix):
    target = farm_target().model_copy(update={"dtype": dtype})
    monkeypatch.setattr("farm.farm_target", lambda: target)
    with farm(monkeypatch, [], boards=1) as (device, (board,)):
        device.start()
    assert board.tried[0].endswith(suffix)
