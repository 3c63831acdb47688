"""What tuning costs and gives: ``python benchmarks/tuning.py curve|metaschedule|rate``.

==================  ====================================================================================
``curve``           quality of kernels after 1, 2, 4, ... trials each, from this machine's log and its ledger;
                    the winners are timed again in turn, so a drifting machine does not count
``metaschedule``    TVM's own search, 64 trials a kernel through the same worker, against our winners; the two are
                    timed in turn, a ratio is the median of those of five rounds
``rate``            trials a second: our worker, and TVM's LocalBuilder and LocalRunner on its own candidates
==================  ====================================================================================

Tune before (``python -m ofa_tvm.tune --space mbv3 --resolution 224 --trials 1000``); nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from store import keep

from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.cpu.kernel_runner import KernelRunner
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.compiler.tvm_api.names import Target, load_tensor_intrinsics, ms
from ofa_tvm.devices.local.device import LocalDevice
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import random_inputs
from ofa_tvm.hardware.machine import cpu_name
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import get_space
from ofa_tvm.support.files import read_jsonl
from ofa_tvm.tuner.candidate import Candidate, Source
from ofa_tvm.tuner.evolution import Evolution, PooledCostModel
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.urgency import kernel_frequencies

ROUNDS = 3
ROUNDS_BESIDE = 5
BUDGETS = (1, 2, 4, 8, 16)
METASCHEDULE_TRIALS = 64
BATCH = 8


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


class Timer:
    """Times kernels with schedules, in turn."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.cache = ObjectCache(attributes)

    def in_turn(self, spec: KernelSpec, schedules: Iterable[dict[str, Any]]) -> list[float]:
        """Milliseconds of each schedule: the fastest repeat of all rounds."""
        inputs = random_inputs(spec)
        kernels = [self.cache.kernel(spec, schedule) for schedule in schedules]
        tasks = self.cache.features.cores
        runners = [KernelRunner(kernel, self.cache.get(spec, kernel.schedule), tasks) for kernel in kernels]
        rounds = [[min(runner.time_ms(inputs, 3, 4)) for runner in runners] for _ in range(ROUNDS)]
        return [min(times) for times in zip(*rounds, strict=True)]


def curve(target: str, space: str, resolution: int, already: list[int]) -> dict[str, Any]:
    """Quality after some trials a kernel, relative to the final winners, weighted by how often a subnet calls each."""
    spec, search_space = load_target(target), get_space(space)
    log, timer = TuningLog(spec), Timer(spec.attributes)
    kernels = fused_kernels(search_space, (resolution,))
    known = fused_kernels(search_space, tuple(already)) if already else {}
    frequencies = kernel_frequencies(search_space, (resolution,))
    tried: dict[str, list[tuple[str, float]]] = {}
    for line in read_jsonl(log.folder / "trials.jsonl", "trial ledger"):
        if line["status"] == "ok":
            tried.setdefault(line["kernel"], []).append((line["digest"], line["time_ms"]))
    totals = dict.fromkeys((*BUDGETS, "final"), 0.0)
    counted = unknown = 0
    winners, donors = list(log.winners.values()), log.donors()
    for key, kernel in kernels.items():
        if key in known or key not in tried:
            continue
        proposed = [*candidates(kernel, timer.cache.features), *winners, *donors.get(key, [])]
        schedules = {Candidate(key, "template", schedule).digest: schedule for schedule in proposed}
        # A neighbour's winner that was beaten later is known by its digest only; its trial counts all the same.
        order = tried[key]
        found = {count: [pair for pair in order[:count] if pair[0] in schedules] for count in (*BUDGETS, len(order))}
        unknown += len(order) - len(found[len(order)])
        if not found[BUDGETS[0]]:
            say(f"{key} is left out: the schedule of its first trial is not known any more")
            continue
        best = {count: min(pairs, key=lambda pair: pair[1])[0] for count, pairs in found.items()}
        distinct = list(dict.fromkeys(best.values()))
        times = dict(zip(distinct, timer.in_turn(kernel, [schedules[d] for d in distinct]), strict=True))
        for count in BUDGETS:
            totals[count] += frequencies[key] * times[best[count]]
        totals["final"] += frequencies[key] * times[best[len(order)]]
        counted += 1
    if not counted:
        sys.exit(f"{log.folder} has no ledger of these kernels: tune them first")
    quality = {str(count): totals["final"] / totals[count] for count in BUDGETS}
    trials = sum(len(lines) for key, lines in tried.items() if key in kernels and key not in known)
    return {
        "space": space,
        "resolution": resolution,
        "kernels": counted,
        "trials": trials,
        "trials_of_unknown_schedules": unknown,
        "quality_after": quality,
    }


