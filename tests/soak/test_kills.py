"""Commands that are killed again and again, at steps and at moments drawn by chance: each next run goes on.

OFA_TVM_KILLS is how many kills there are in all. Spaces and devices are made up, everything else is real.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
from safetensors.numpy import load_file

from ofa_tvm.bundle.folder import MANIFEST, verify_bundle
from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.entries import read_entries
from ofa_tvm.devices.replay import made_up_result
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.spaces import SPACES
from ofa_tvm.support.files import Record, read_jsonl
from ofa_tvm.tuner.log import kernel_states

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("OFA_TVM_KILLS", "240"))
IN_TURN = ("steps", "moments")
TARGET = (("window_ms = 60", "window_ms = 5"), ("gap_s = 1", "gap_s = 0"))


@dataclass(frozen=True)
class Place:
    """Folders of a scenario: what all share, and its own, which begins anew with each round."""

    shared: Path
    own: Path

    def run(self, words: Sequence[str], at: int = 0, is_torn: bool = False, seconds: float | None = None) -> int:
        """Run a command to its end, to a step, or to a moment; its exit code."""
        settings = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "OFA_TVM_CACHE": str(self.own / "cache"),
            "KILL_UNDER": str(self.own),
            "KILL_AT": str(at),
            "KILL_STEPS": str(self.own.with_name("steps")),
            **({"KILL_TORN": "1"} if is_torn else {}),
        }
        self.own.mkdir(exist_ok=True)
        with self.own.with_name("said").open("w") as said:
            command = [sys.executable, str(ROOT / "tests" / "killed_command.py"), *words]
            process = subprocess.Popen(command, env=settings, stdout=said, stderr=said, start_new_session=True)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    @property
    def said(self) -> str:
        """What the last command printed."""
        return self.own.with_name("said").read_text()[-3000:]


def target(place: Place) -> list[str]:
    return ["--target", str(place.shared / "mine.toml"), "--logs", str(place.own / "logs")]


def tune(place: Place) -> list[str]:
    return ["tune", *target(place), "--space", "tiny", "--trials-per-kernel", "3"]


def measure(place: Place) -> list[str]:
    return [*tune(place), "--samples", "20"]


def train(place: Place) -> list[str]:
    options = ["--space", "tiny", "--data", "tiny", "--steps", "6", "--batch", "16", "--folds", "2"]
    return ["train", *options, "--out", str(place.own / "trained"), "--accuracy-samples", "20", "--host-threads", "1"]


def search(place: Place) -> list[str]:
    effort = ["--samples", "20", "--evaluations", "100", "--finalists", "1", "--max-latency-ms", "1"]
    return ["search", *target(place), "--supernet", str(place.own / "trained"), *effort, "--out", f"{place.own}/found"]


def deploy(place: Place) -> list[str]:
    which = ["--supernet", str(place.own / "trained"), "--subnet", "smallest", "--check-images", "8"]
    return ["deploy", *target(place), *which, "--out", str(place.own / "bundle")]


def import_pack(place: Place) -> list[str]:
    return ["tune", *target(place), "--space", "tiny", "--import-pack", str(place.shared / "pack")]


def compile_subnet(place: Place) -> list[str]:
    return ["compile", *target(place), "--space", "tiny", "--subnet", "largest", "--out", f"{place.own}/largest.so"]


def onboard(place: Place) -> list[str]:
    effort = ["--minutes", "0.05", "--samples", "20", "--max-latency-ms", "1"]
    return ["onboard", *target(place), "--supernet", str(place.own / "trained"), *effort, "--out", f"{place.own}/all"]


SCENARIOS: dict[str, tuple[Callable[[Place], list[str]], float]] = {
    "tune": (tune, 0.25),
    "train": (train, 0.2),
    "deploy": (deploy, 0.15),
    "import": (import_pack, 0.15),
    "compile": (compile_subnet, 0.1),
    "measure": (measure, 0.05),
    "search": (search, 0.06),
    "onboard": (onboard, 0.04),
}
"""Each command, and its share of the kills."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target whose measurements are short, a trained supernet, a tuned log, and a pack with results."""
    SPACES["tiny"] = tiny.space()
    folder = tmp_path_factory.mktemp("shared")
    text = (ROOT / "targets" / "x86.toml").read_text()
    for old, new in TARGET:
        assert old in text
        text = text.replace(old, new)
    (folder / "mine.toml").write_text(text)
    place = Place(folder, folder / "made")
    for words in (tune(place), train(place)):
        assert place.run(words) == 0, place.said
    pack = ["--export-pack", str(folder / "pack"), "--trials", "24"]
    assert place.run(["tune", *target(place), "--space", "tiny", *pack]) == 0, place.said
    write_results(folder / "pack")
    return folder


