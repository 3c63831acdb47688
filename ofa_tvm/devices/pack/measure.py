"""Measure what a pack holds, on a machine without network or compiler: ``python measure.py [--minutes N]``.

A pack is a folder of ``ofa_tvm.tune --export-pack``; this file lies in it as ``measure.py`` and knows nothing of
ofa_tvm. It needs Python 3.9, numpy and TVM's runtime libraries, see ``README.txt``. Each result is a line of
``results.jsonl``, written at once; run it again, and it goes on with what has none. Send that file back. Candidates run
in a process of their own: one that crashes or hangs costs one result.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import select
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING or __package__:
    from ofa_tvm.devices.pack.tvm_runtime import CPU, Runtime
    from ofa_tvm.support.nvml import gpu_millijoules
else:  # beside this file, in a pack
    from nvml import gpu_millijoules
    from tvm_runtime import CPU, Runtime

RESULTS = "results.jsonl"
ENTRIES = "entries.jsonl"
MANIFEST = "manifest.json"
STARTING_S = 120
FIRST = 5
"""Results that come to nothing at once: then it is the machine that fails, not they."""
OTHER_NAMES = {"arm64": "aarch64", "AMD64": "x86_64"}
FIGURES, MIN_CALLS = 10, 9
ENERGY_S, AT_ONCE_S = 0.5, 0.01
"""Calls for so long tell what one draws; so many are made between two looks at the counter."""
Array = Any
Record = dict[str, Any]


# Numbers: the same on every machine and version of numpy ----------------------------------------------------


def random_values(seed: int, shape: list[int], scale: float) -> Array:
    """Floats in (-scale, scale), from a hash (splitmix64) of their positions and a seed."""
    count = int(np.prod(shape))
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(1 + (seed << 32))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    units = (mixed >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1
    return (units * scale).astype(np.float32).reshape(shape)


def inputs_of(entry: Record) -> list[Array]:
    """The arrays that an entry's description asks for, in its type."""
    dtype = entry.get("dtype", "float32")
    return [random_values(recipe["seed"], recipe["shape"], recipe["scale"]).astype(dtype) for recipe in entry["inputs"]]


def sample(outputs: list[Array], most: int = 256) -> Record:
    """A digest of outputs that fits in a few kilobytes: values at places spread over them, and sums of magnitudes."""
    flat = np.concatenate([output.ravel() for output in outputs]).astype(np.float64)
    places = np.unique(np.linspace(0, flat.size - 1, min(most, flat.size)).astype(np.int64))
    values = base64.b64encode(flat[places].astype("<f4").tobytes()).decode()
    return {"values": values, "sum": float(np.abs(flat).sum()), "largest": float(np.abs(flat).max())}


def difference(found: Record, expected: Record) -> float:
    """How far two digests are apart: the largest difference over the largest value."""
    here, there = (np.frombuffer(base64.b64decode(one["values"]), "<f4").astype(float) for one in (found, expected))
    if len(here) != len(there) or not np.isfinite(found["sum"]):
        return float("inf")
    apart = float(np.abs(here - there).max()) / max(1e-6, expected["largest"])
    return float(max(apart, abs(found["sum"] - expected["sum"]) / max(1e-6, expected["sum"])))


def hash_of(outputs: list[Array]) -> str:
    """A hash of all values in their type, which has zero once."""
    return hashlib.sha256(b"".join((output + output.dtype.type(0)).tobytes() for output in outputs)).hexdigest()


def expectation(outputs: list[Array], is_exact: bool) -> Record:
    """What ``complaint`` needs to know of the right outputs."""
    return {"sha256": hash_of(outputs)} if is_exact else sample(outputs)


def complaint(outputs: list[Array], expected: Record, tolerance: float) -> str:
    """Why outputs are not what is expected; empty where they are. A hash allows no difference."""
    if "sha256" in expected:
        return "" if hash_of(outputs) == expected["sha256"] else "differs from the reference, which it must equal"
    apart = difference(sample(outputs), expected)
    return "" if apart < tolerance else f"differs from the reference by {apart:.2g}"


# Lines ----------------------------------------------------------------------------------------------------------


def sealed(record: Record) -> str:
    """A record as a line that ends with a check of itself."""
    text = json.dumps(record, sort_keys=True)
    return json.dumps({"record": record, "check": hashlib.sha256(text.encode()).hexdigest()[:16]}, sort_keys=True)


def unsealed(line: str) -> Record | None:
    """The record of a line; None for a damaged one."""
    try:
        value = json.loads(line)
        record = value["record"]
        is_whole = isinstance(record, dict) and json.loads(sealed(record)) == value
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if is_whole else None


def read_lines(path: Path) -> tuple[list[Record], int]:
    """The records of a file of sealed lines, and how many lines are damaged."""
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").split("\n") if path.exists() else []
    records = [unsealed(line) for line in lines if line.strip()]
    return [record for record in records if record is not None], sum(record is None for record in records)