def layers_of(kernel: KernelSpec) -> list[KernelSpec]:
    """The kernels that TVM would make of one of ours, one a layer."""
    plain = replace(kernel, pooled=False)
    if kernel.kind != "expand_depthwise":
        return [plain]
    expand = replace(plain, kind="conv", kernel_size=1, stride=1)
    return [expand, replace(plain, kind="depthwise", in_channels=kernel.out_channels)]


def metaschedule(
    target: str, space: str, resolution: int, sample: int, seed: int, wanted: Sequence[str]
) -> dict[str, Any]:
    """Plain evolutionary MetaSchedule on the layers of given kernels and a random sample, beside our winners."""
    spec = load_target(target)
    log = TuningLog(spec)
    kernels = fused_kernels(get_space(space), (resolution,))
    heavy = [key for key in kernels if key in log.winners and kernels[key].flops > 1_000_000]
    chosen = dict.fromkeys([*wanted, *random.Random(seed).sample(heavy, sample)])
    model, rows, trials, start = PooledCostModel(), [], 0, time.monotonic()
    tuned: dict[str, tuple[dict[str, Any], list[float]]] = {}
    with LocalDevice(spec) as device:
        device.start()
        for key in chosen:
            for layer in layers_of(kernels[key]):
                if layer.key not in tuned:
                    tuned[layer.key] = search(layer, spec.attributes, model, device)
                    trials += len(tuned[layer.key][1])
            pairs: list[tuple[str, Source, KernelSpec, dict[str, Any]]]
            pairs = [(key, "template", kernels[key], log.winners[key])]
            pairs += [(layer.key, "evolution", layer, tuned[layer.key][0]) for layer in layers_of(kernels[key])]
            rounds = []
            for _ in range(ROUNDS_BESIDE):
                times = [
                    device.trial(one, Candidate(name, source, best), 0.0).best_ms for name, source, one, best in pairs
                ]
                ours, *theirs = [float("inf") if one is None else one for one in times]
                rounds.append((ours, sum(theirs)))
            ratios = sorted(theirs / ours for ours, theirs in rounds)
            ours_ms, theirs_ms = (min(times) for times in zip(*rounds, strict=True))
            row = {"kernel": key, "ours_ms": ours_ms, "metaschedule_ms": theirs_ms, "ratio": median(ratios)}
            rows.append({**row, "ratios": ratios})
            say(f"{key}: {rows[-1]['ratio']:.2f}")
    by_budget = {
        count: geometric_mean(
            sum(min(tuned[layer.key][1][:count]) for layer in layers_of(kernels[row["kernel"]])) / row["ours_ms"]
            for row in rows
        )
        for count in (8, 16, 32, METASCHEDULE_TRIALS)
    }
    seconds = time.monotonic() - start
    return {
        "kernels": rows,
        "geomean_ratio": geometric_mean(row["ratio"] for row in rows),
        "time_over_ours_after": by_budget,
        "trials": trials,
        "seconds": seconds,
        "trials_per_second": trials / seconds,
    }


