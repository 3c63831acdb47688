"""A kill at any step of writing costs nothing that was acknowledged, and the next run goes on and cleans up.

Each scenario runs in a forked process that is killed before its first step on disk, its second, and so on.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from killing import Killer
from unit.bundle.test_folder import fill

from ofa_tvm.bundle.folder import verify_bundle, write_bundle
from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.entries import packed
from ofa_tvm.devices.pack.reader import import_kernels
from ofa_tvm.devices.pack.writer import SCHEMA
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.regression.model_files import load_model, save_model
from ofa_tvm.regression.stacked_regressor import StackedRegressor
from ofa_tvm.support.files import Record, read_jsonl
from ofa_tvm.support.holding import held
from ofa_tvm.support.made_again import is_whole, made
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult

KERNELS = ("conv_8x8_16-32_k1s1_b1", "dense_1x1_16-32_b1")
CANDIDATES = [
    Candidate(kernel, "template", {"parameters": {"tile": number}}) for kernel in KERNELS for number in range(4)
]
OUTCOMES = {
    candidate.digest: TrialResult("ok", (5.0 - number % 4,), is_checked=True) if number % 3 else TrialResult("crashed")
    for number, candidate in enumerate(CANDIDATES)
}
CPU, GPU = load_target("x86"), load_target("cuda-sm90")
Acknowledge = Callable[[str], None]


def tune(folder: Path, acknowledge: Acknowledge) -> None:
    log = TuningLog(CPU, folder)
    with log.exclusive():
        if log.reference_ms is None:
            log.settle_reference(0.1)
        for kernel in KERNELS:
            left = [one for one in CANDIDATES if one.kernel == kernel and one.digest not in log.tried]
            for batch in (left[:1], left[1:]):
                if batch:
                    log.commit(kernel, [(one, OUTCOMES[one.digest]) for one in batch])
                    for one in batch:
                        acknowledge(one.digest)


def import_pack(folder: Path, acknowledge: Acknowledge) -> None:
    log = TuningLog(GPU, folder)
    with log.exclusive():
        import_kernels(folder / "pack", GPU, log)
    for one in CANDIDATES:
        acknowledge(one.digest)


def told(result: TrialResult) -> Record:
    """As a pack's device tells it, which has no reference kernel."""
    return {name: value for name, value in asdict(result).items() if name != "reference_ms"}


def write_pack(folder: Path) -> None:
    (folder / "pack").mkdir()
    facts = {"target": GPU.name, "fingerprint": GPU.fingerprint, "conditions": GPU.conditions}
    manifest = {"schema": SCHEMA, "round": "first", **facts}
    (folder / "pack" / "manifest.json").write_text(json.dumps(manifest))
    for one in CANDIDATES:
        pack_files.append_line(folder / "pack" / pack_files.ENTRIES, {"id": one.digest, "candidate": packed(one)})
    results = folder / "pack" / "results.jsonl"
    pack_files.append_line(results, {"round": "first", "device": {"name": "made up", "driver_version": "580"}})
    for digest, result in OUTCOMES.items():
        pack_files.append_line(results, {"round": "first", "id": digest, **told(result)})


def check_log(folder: Path, acknowledged: set[str]) -> None:
    (manifest,) = folder.glob("*/*/manifest.json")
    lines = read_jsonl(manifest.parent / "trials.jsonl", "ledger")
    counts = Counter(line["digest"] for line in lines)
    assert acknowledged <= set(counts) == set(OUTCOMES)
    assert max(counts.values()) == 1
    states = TuningLog(GPU if "cuda" in str(manifest) else CPU, folder).kernels
    for kernel in KERNELS:
        mine = [line for line in lines if line["kernel"] == kernel]
        assert [line["number"] for line in mine] == list(range(1, 1 + len(mine)))
        assert (states[kernel].trials, states[kernel].failures) == (4, sum(line["status"] != "ok" for line in mine))
        assert states[kernel].best_ms == min(line["time_ms"] for line in mine if line["time_ms"])
        assert states[kernel].schedule is not None


