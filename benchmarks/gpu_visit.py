"""A visit to a machine with a GPU: all that waits for one, in minutes and without network, brought home as one archive.

    python -m ofa_tvm.tune --target cuda-sm90 --export-pack visit/PACK      # before, as many as wanted
    python -m ofa_tvm.tune --target cuda-sm90-templates --export-pack visit/PACK-templates
    python -m ofa_tvm.deploy --target cuda-sm90 --subnet KEY --out visit/BUNDLE
    python benchmarks/gpu_visit.py visit [--minutes 10]                     # there
    tar -xzf visit.tar.gz -C visit                                          # home again; then tune --import-pack

Packs are measured, bundles run, subnets of packs compared with torch (``gpu_peers.py``) and the tests of GPUs passed,
each in a process of its own. What is done is a line of ``visit.jsonl`` and in the archive at once; run it again, and it
goes on with the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEDGER, ARCHIVE = "visit.jsonl", "visit.tar.gz"
RESULTS, PEERS, TIMES = "results.jsonl", "peers.json", "benchmark.json"
ENTRIES, MANIFEST, MEASURE, RUNNER = "entries.jsonl", "manifest.json", "measure.py", "run"
TEMPLATES = "-templates"
"""A pack X-templates holds the subnets of pack X with kernels from templates: both are timed in turn."""
MOST_BYTES = 16 << 20
TAIL = 4000
PACKS_SHARE = 0.5
"""Packs take at most so much of the time that is left: what compares must come to its turn."""
FACTS = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu,compute_mode"


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Args:
        name: what ``visit.jsonl`` calls it.
        command: its process.
        folder: where that runs.
        share: of the time that is left.
        output: file of the folder that what it prints goes into; empty for none.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    share: float = 1.0
    output: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a step went; ``code`` is None where it took longer than it may."""

    step: str
    code: int | None
    seconds: float
    at: str
    said: str


def steps(visit: Path) -> Iterator[Step]:
    """What waits in a folder, the most urgent first."""
    folders = sorted(path for path in visit.iterdir() if path.is_dir())
    packs = [folder for folder in folders if (folder / MEASURE).is_file()]
    bundles = [folder for folder in folders if (folder / RUNNER).is_file() and folder not in packs]
    yield Step("gpu", ("nvidia-smi", f"--query-gpu={FACTS}", "--format=csv"), visit)
    for pack in packs:
        yield Step(f"measure {pack.name}", (sys.executable, MEASURE, "--minutes", "{minutes:.2f}"), pack, PACKS_SHARE)
    for bundle in bundles:
        yield Step(f"run {bundle.name}", (f"./{RUNNER}", "--benchmark", "--json"), bundle, output=TIMES)
    compared = [pack for pack in packs if _holds_subnets(pack)]
    for pack in compared:
        if pack.name.endswith(TEMPLATES) and pack.with_name(pack.name.removesuffix(TEMPLATES)) in compared:
            continue  # it is timed beside the other
        command = [sys.executable, str(ROOT / "benchmarks/gpu_peers.py"), str(pack)]
        beside = pack.with_name(pack.name + TEMPLATES)
        command += ["--beside", str(beside)] if beside in compared else []
        yield Step(f"peers {pack.name}", tuple(command), ROOT)
    yield Step("tests", (sys.executable, "-m", "pytest", "-q", "tests/device/test_gpu.py"), ROOT)


def _holds_subnets(pack: Path) -> bool:
    entries = pack / ENTRIES
    return entries.is_file() and b'"subnet": ' in entries.read_bytes()