def search(
    kernel: KernelSpec, attributes: dict[str, Any], model: PooledCostModel, device: LocalDevice
) -> tuple[dict[str, Any], list[float]]:
    """The best trace of ``METASCHEDULE_TRIALS`` trials, and all times (infinite where a trial failed)."""
    evolution = Evolution(kernel, Target(attributes), BATCH, model, seed=0)
    best: dict[str, Any] = {}
    times: list[float] = []
    while len(times) < METASCHEDULE_TRIALS and (asked := evolution.ask()):
        results = [device.trial(kernel, candidate, None) for candidate in asked]
        for candidate, result in zip(asked, results, strict=True):
            time_ms = result.best_ms or float("inf")
            if time_ms < min(times, default=float("inf")):
                best = candidate.schedule
            times.append(time_ms)
        evolution.tell([[result.best_ms / 1e3] if result.best_ms else None for result in results])
    return best, times


def rate(target: str, space: str, resolution: int) -> dict[str, Any]:
    """Trials a second on the same kernels: ours, and TVM's builder and runner with a timeout at which they work."""
    spec = load_target(target)
    kernels = [k for k in fused_kernels(get_space(space), (resolution,)).values() if k.kind in ("conv", "dense")]
    chosen = random.Random(0).sample([replace(k, pooled=False) for k in kernels if k.flops > 1_000_000], 2)
    load_tensor_intrinsics()
    builder, runner = ms.builder.LocalBuilder(max_workers=1, timeout_sec=300), ms.runner.LocalRunner(timeout_sec=60)
    start, theirs = time.monotonic(), 0
    for kernel in chosen:
        evolution = Evolution(kernel, Target(spec.attributes), BATCH, PooledCostModel(), seed=0)
        evolution.ask()
        inputs = [ms.builder.BuilderInput(c.sch.mod, Target(spec.attributes)) for c in evolution._pending]
        built = builder.build(inputs)
        pairs = zip(built, evolution._pending, strict=True)
        runs = [ms.runner.RunnerInput(b.artifact_path, "cpu", c.args_info) for b, c in pairs if b.artifact_path]
        results = [future.result() for future in runner.run(runs)]
        theirs += sum(result.run_secs is not None for result in results)
        for message in {result.error_msg for result in results if result.error_msg}:
            say(message[-300:])
        say(f"TVM: {theirs} trials, {time.monotonic() - start:.0f} s")
    their_seconds = time.monotonic() - start
    with LocalDevice(spec) as device:
        device.start()
        start, ours = time.monotonic(), 0
        for kernel in chosen:
            for schedule in candidates(kernel, ObjectCache(spec.attributes).features)[:BATCH]:
                ours += device.trial(kernel, Candidate(kernel.key, "template", schedule), 0.0).status == "ok"
        our_seconds = time.monotonic() - start
    return {
        "kernels": [kernel.key for kernel in chosen],
        "tvm": {"trials": theirs, "seconds": their_seconds, "per_second": theirs / their_seconds},
        "ours": {"trials": ours, "seconds": our_seconds, "per_second": ours / our_seconds},
        "ratio": (ours / our_seconds) / (theirs / their_seconds),
    }


def main() -> None:
    """Run one part and keep its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("curve", "metaschedule", "rate"))
    parser.add_argument("--target", default="x86")
    parser.add_argument("--space", default="mbv3")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--already", type=int, action="append", default=[], help="resolutions tuned before")
    parser.add_argument("--sample", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", action="append", default=[], help="a kernel of metaschedule, beside the sample")
    parser.add_argument("--named", default="", help="what the result's name says beside, such as no-transfer")
    given = parser.parse_args()
    where = (given.target, given.space, given.resolution)
    parts = {
        "curve": lambda: curve(*where, given.already),
        "metaschedule": lambda: metaschedule(*where, given.sample, given.seed, given.kernel),
        "rate": lambda: rate(*where),
    }
    result = {"machine": cpu_name(), "target": given.target, **parts[given.part]()}
    drawn = [f"seed{given.seed}"] if given.seed else []
    named = [given.named] if given.named else []
    keep("-".join(["tuning", given.part, *map(str, where), *drawn, *named]), result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    assert Path("benchmarks").is_dir(), "run it from the repository's root"
    main()
