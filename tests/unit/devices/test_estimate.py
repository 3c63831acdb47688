"""Estimates: counts of overlapping blocks, straight pieces of code, who is told what device, and pooled workers."""

from __future__ import annotations

import pytest

from ofa_tvm.devices.emulation.instruction_counts import instruction_counts
from ofa_tvm.devices.estimate.cycle_model import Instruction, pieces
from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.devices.workers.worker_pool import WorkerPool
from ofa_tvm.hardware.target_files import load_target, target_names
from ofa_tvm.support.errors import UserError

ARM = [name for name in target_names() if not name.startswith(("x86", "cuda")) and name != "jetson-orin"]


def code(*texts: str) -> list[Instruction]:
    return [Instruction(4 * place, text) for place, text in enumerate(texts)]


def test_counts_of_blocks_that_overlap_add_up():
    addresses = [100, 104, 108, 112]
    blocks = [(100, 3, 5), (104, 2, 10), (108, 2, 1), (996, 4, 7)]
    assert instruction_counts(blocks, addresses) == {100: 5, 104: 15, 108: 16, 112: 1}


def test_a_piece_ends_at_a_branch_and_where_the_counts_change():
    listing = code("mov x0, #1", "fmla v0.4s, v1.4s, v2.4s", "b.ne 8", "add x0, x0, x1", "ret", "nop")
    counts = {0: 1, 4: 10, 8: 10, 12: 10, 16: 10}
    found = [(runs, [one.address for one in piece]) for runs, piece in pieces(listing, counts)]
    assert found == [(1, [0]), (10, [4, 8]), (10, [12, 16])]


@pytest.mark.parametrize(("text", "expected"), [("jne 8", True), ("cbz x7, 8", True), ("bfi x0, x1, #2, #3", False)])
def test_branches_are_told_by_their_names(text, expected):
    assert Instruction(0, text).is_branch is expected


@pytest.mark.parametrize("name", ARM)
def test_a_target_without_a_board_is_estimated_and_says_so(name, monkeypatch):
    monkeypatch.delenv("OFA_TVM_TRACKER", raising=False)
    target = load_target(name)
    assert (target.device, target.provenance) == ("estimate", "estimated")
    assert "estimate" in target.fingerprint
    assert target.estimate is not None
    assert target.conditions["estimate"]["clock_mhz"] == target.estimate.clock_mhz


def test_a_tracker_is_named_in_the_environment_or_on_the_command_line(monkeypatch):
    monkeypatch.setenv("OFA_TVM_TRACKER", "127.0.0.1:9190")
    target = load_target("arm")
    assert target.rpc is not None
    assert (target.device, target.tracker, target.rpc.key) == ("rpc", "127.0.0.1:9190", "cortex-a76")
    assert target.provenance == "measured"
    other = load_target("arm", device="rpc:board-host:9191:my-board")
    assert other.rpc is not None
    assert (other.tracker, other.rpc.key) == ("board-host:9191", "my-board")
    assert other.fingerprint != target.fingerprint
    assert load_target("arm", device="estimate").device == "estimate"


@pytest.mark.parametrize(
    ("name", "device", "problem"),
    [
        ("arm", "moon", "cannot use device 'moon'"),
        ("arm", "rpc:nowhere", "does not say where the tracker is"),
        ("x86", "rpc:127.0.0.1:9190", "is this machine's own CPU"),
        ("x86", "estimate", "has no section"),
    ],
)
def test_a_device_that_a_target_cannot_use_is_refused(name, device, problem):
    with pytest.raises(UserError, match=problem):
        load_target(name, device=device)


def test_estimates_are_for_one_thread():
    with pytest.raises(UserError, match="estimates are for one thread, not 4"):
        load_target("arm", threads=4)


@pytest.mark.seconds(20)
def test_a_pool_answers_in_order_from_all_its_workers():
    pool = WorkerPool([Worker("worker_jobs") for _ in range(2)])
    try:
        pool.start()
        answers = list(pool.map("add", 10, [{"left": number, "right": 1} for number in range(6)]))
    finally:
        pool.close()
    assert [answer["sum"] for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert 1 <= len({answer["pid"] for answer in answers}) <= 2