def deploy(folder: Path, acknowledge: Acknowledge) -> None:
    write_bundle(folder / "bundle", lambda made: fill(made, "r16.5x2.5x2"))


def check_bundle(folder: Path, acknowledged: set[str]) -> None:
    assert verify_bundle(folder / "bundle").subnet == "r16.5x2.5x2"


def compile_once(folder: Path, acknowledge: Acknowledge) -> None:
    os.environ["OFA_TVM_CACHE"] = str(folder)
    for name in ("a.o", "b.o"):
        made(folder / "compiled" / name, lambda to: to.write_bytes(b"code"))


def check_cache(folder: Path, acknowledged: set[str]) -> None:
    assert all(map(is_whole, [folder / "compiled" / name for name in ("a.o", "b.o")]))


class Trees:
    """In place of boosted trees, whose threads do not survive a fork."""

    def __init__(self, content: object) -> None:
        self.content = content if isinstance(content, bytes) else b""

    def load_model(self, content: bytearray) -> None:
        self.content = bytes(content)

    def save_raw(self, form: str) -> bytes:
        return self.content


def save(folder: Path, name: str) -> None:
    model = StackedRegressor(np.ones(1), Trees(name.encode()), 0.0, 1.0, np.ones(1))  # type: ignore[arg-type]
    save_model(folder, "model", model, space={}, table_digest="", report={"name": name})


def saved(folder: Path) -> object:
    model, report = load_model(folder, "model", space={}, table_digest="")
    assert model.booster.save_raw("ubj").decode() == report["name"]
    return report["name"]


def fit(folder: Path, acknowledge: Acknowledge) -> None:
    assert saved(folder) in ("old", "new")
    with held(folder):
        save(folder, "new")


def check_model(folder: Path, acknowledged: set[str]) -> None:
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["model.report.json", "model.ubj"]
    assert saved(folder) == "new"


def run_killed(scenario: Callable[..., None], folder: Path, at: int, is_torn: bool) -> tuple[bool, set[str]]:
    """Whether a process was killed at that step before it was done, and what it had acknowledged."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            Killer(folder, at, is_torn)
            scenario(folder, lambda digest: os.write(writing, f"{digest}\n".encode()))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as said:
        acknowledged = set(said.read().split())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0, acknowledged


def leftovers(folder: Path) -> list[str]:
    """Hidden files that are not the lock's."""
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where there is one: disks take their time with thousands of renames."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if os.access(place, os.W_OK) else tmp_path) as name:
        yield Path(name)


SCENARIOS = {
    "tune": (lambda folder: None, tune, check_log, 40),
    "import": (write_pack, import_pack, check_log, 25),
    "deploy": (lambda folder: write_bundle(folder / "bundle", fill), deploy, check_bundle, 8),
    "compile": (lambda folder: None, compile_once, check_cache, 10),
    "fit": (lambda folder: save(folder, "old"), fit, check_model, 10),
}


@pytest.mark.seconds(10)
@pytest.mark.parametrize(
    ("name", "is_torn"), [*((name, False) for name in SCENARIOS), ("tune", True), ("import", True)]
)
def test_a_kill_at_any_step(memory, monkeypatch, name, is_torn):
    prepare, scenario, check, fewest = SCENARIOS[name]
    monkeypatch.setenv("OFA_TVM_CACHE", str(memory))
    monkeypatch.setattr("ofa_tvm.regression.model_files.xgboost.Booster", Trees)
    at, is_killed = 0, True
    while is_killed:
        at += 1
        folder = memory / str(at)
        folder.mkdir()
        prepare(folder)
        is_killed, acknowledged = run_killed(scenario, folder, at, is_torn)
        assert run_killed(scenario, folder, 0, False)[0] is False
        check(folder, acknowledged)
        assert not leftovers(folder), f"killed at step {at}"
    assert at > fewest
