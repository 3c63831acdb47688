"""Whatever a job does to its process costs that one job; nothing outlives the process that asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.support.errors import DeviceUnreachable, HostFault, UserError

JOBS = "worker_jobs"
LONG_S = 60.0
HERE = Path(__file__).parents[2]


@pytest.fixture
def worker():
    with Worker(JOBS) as running:
        yield running


def works(worker):
    return worker.call("add", LONG_S, left=2, right=3)["sum"] == 5


def descendants(pid):
    return psutil.Process(pid).children(recursive=True)


def test_jobs_answer_from_one_process(worker):
    worker.start()
    first = worker.call("add", LONG_S, left=1, right=2)
    second = worker.call("add", LONG_S, left=3, right=4)
    assert (first["sum"], second["sum"]) == (3, 7)
    assert first["pid"] == second["pid"] != os.getpid()


def test_environment_is_the_workers_own():
    with Worker(JOBS, {"OFA_TVM_TEST": "7"}) as worker:
        assert worker.call("environment", LONG_S, name="OFA_TVM_TEST")["value"] == "7"
    assert "OFA_TVM_TEST" not in os.environ


def test_what_jobs_leave_in_their_temporary_folder_goes_with_the_worker():
    with Worker(JOBS) as worker:
        folder = Path(worker.call("temporary", LONG_S)["folder"])
        assert folder.is_dir()
    assert not folder.parent.exists(), "it is in one of the keeper's own"


def test_a_large_answer_arrives_whole(worker):
    text = "x" * 3_000_000
    assert worker.call("add", LONG_S, left=text, right="y")["sum"] == text + "y"


@pytest.mark.parametrize(
    ("job", "arguments", "reason"),
    [
        ("fail", {"message": "first line\nlast line"}, "ValueError: last line"),
        ("fail", {"message": ""}, "ValueError: ValueError"),
        ("unknown", {}, "KeyError: 'unknown'"),
        ("add", {"left": 1}, "ValidationError: right: Missing required argument"),
    ],
)
def test_an_exception_is_an_answer(worker, job, arguments, reason):
    answer = worker.call(job, LONG_S, **arguments)
    assert answer["status"] == "failed"
    assert answer["error"].startswith(reason)
    assert works(worker)


@pytest.mark.parametrize(
    ("job", "arguments", "reason"),
    [("crash", {}, "killed by SIGSEGV"), ("leave", {"code": 3}, "exited with code 3")],
)
def test_a_crash_costs_one_job(worker, job, arguments, reason):
    assert worker.call(job, LONG_S, **arguments) == {"status": "crashed", "error": reason}
    assert works(worker)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("space", r"No space left on device.*\n.*make room in"),
        ("memory", r"MemoryError.*\n.*free memory"),
        ("compiler", r"Resource temporarily unavailable.*\n.*ulimit -u"),
        ("kill", r"was killed, as when memory runs out.*\n.*free memory"),
    ],
)
def test_a_fault_of_the_machine_is_no_answer(kind, said):
    with Worker(JOBS) as worker:
        with pytest.raises(HostFault, match=f"this machine failed, not what was tried: .*{said}"):
            worker.call("meet_a_fault", 30, kind=kind)
        assert worker.call("add", 30, left=1, right=2)["sum"] == 3, "the worker goes on"


@pytest.mark.parametrize(("is_users", "error"), [(True, UserError), (False, HostFault)])
def test_what_is_wrong_around_a_job_is_no_answer_either(is_users, error):
    with Worker(JOBS) as worker:
        with pytest.raises(error, match=r"^what is wrong\n  what to do$"):
            worker.call("meet_wrong_input", 30, is_users=is_users)
        assert works(worker)


def test_a_crash_where_the_disk_is_full_is_the_disks(monkeypatch):
    with Worker(JOBS) as worker:
        assert worker.call("crash", 30)["status"] == "crashed"
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
        with pytest.raises(HostFault, match=r"No space left on device: .*\n.*OFA_TVM_CACHE"):
            worker.call("crash", 30)


def test_a_hang_costs_one_job_and_its_time(worker):
    assert worker.call("hang", 0.2) == {"status": "timed_out", "error": "took longer than 0.2 s"}
    assert works(worker)


def test_a_module_that_cannot_be_imported():
    worker = Worker("no_such_jobs")
    with pytest.raises(DeviceUnreachable, match="no_such_jobs"):
        worker.start()
    worker.close()


def test_a_module_without_jobs(capfd):
    with Worker("json") as worker, pytest.raises(DeviceUnreachable, match="ended unexpectedly"):
        worker.start()
    assert "jobs" in capfd.readouterr().err


def test_close_ends_every_process_and_may_be_repeated():
    worker = Worker(JOBS)
    assert works(worker)
    started = descendants(os.getpid())
    worker.close()
    worker.close()
    _, alive = psutil.wait_procs([process for process in started if process.is_running()], timeout=LONG_S)
    assert not alive


def test_closing_ends_a_job_that_runs(tmp_path):
    script = (
        "import os, signal, sys; from ofa_tvm.devices.workers.worker import Worker\n"
        f"worker = Worker({JOBS!r}); worker.start()\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler); signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "try:\n    worker.call('hang', 1000)\nexcept KeyboardInterrupt:\n    worker.close(); print('closed')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


HOLDING = f"""
import sys
from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.support.errors import DeviceUnreachable
worker = Worker({JOBS!r})
worker.start()
print("ready", flush=True)
try:
    worker.call("hold", 1000, started=sys.argv[1], release=sys.argv[2])
except KeyboardInterrupt:
    try:
        worker.call("answer", 1, number=1)
    except DeviceUnreachable:
        print("interrupted and closed", flush=True)
"""


@pytest.fixture
def holding(tmp_path):
    """A process in a group of its own whose worker is in the middle of a job, and the pipe that ends the job."""
    release = tmp_path / "release"
    os.mkfifo(release)
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "started"), str(release)]
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # Opening waits until the job has opened its end.
    with release.open("w") as pipe:
        yield process, pipe
    process.kill()
    process.wait()
    process.stdout.close()


def test_nothing_survives_a_killed_parent(holding):
    process, _ = holding
    family = descendants(process.pid)
    assert len(family) == 2
    folder = Path(family[0].environ().get("TMPDIR", tempfile.gettempdir()))
    left = set(folder.glob("ofa_tvm-*"))
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=LONG_S)
    assert not alive
    assert len(left - set(folder.glob("ofa_tvm-*"))) >= 1, "its files are gone, too"


def test_an_interrupt_of_the_group_ends_the_job_and_closes_the_worker(holding):
    process, _ = holding
    family = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "interrupted and closed\n"
    assert process.wait(LONG_S) == 0
    _, alive = psutil.wait_procs(family, timeout=LONG_S)
    assert not alive


def test_closing_one_of_two_workers_ends_it():
    with Worker(JOBS) as first, Worker(JOBS) as second:
        first.start()
        second.start()
        first.close()
        with pytest.raises(DeviceUnreachable):
            first.call("nothing", 1)


def test_closing_ends_a_call_that_waits_in_another_thread(worker):
    worker.start()
    errors = []

    def call():
        with pytest.raises(DeviceUnreachable) as caught:
            worker.call("hang", LONG_S)
        errors.append(caught.value)

    waiting = threading.Thread(target=call)
    waiting.start()
    while not descendants(worker._keeper.pid):  # until the job has its process
        time.sleep(0.01)
    worker.close()
    waiting.join(LONG_S)
    assert len(errors) == 1