def append_line(path: Path, record: Record) -> None:
    """Append a record as a sealed line; it is on the disk when this returns."""
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():  # a line that a power cut tore must not spoil the next one
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
            file.write(b"\n" if torn else b"")
        file.write((sealed(record) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def what_lacks(folder: Path) -> str:
    """Why a folder is no pack that can be measured; empty where it is one."""
    for name in (MANIFEST, ENTRIES, RESULTS):
        if (folder / name).exists() and not (folder / name).is_file():
            return f"{name}: no regular file; remove it"
    try:
        json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return "" if read_lines(folder / ENTRIES)[0] else f"{ENTRIES} is missing or holds nothing to measure"


def damaged_files(folder: Path, files: Record, entries: list[Record]) -> list[str]:
    """Names of files that are missing or not what the manifest and entries say."""
    damaged, wanted = [], dict(files)
    for entry in entries:
        wanted.update(entry["files"])
        wanted.update(entry.get("reference", {}).get("files", {}))
    for name, digest in wanted.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            damaged.append(name)
    return damaged


# Running --------------------------------------------------------------------------------------------------------


def open_runtime(folder: Path, kind: str) -> Runtime:
    """TVM's runtime: the pack's own, that of all packs beside it, or what is installed."""
    return Runtime([folder / "runtime", folder.parent / "runtime"], kind)


def tensors_of(manifest: Record) -> str:
    """Where a pack's libraries take tensors: on the device, or in this machine's memory, from where they copy them."""
    return str(manifest.get("tensors", manifest["device"]))


def seconds_of(runtime: Runtime, module: Any, arguments: list[Any], repeats: int, min_repeat_ms: int) -> list[float]:
    """Seconds of one call of a module's ``main``, for each repeat."""
    make = runtime.function("runtime.RPCTimeEvaluator")
    timer = make(module, "main", runtime.device.kind, 0, 1, repeats, min_repeat_ms, 100, 0, 1, 0, "")
    return [float(value) for value in np.frombuffer(timer(*arguments), "<f8")]


def measure(runtime: Runtime, folder: Path, entry: Record, settings: Record) -> Record:
    """Time an entry, and check its output."""
    with tempfile.TemporaryDirectory() as name:
        library = unpacked(folder, entry, Path(name))
        return FORMS[entry["form"]](runtime, folder, entry, settings, library)


def unpacked(folder: Path, entry: Record, to: Path) -> Path:
    """An entry's library as a file that can be loaded."""
    library = to / f"{entry['id']}.so"
    library.write_bytes(zlib.decompress((folder / entry["library"]).read_bytes()))
    return library


def _program(runtime: Runtime, folder: Path, entry: Record, settings: Record, library: Path) -> Record:
    """A library with functions ``run`` and ``time`` on bytes of all arguments; they guard themselves."""
    module = runtime.module(library)
    tensor = runtime.tensor(np.frombuffer(zlib.decompress((folder / entry["arguments"]).read_bytes()), np.uint8))
    seconds = runtime.tensor(np.zeros(settings["repeats"]))
    outputs = runtime.tensor(np.zeros(entry["output_bytes"], np.uint8))
    time_us = 1000 * settings["min_repeat_ms"]
    for name, arguments in (("time", (tensor, seconds, time_us)), ("run", (tensor, outputs))):
        error = int(module[name](*arguments))
        if error:
            said = os.strerror(error) if error > 0 else f"the kernel was killed by signal {-error}"
            return {"status": "failed" if error > 0 else "crashed", "error": said}
    data = outputs.array().tobytes()
    arrays = [np.frombuffer(data, dtype, int(np.prod(shape)), at) for at, shape, dtype in entry["outputs"]]
    return _checked([1e3 * value for value in seconds.array()], arrays, entry, settings)


def _function(runtime: Runtime, folder: Path, entry: Record, settings: Record, library: Path) -> Record:
    """A library whose ``main`` takes tensors, the last ones of which it writes."""
    module = runtime.module(library)
    outputs = [runtime.tensor(np.full(shape, np.nan, dtype)) for _, shape, dtype in entry["outputs"]]
    arguments = [*map(runtime.tensor, inputs_of(entry)), *outputs]
    module["main"](*arguments)
    arrays = [tensor.array() for tensor in outputs]
    seconds = seconds_of(runtime, module, arguments, settings["repeats"], settings["min_repeat_ms"])
    return _checked([1e3 * value for value in seconds], arrays, entry, settings)


def _checked(times_ms: list[float], arrays: list[Array], entry: Record, settings: Record) -> Record:
    if error := complaint(arrays, entry["expected"], settings["tolerance"]):
        return {"status": "wrong_output", "error": error}
    return {"status": "ok", "times_ms": times_ms, "is_checked": True}


class Subnet:
    """A subnet's library: ``main(images, logits)``, or TVM's virtual machine."""

    def __init__(self, runtime: Runtime, entry: Record, library: Path) -> None:
        self._runtime = runtime
        self._module = runtime.module(library)
        self._arguments = [runtime.tensor(array) for array in inputs_of(entry)]
        self._logits = None
        if entry["form"] == "virtual_machine":
            kind = runtime.device.kind
            pooled = 2
            self._module = self._module["vm_load_executable"]()
            self._module["vm_initialization"](kind, 0, pooled, CPU, 0, pooled)
        else:
            self._logits = runtime.tensor(np.full(entry["outputs"][0][1], np.nan, np.float32))
            self._arguments.append(self._logits)

    def call(self) -> Any:
        """Logits where the code runs; a GPU may still be computing them."""
        answer = self._module["main"](*self._arguments)
        return answer if self._logits is None else self._logits

    def run(self) -> Array:
        """Logits here."""
        return self.call().array()

    def overlap(self) -> None:
        """Let a GPU's kernels start before the one before has ended; of libraries with kernels from templates."""
        self._module["overlap"](1)

    def window(self, window_ms: float) -> list[float]:
        """Figures of single calls for about so many milliseconds; see ``timing.window.Window`` in ofa_tvm."""
        if self._logits is not None:
            figures = self._runtime.tensor(np.zeros(FIGURES))
            self._module["window"](*self._arguments, float(window_ms), figures)
            return [float(value) for value in figures.array()]
        once = float(np.median(seconds_of(self._runtime, self._module, self._arguments, MIN_CALLS, 0)))
        calls = max(MIN_CALLS, int(1e-3 * window_ms / once))
        seconds = seconds_of(self._runtime, self._module, self._arguments, calls, 0)
        percentiles = [1e3 * float(value) for value in np.percentile(seconds, (50, 90, 99))]
        return [*percentiles, *percentiles, calls, 0, 1, 0]

    def repeat(self, calls: int) -> int:
        """Call it one time after the other; how many calls there were, with those that warm up."""
        return 1 + len(seconds_of(self._runtime, self._module, self._arguments, calls, 0))


def energy_mj(repeat: Callable[[], int]) -> float | None:
    """What one call of a GPU draws, of calls between two steps of its counter; None where nothing counts.

    Args:
        repeat: makes some calls, one after the other, and tells how many.
    """
    begun: tuple[float, float] | None = None
    last, calls, end = gpu_millijoules(), 0, time.monotonic() + 4 * ENERGY_S
    while last is not None and time.monotonic() < end:
        calls += repeat()
        now = gpu_millijoules()
        if now is not None and now != last:  # it counts in steps of some tens of milliseconds
            if begun is None:
                begun, calls = (now, time.monotonic()), 0
            elif time.monotonic() - begun[1] >= ENERGY_S:
                return (now - begun[0]) / calls
        last = now
    return None


def _subnet(runtime: Runtime, folder: Path, entry: Record, settings: Record, library: Path) -> Record:
    """Time a subnet in turn with the reference subnet, so that a machine that drifts can be told."""
    with tempfile.TemporaryDirectory() as name:
        other = entry["reference"]
        subnets = [Subnet(runtime, entry, library), Subnet(runtime, other, unpacked(folder, other, Path(name)))]
        for subnet, expected in zip(subnets, (entry["expected"], other["expected"])):  # noqa: B905
            if error := complaint([subnet.run()], expected, settings["subnet_tolerance"]):
                return {"status": "wrong_output", "error": error}
        windows = []
        for number in range(settings["windows"]):
            time.sleep(settings["gap_s"] if number else 0)
            windows.append([one.window(settings["window_ms"]) for one in subnets])
        count = max(1, int(1e3 * AT_ONCE_S / windows[0][0][0]))
        is_gpu = settings.get("is_gpu")  # its library may take tensors from this machine's memory
        drawn_mj = energy_mj(lambda: subnets[0].repeat(count)) if is_gpu else None
    return {
        "status": "ok",
        "times_ms": [figures[0] for figures, _ in windows],
        "reference_ms": [other[0] for _, other in windows],
        "figures": [figures for figures, _ in windows],
        **({} if drawn_mj is None else {"energy_mj": drawn_mj}),
    }


FORMS = {"program": _program, "function": _function, "subnet": _subnet, "virtual_machine": _subnet}


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
        ]
        command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        values = [value.strip() for value in said.partition("\n")[0].split(",")]
        answers.update(dict(zip(fields, values)) if len(values) == len(fields) else {"name": "unknown GPU"})  # noqa: B905
    return answers


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
    if damaged:
        print(f"{damaged} damaged lines of {RESULTS} are measured again", file=sys.stderr)
    measured = {record.get("id") for record in results if record.get("round") == manifest["round"]}
    left = [number for number, entry in enumerate(entries) if entry["id"] not in measured]
    works = any(record.get("status") == "ok" for record in results)
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
