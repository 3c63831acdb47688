"""Boards that share jobs, played by fake workers: retries, quarantine, and what is said when none is left."""

from __future__ import annotations

import threading

import pytest

from ofa_tvm.devices.rpc import board_pool, board_slots
from ofa_tvm.devices.rpc.board_health import BoardState, Limits, complaint, spread
from ofa_tvm.devices.rpc.board_pool import BoardPool, Checks
from ofa_tvm.support.errors import DeviceUnreachable

CALM, NOISY, SLOW = [1.0, 1.01, 1.02], [1.0, 1.6, 1.7], [2.0, 2.01, 2.02]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A board that was set aside is tried again at once."""
    monkeypatch.setattr(board_slots, "RETRY_S", 0.01)


class FakeWorker:
    """A worker with one board; ``script`` are its answers, by job, of which the last one stays."""

    def __init__(self, address, **script):
        self.address, self.script = address, {name: list(answers) for name, answers in script.items()}
        self.asked, self.calls, self.closed = [], [], False

    def call(self, job, timeout_s, /, request, **arguments):
        assert not self.closed
        self.asked.append(arguments if job == "work" else job)
        self.calls.append((tuple(request["avoid"]), request["others"]))
        answers = self.script.get(job, ["ok"])
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(status):
            status = status()
        if status in ("no_board", "killed", "stuck"):  # what comes from the keeper names no board
            known = {"no_board": "no_board", "killed": "crashed", "stuck": "timed_out"}
            return {"status": known[status], "error": status}
        return {"status": status, "error": status, "board": self.address, **arguments}

    def close(self):
        self.closed = True

    @property
    def done(self):
        return [asked["number"] for asked in self.asked if isinstance(asked, dict)]


def pool(*workers, references=None, limits=Limits(), connect=lambda ask: {"cores_online": "0-3"}):  # noqa: B008
    times = {worker.address: iter(times) for worker, times in zip(workers, references or [], strict=False)}

    def reference_ms(ask):
        address = ask("reference", 1.0)["board"]
        return next(times[address], CALM) if address in times else CALM

    return BoardPool(workers, {"key": "fake"}, Checks(connect, reference_ms, limits), "plug one in")


def work(made, count):
    made.start()
    answers = list(made.map("work", 1.0, [{"number": number} for number in range(count)]))
    assert [answer.get("number") for answer in answers] == list(range(count))
    return [answer["status"] for answer in answers]


def test_jobs_are_shared_and_answers_come_in_order():
    one, two = FakeWorker("a:1"), FakeWorker("b:1")
    meeting = threading.Barrier(2)
    for worker in (one, two):
        worker.script["work"] = [lambda: ["ok", "ok"][meeting.wait(10)], "ok"]
    assert work(pool(one, two), 10) == ["ok"] * 10
    assert sorted(one.done + two.done) == list(range(10))
    assert one.done
    assert two.done


@pytest.mark.parametrize("loss", ["lost", "no_board", "killed", "stuck"])
def test_a_board_that_vanishes_costs_no_job(loss, capsys):
    gone, good = FakeWorker("a:1", work=["ok", loss], ping=["ok", "no_board"]), FakeWorker("b:1")
    made = pool(gone, good)
    assert work(made, 12) == ["ok"] * 12
    assert sorted(good.done + gone.done[:-1]) == list(range(12)), "each job is done once"
    assert [slot.address for slot in made.active if not slot.aside] == ["b:1"]
    assert good.calls[-1] == ((), 0), "the board is not counted any more"
    assert made.states["a:1"].record()["aside"]
    assert capsys.readouterr().err.count("board a:1 gets no jobs for now") == 1
    made.close()
    assert gone.closed


def test_a_board_that_comes_back_gets_jobs_again(capsys):
    """It is checked first."""
    worker = FakeWorker("a:1", work=["ok", "lost", "ok"], ping=["ok", "no_board", "no_board", "ok"])
    made = pool(worker)
    assert work(made, 6) == ["ok"] * 6
    assert worker.done == [0, 1, 1, 2, 3, 4, 5]
    assert worker.asked.index("reference", 4) < len(worker.asked) - 5
    assert "board a:1 is back" in capsys.readouterr().err
    assert made.states["a:1"].record()["aside"] == ""


def test_a_board_that_stays_away_is_given_up(monkeypatch):
    monkeypatch.setattr(board_pool, "RETURN_S", 0.0)
    gone, good = FakeWorker("a:1", work=["lost"], ping=["ok", "no_board"]), FakeWorker("b:1")
    made = pool(gone, good)
    made.start()
    assert {made.call("work", 1.0, {"number": number})["status"] for number in range(4)} == {"ok"}
    good.script = {"work": ["lost"], "ping": ["no_board"]}
    with pytest.raises(DeviceUnreachable):
        made.call("work", 1.0, {"number": 5})
    assert gone.closed
    assert good.closed


def test_closing_ends_a_wait_for_boards():
    made = pool(FakeWorker("a:1", work=["lost"], ping=["ok", "no_board"]))
    made.start()
    answers = made.map("work", 1.0, [{"number": 0}])
    made.close()
    with pytest.raises(Exception, match=r"no board can be used|cancelled|closed|^$"):
        next(answers)


def test_a_time_beside_which_the_board_was_slow_does_not_count(monkeypatch):
    class Throttled(FakeWorker):
        """Its clock drops for its fourth to eighth job."""

        def call(self, job, timeout_s, /, request, **arguments):
            answer = super().call(job, timeout_s, request, **arguments)
            slowness = 10.0 if 3 <= len(self.done) < 8 else 1.0
            return {**answer, "beside_ms": slowness, "time_ms": slowness}

    worker = Throttled("a:1")
    made = pool(worker)
    made.start()
    answers = list(made.map("work", 1.0, [{"number": number} for number in range(10)]))
    assert [answer["time_ms"] for answer in answers] == [1.0] * 10
    assert len(worker.done) == 15


def test_boards_slower_than_when_the_log_began_are_set_aside():
    made = pool(FakeWorker("a:1"), FakeWorker("b:1"), references=[[SLOW, *[SLOW] * 2, CALM], [SLOW, CALM]])
    made.start()
    assert not any(slot.aside for slot in made.active), "both are as slow"
    made.expect(1.0)
    assert all(slot.aside.startswith("slow") for slot in made.active)
    assert [answer["status"] for answer in made.map("work", 1.0, [{"number": 0}, {"number": 1}])] == ["ok", "ok"]


@pytest.mark.parametrize("status", ["crashed", "timed_out", "failed", "wrong_output"])
def test_a_kernel_that_fails_on_a_board_twice_is_an_answer(status):
    worker = FakeWorker("a:1", work=[status])
    made = pool(worker)
    made.start()
    assert made.call("work", 1.0, {"number": 1})["status"] == status
    assert worker.done == [1, 1]


@pytest.mark.parametrize("status", ["crashed", "timed_out", "failed", "wrong_output"])
def test_a_failure_of_the_board_is_not_held_against_a_kernel(status):
    worker = FakeWorker("a:1", work=[status, "ok"])
    made = pool(worker)
    made.start()
    assert made.call("work", 1.0, {"number": 1})["status"] == "ok"


def test_a_failure_before_the_board_was_asked_is_believed():
    class CannotCompile(FakeWorker):
        """Its kernels fail on this machine."""

        def call(self, job, timeout_s, /, request, **arguments):
            answer = super().call(job, timeout_s, request, **arguments)
            return {"status": "failed", "error": "no such template"} if job == "work" else answer

    worker = CannotCompile("a:1")
    made = pool(worker)
    made.start()
    assert made.call("work", 1.0, {"number": 1})["error"] == "no such template"
    assert worker.done == [1]


def test_a_board_that_fails_its_check_after_a_failure_is_set_aside():
    """A full disk, say: every kernel would fail there."""
    checks = iter([{}, DeviceUnreachable("No space left on device"), DeviceUnreachable("No space left on device"), {}])

    def connect(ask):
        answer = next(checks, {})
        if isinstance(answer, DeviceUnreachable):
            raise answer
        return answer

    worker = FakeWorker("a:1", work=["ok", "failed", "ok"])
    made = pool(worker, connect=connect)
    assert work(made, 3) == ["ok"] * 3
    assert worker.done == [0, 1, 1, 2]


@pytest.mark.parametrize(("own", "status"), [("killed", "crashed"), ("stuck", "timed_out")])
def test_a_job_that_ends_its_worker_twice_is_an_answer_when_the_board_lives(own, status):
    worker = FakeWorker("a:1", work=[own, own, own, "ok"])
    made = pool(worker)
    made.start()
    assert made.call("work", 1.0, {"number": 1})["status"] == status
    assert made.call("work", 1.0, {"number": 2})["status"] == "ok"
    assert worker.done == [1, 1, 2, 2]


def test_a_job_with_which_boards_go_away_is_given_up():
    workers = [FakeWorker(f"{name}:1", work=["lost"], ping=["ok", "ok", "no_board"]) for name in "abc"]
    workers[0].script["ping"].pop(0)
    made = pool(*workers)
    made.start()
    answer = made.call("work", 1.0, {"number": 1})
    assert answer["status"] == "crashed"
    assert "went away 2 times" in answer["error"]
    assert sum(not slot.aside for slot in made.active) == 1, "the third board was spared"


def test_a_session_that_ends_on_a_living_board_is_tried_once_more():
    worker = FakeWorker("a:1", work=["lost", "ok"])
    assert work(pool(worker), 2) == ["ok", "ok"]
    assert worker.done == [0, 0, 1]


def test_no_board_is_left(monkeypatch):
    monkeypatch.setattr(board_pool, "RETURN_S", 0.0)
    workers = [FakeWorker(f"{name}:1", work=["ok", "no_board"], ping=["ok", "no_board"]) for name in "ab"]
    made = pool(*workers)
    made.start()
    with pytest.raises(DeviceUnreachable, match=r"no board can be used: a:1: .*; b:1: .*\n  plug one in") as caught:
        list(made.map("work", 1.0, [{"number": number} for number in range(6)]))
    assert caught.value.exit_code == 5
    assert "what was measured is saved" in caught.value.hint


def test_boards_that_are_only_noisy_need_no_plug():
    with pytest.raises(DeviceUnreachable, match="noisy") as caught:
        pool(FakeWorker("a:1"), references=[[NOISY] * 3]).start()
    assert "tune --max-noise" in caught.value.hint
    assert "plug one in" not in caught.value.hint


def test_a_board_in_use_by_others_is_left_out():
    busy, good = FakeWorker("", ping=["no_board"]), FakeWorker("b:1")
    assert work(pool(busy, good), 3) == ["ok"] * 3
    assert not busy.done


def test_a_board_that_lacks_something_is_left_out():
    def connect(ask):
        if ask("connect", 1.0)["board"] == "a:1":
            raise DeviceUnreachable("lacks an instruction")
        return {}

    bad, good = FakeWorker("a:1"), FakeWorker("b:1")
    made = pool(bad, good, connect=connect)
    assert work(made, 3) == ["ok"] * 3
    assert made.states["a:1"].quarantine == "lacks an instruction"


@pytest.mark.parametrize(("times", "word"), [([NOISY] * 3, "noisy"), ([SLOW], "slow")])
def test_a_board_that_cannot_be_trusted_gets_no_jobs(times, word):
    bad, good, other = FakeWorker("a:1"), FakeWorker("b:1"), FakeWorker("c:1")
    made = pool(bad, good, other, references=[times])
    assert work(made, 4) == ["ok"] * 4
    assert not bad.done
    assert made.states["a:1"].quarantine.startswith(word)


def test_a_burst_of_noise_passes():
    worker = FakeWorker("a:1")
    made = pool(worker, references=[[NOISY, CALM]])
    assert work(made, 1) == ["ok"]
    assert made.states["a:1"].record()["reference_median_ms"] == [1.6, 1.01]


def test_a_board_that_becomes_slow_is_found_out(monkeypatch):
    monkeypatch.setattr(board_pool, "EVERY_JOBS", 4)
    worker, other = FakeWorker("a:1"), FakeWorker("b:1")
    made = pool(worker, other, references=[[CALM, *[SLOW] * 1000]])
    assert work(made, 30) == ["ok"] * 30
    assert made.states["a:1"].aside.startswith("slow")
    assert len(worker.done) < 10


def test_a_board_that_comes_instead_is_checked_first():
    worker = FakeWorker("a:1")
    made = pool(worker)
    made.start()
    worker.address = "b:1"
    assert made.call("work", 1.0, {"number": 1})["status"] == "ok"
    assert worker.asked[-1] == "reference"
    assert set(made.states) == {"a:1", "b:1"}


def test_boards_whose_times_mean_nothing_are_not_timed():
    worker = FakeWorker("a:1")
    made = pool(worker, references=[[NOISY]], limits=None)
    assert work(made, 2) == ["ok", "ok"]
    assert made.states["a:1"].record()["reference_ms"] is None


def test_spread_and_slowness():
    assert spread([1.0] * 9 + [5.0]) < 1.5
    fast, slow = (BoardState(name, references_ms=[times]) for name, times in (("a", CALM), ("b", SLOW)))
    assert complaint(fast, [slow], Limits()) == ""
    assert complaint(slow, [fast], Limits()).startswith("slow")
    assert complaint(slow, [], Limits()) == "", "one board alone is as fast as it is"
    assert complaint(BoardState("c"), [fast], Limits()) == ""