def run(step: Step, left_s: float) -> Outcome:
    """Run a step for at most its share of the time that is left."""
    most_s = left_s * step.share
    # The process stops by itself a little before it would be killed.
    command = [part.format(minutes=0.9 * most_s / 60) for part in step.command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start, at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        done = subprocess.run(
            command,
            cwd=step.folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=most_s,
        )
        code, printed, said = done.returncode, done.stdout, done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        code, printed = None, ""
        said = "".join(part.decode(errors="replace") for part in (error.stdout, error.stderr) if part)
    except OSError as error:
        code, printed, said = 127, "", str(error)
    if step.output and code == 0:
        (step.folder / step.output).write_text(printed)
    return Outcome(step.name, code, time.monotonic() - start, at, said[-TAIL:])


def outcomes(ledger: Path) -> Iterator[Outcome]:
    """What a ledger tells; a line that a power cut tore is left out, and its step done again."""
    for line in ledger.read_text(errors="replace").splitlines() if ledger.is_file() else ():
        try:
            yield Outcome(**json.loads(line))
        except (ValueError, TypeError):
            print(f"{ledger}: a damaged line is left out", file=sys.stderr)


def is_done(outcome: Outcome) -> bool:
    """Whether a second run leaves it out: a pack that was measured in part is not done."""
    return outcome.code == 0 and not outcome.said.rstrip().endswith("run it again to go on")


def pack_up(visit: Path, archive: Path) -> list[str]:
    """Write the archive of what there is; returns what was too large for it."""
    wanted = [visit / LEDGER]
    for folder in sorted(path for path in visit.iterdir() if path.is_dir()):
        wanted += [folder / name for name in (RESULTS, PEERS, TIMES)]
    size, left_out = 0, []
    new = archive.with_suffix(".new")
    with tarfile.open(new, "w:gz") as file:
        for path in sorted(filter(Path.is_file, wanted), key=lambda one: one.stat().st_size):
            size += path.stat().st_size
            if size > MOST_BYTES:
                left_out.append(str(path.relative_to(visit)))
            else:
                file.add(path, str(path.relative_to(visit)))
    new.replace(archive)
    return left_out


def main(argv: Sequence[str] | None = None) -> int:
    """Do what waits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("visit", type=Path, help="folder of packs and bundles")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the whole visit")
    parser.add_argument("--out", type=Path, help=f"the archive (default: {ARCHIVE} beside the folder)")
    parser.add_argument("--skip", nargs="*", default=[], help="first words of steps to leave out")
    options = parser.parse_args(argv)
    visit: Path = options.visit.resolve()
    if not visit.is_dir():
        parser.error(f"{visit} is no folder")
    if not 0 <= options.minutes < float("inf"):
        parser.error(f"--minutes {options.minutes:g} is no time")
    archive = (options.out or visit.with_name(f"{visit.name}.tar.gz")).resolve()
    ledger = visit / LEDGER
    if ledger.exists() and not ledger.is_file():
        parser.error(f"{ledger} is no regular file: remove it")
    if archive.is_dir() or not archive.parent.is_dir():
        parser.error(f"{archive} cannot be written: name another file with --out")
    done = {outcome.step for outcome in outcomes(ledger) if is_done(outcome)}
    waiting = [step for step in steps(visit) if step.name not in done and step.name.split()[0] not in options.skip]
    torn = ledger.exists() and not ledger.read_bytes().endswith(b"\n")
    deadline, failed = time.monotonic() + 60 * options.minutes, 0
    for number, step in enumerate(waiting, 1):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            print(f"time is up: {len(waiting) - number + 1} steps wait for a second run", file=sys.stderr)
            return 1
        outcome = run(step, left_s)
        with ledger.open("a") as file:
            file.write("\n" * torn + json.dumps(asdict(outcome)) + "\n")
        torn = False
        left_out = pack_up(visit, archive)
        failed += outcome.code != 0
        ended = "took too long" if outcome.code is None else "ok" if outcome.code == 0 else f"exit {outcome.code}"
        print(f"{number}/{len(waiting)} {step.name}: {ended}, {outcome.seconds:.0f} s", file=sys.stderr, flush=True)
        if outcome.code:
            print("  " + (outcome.said.strip().splitlines() or [""])[-1], file=sys.stderr)
        if left_out:
            print(f"  too large for {archive.name}: {', '.join(left_out)}", file=sys.stderr)
    print(f"{len(waiting) - failed} of {len(waiting)} steps went well; {archive} is what to bring home")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
