"""Measure what a pack holds, on a machine without network or compiler: ``python measure.py [--minutes N]``.

A pack is a folder of ``ofa_tvm.tune --export-pack``; this file lies in it as ``measure.py`` and knows nothing of
ofa_tvm. It needs Python 3.9, numpy and TVM's runtime libraries, see ``README.txt``. Each result is a line of
``results.jsonl``, written at once; run it again, and it goes on with what has none. Send that file back. Candidates run
in a process of their own: one that crashes or hangs costs one result.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ofa_tvm.devices.pack.forms import measure, open_runtime, tensors_of
from ofa_tvm.devices.pack.pack_files import ENTRIES, MANIFEST, RESULTS, Record, append_line, read_lines
from ofa_tvm.devices.pack.wholeness import damaged_files, is_answer, what_lacks

STARTING_S = 120
DRIVER = "libcuda.so.1"
FIRST = 5
"""Results that come to nothing at once: then it is the machine that fails, not they."""
OTHER_NAMES = {"arm64": "aarch64", "AMD64": "x86_64"}


def serve(folder: Path) -> None:
    """In the child: answer numbers of entries on stdin with one line each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for answers
    manifest = json.loads((folder / MANIFEST).read_text())
    entries, _ = read_lines(folder / ENTRIES)
    try:
        runtime = open_runtime(folder, tensors_of(manifest))
    except Exception as error:
        answers.write(json.dumps({"status": "unusable", "error": f"{type(error).__name__}: {error}"[:500]}) + "\n")
        return
    answers.write('{"status": "ready"}\n')
    answers.flush()
    for line in sys.stdin:
        try:
            answer = measure(runtime, folder, entries[int(line)], manifest["measure"])
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[-1]
            answer = {"status": "failed", "error": f"{type(error).__name__}: {said}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Child:
    """The process that runs candidates."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin and self._process.stdout
        self._questions, self._answers = self._process.stdin, self._process.stdout
        self.ready = self._answer(STARTING_S)

    def ask(self, number: int, timeout_s: float) -> Record:
        """The answer for an entry, or what became of it; only "ok", "failed" and "wrong_output" leave a live child."""
        self._questions.write(f"{number}\n")
        self._questions.flush()
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> Record:
        if not select.select([self._answers], [], [], timeout_s)[0]:
            self.end()
            return {"status": "timed_out", "error": f"took longer than {timeout_s:g} s"}
        line = self._answers.readline()
        if line:
            answer: Record = json.loads(line)
            return answer
        self.end()
        return {"status": "crashed", "error": f"the process ended with {self._process.returncode}"}

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._questions, self._answers):
            pipe.close()


def facts(kind: str) -> Record:
    """What can be known of this machine: processor, and its GPU's name, driver and clocks."""
    answers: dict[str, Any] = {"machine": platform.machine(), "system": platform.platform()}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        answers["processor"] = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    except OSError:
        answers["processor"] = platform.processor()
    answers["name"] = answers["processor"] or answers["machine"]
    if kind == "cuda":
        fields = [
            "name",
            "driver_version",
            "clocks.sm",
            "clocks.max.sm",
            "clocks.mem",
            "temperature.gpu",
            "power.limit",
            "compute_cap",
        ]
        command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        values = [value.strip() for value in said.partition("\n")[0].split(",")]
        answers.update(dict(zip(fields, values)) if len(values) == len(fields) else {"name": "unknown GPU"})  # noqa: B905
    return answers


def no_driver() -> str:
    """Why no GPU can be used here: its driver is missing, or finds none; empty where it can."""
    try:
        error = ctypes.CDLL(DRIVER).cuInit(0)
    except (OSError, AttributeError) as problem:
        return f"NVIDIA's driver is missing on this machine ({problem}): install version 580 or newer"
    return f"NVIDIA's driver cannot use a GPU here (error {error}): see what nvidia-smi says" if error else ""


def main() -> int:
    """Measure everything that has no result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, help="stop after so long; run it again to go on")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve))
        return 0
    folder = Path(__file__).resolve().parent
    if lacking := what_lacks(folder):
        print(f"{lacking}; copy the whole folder again", file=sys.stderr)
        return 2
    manifest = json.loads((folder / MANIFEST).read_text())
    entries, damaged = read_lines(folder / ENTRIES)
    if damaged:
        print(f"{damaged} damaged lines of {ENTRIES} are left out", file=sys.stderr)
    bad = damaged_files(folder, manifest["files"], entries)
    if bad:
        print(f"{', '.join(bad[:5])}: missing or damaged; copy the whole folder again", file=sys.stderr)
        return 2
    here = OTHER_NAMES.get(platform.machine(), platform.machine())
    if here != manifest["machine"]:
        print(f"this machine is {here}, the pack is for {manifest['machine']}: see README.txt", file=sys.stderr)
        return 2
    results, damaged = read_lines(folder / RESULTS)
    answers = [record for record in results if "id" in record and record.get("round") == manifest["round"]]
    subnets = {entry["id"] for entry in entries if "reference" in entry}
    usable = [record for record in answers if is_answer(record, str(record["id"]) in subnets)]
    damaged += len(answers) - len(usable)
    if damaged:
        print(f"{damaged} damaged lines of {RESULTS} are measured again", file=sys.stderr)
    measured = {record["id"] for record in usable}
    if problem := manifest["device"] == "cuda" and no_driver():
        print(f"{problem}; nothing was measured", file=sys.stderr)
        return 1
    left = [number for number, entry in enumerate(entries) if entry["id"] not in measured]
    works = any(record["status"] == "ok" for record in usable)
    return _measure_all(folder, manifest, [(number, entries[number]) for number in left], options.minutes, works)


def _measure_all(
    folder: Path, manifest: Record, left: list[tuple[int, Record]], minutes: float | None, works: bool
) -> int:
    """Measure entries; nothing is kept before one of them ``works``, on this machine."""
    start, child, done = time.monotonic(), None, 0
    waiting: list[Record] = []
    for number, entry in left:
        if minutes is not None and time.monotonic() - start >= 60 * minutes:
            break
        if child is None:
            child = Child(folder)
            if child.ready["status"] != "ready":
                print(f"TVM's runtime cannot be used here: {child.ready.get('error')}; see README.txt", file=sys.stderr)
                return 1
            if not done:
                waiting.append({"round": manifest["round"], "device": facts(manifest["device"])})
        answer = child.ask(number, entry.get("timeout_s", manifest["measure"]["timeout_s"]))
        if answer["status"] in ("crashed", "timed_out"):
            child = None
        waiting.append({"round": manifest["round"], "id": entry["id"], "at": time.time(), **answer})
        done += 1
        works = works or answer["status"] == "ok"
        print(f"{done}/{len(left)} {entry['title']}: {answer['status']}", file=sys.stderr)
        if not works and done == min(FIRST, len(left)):
            print(f"none of them works on this machine: {answer.get('error')}; nothing is kept", file=sys.stderr)
            break
        while works and waiting:
            append_line(folder / RESULTS, waiting.pop(0))
    if child is not None:
        child.end()
    if not works and done:
        return 1
    rest = len(left) - done
    print(f"{done} measured, {rest} left" + ("; run it again to go on" if rest else f"; send {RESULTS} back"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