def write_results(pack: Path) -> None:
    """Results of all candidates of a pack, as its device would write them."""
    manifest, path = json.loads((pack / "manifest.json").read_text()), pack / "results.jsonl"
    pack_files.append_line(path, {"round": manifest["round"], "device": {"name": "made up"}})
    for entry in read_entries(pack):
        candidate = entry.candidate
        assert candidate is not None
        result = made_up_result(KernelSpec("conv", 8, 16, 4), candidate)
        answer = {"status": result.status, "times_ms": result.times_ms, "is_checked": result.is_checked}
        pack_files.append_line(path, {"round": manifest["round"], "id": entry.id, **answer})


def lines_of(folder: Path) -> dict[Path, list[Record]]:
    """The records of all files of lines; none may be damaged."""
    return {path: read_jsonl(path, "file") for path in folder.rglob("*.jsonl") if "pack" not in path.parts}


def check(place: Place, before: dict[Path, list[Record]]) -> dict[Path, list[Record]]:
    """Everything that must hold after a kill; returns what is there now."""
    now = lines_of(place.own)
    for path, old in before.items():
        if path.name == "training.jsonl":
            steps = [record["step"] for record in now[path]]
            assert steps == sorted(set(steps)), f"{path} repeats steps"
        else:
            assert now[path][: len(old)] == old, f"{path} has lost lines"
    for path, records in now.items():
        if path.name == "trials.jsonl":
            check_trials(records)
        if path.name == "accuracy.jsonl":
            # What a training counted, a search may have to classify: it compares subnets image by image.
            kinds = Counter((line["checkpoint"], line["subnet"], line.get("right") is not None) for line in records)
            assert max(kinds.values(), default=1) == 1, "a subnet was evaluated again"
    for path in place.own.rglob("*.json"):
        if not any(part.startswith(".") for part in path.relative_to(place.own).parts):
            json.loads(path.read_text())
    if (place.own / "bundle" / MANIFEST).exists():
        verify_bundle(place.own / "bundle")
    return now


def check_trials(records: list[Record]) -> None:
    assert max(Counter(line["digest"] for line in records).values()) == 1, "a trial was repeated"
    for kernel in {line["kernel"] for line in records}:
        numbers = [line["number"] for line in records if line["kernel"] == kernel]
        assert numbers == list(range(1, 1 + len(numbers)))


def check_finished(name: str, place: Place) -> None:
    """What must also hold after a run that ended by itself."""
    for path in place.own.rglob("trials.jsonl"):
        counts = Counter(line["kernel"] for line in read_jsonl(path, "ledger"))
        assert {key: state.trials for key, state in kernel_states(path.parent).items()} == counts
    hidden = [path for path in place.own.rglob(".*") if path.name != ".lock"]
    assert not hidden, "something is left over"
    if name == "train":
        for path in place.own.glob("trained/**/training.jsonl"):
            assert [record["step"] for record in read_jsonl(path, "log")] == [1, 2, 3, 4, 5, 6]
        expected, found = (
            load_file(folder / "trained" / "supernet.safetensors") for folder in (place.shared / "made", place.own)
        )
        assert all((found[key] == value).all() for key, value in expected.items()), "another supernet"
    if name == "deploy":
        verify_bundle(place.own / "bundle")
    if name == "import":
        (imported,) = place.own.rglob("trials.jsonl")
        wanted = {entry.id for entry in read_entries(place.shared / "pack")}
        assert {line["digest"] for line in read_jsonl(imported, "ledger")} == wanted


def begin(name: str, place: Place) -> None:
    """The folder as it is before the first run of a round."""
    shutil.rmtree(place.own, ignore_errors=True)
    place.own.mkdir()
    if name in ("search", "deploy", "onboard"):
        shutil.copytree(place.shared / "made" / "trained", place.own / "trained", copy_function=shutil.copyfile)
    if name in ("search", "deploy", "measure", "compile"):
        shutil.copytree(place.shared / "made" / "logs", place.own / "logs", copy_function=shutil.copyfile)


@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_next_run_goes_on(name: str, shared: Path, tmp_path: Path) -> None:
    command, share = SCENARIOS[name]
    place, rng = Place(shared, tmp_path / "own"), random.Random(name)
    begin(name, place)
    started = time.monotonic()
    assert place.run(command(place)) == 0, place.said
    seconds = time.monotonic() - started
    steps = int((tmp_path / "steps").read_text())
    check_finished(name, place)
    kills, left, most = 0, list[int](), round(share * KILLS)
    begin(name, place)
    before: dict[Path, list[Record]] = {}
    while kills < most:
        left = left or rng.sample(range(1, 1 + steps), steps)
        if IN_TURN[kills % 2] == "steps":
            code = place.run(command(place), at=left.pop(), is_torn=rng.random() < 0.5)
        else:
            code = place.run(command(place), seconds=rng.uniform(0.2, 1.0) * seconds)
        assert code in (0, -signal.SIGKILL), place.said
        before = check(place, before)
        if code == 0:
            check_finished(name, place)
            begin(name, place)
            before = {}
        else:
            kills += 1
    assert place.run(command(place)) == 0, place.said
    check(place, before)
    check_finished(name, place)
