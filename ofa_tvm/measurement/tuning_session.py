"""What ``tune`` does where the device is: kernels tried, winners timed again, subnets measured, all in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ofa_tvm.devices import recorded_boards
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.latency_bench import LatencyBench, warn_of_estimates
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.support.errors import PartialResult
from ofa_tvm.support.ledger import Cost, Ledger
from ofa_tvm.tuner.candidate_sources import candidate_sources
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget, Tuner, TuningSummary


def tune_kernels(
    space: str,
    target: TargetSpec,
    log: TuningLog,
    device: Any,
    kernels: Mapping[str, KernelSpec],
    frequencies: Mapping[str, float],
    budget: Budget,
    transfer: bool,
) -> tuple[TuningSummary, Cost]:
    """Tune kernels within a budget.

    Args:
        space: name of the space, for the ledger.
        target: what is tuned for.
        log: the target's log, held exclusively by the caller.
        device: opened and started.
        kernels: all kernels of the run, by key.
        frequencies: how often a subnet calls each.
        budget: of trials and seconds.
        transfer: try winners of other logs and of similar kernels, too.

    Raises:
        PartialResult: no trial succeeded.
    """
    sources = candidate_sources(target, kernels, log, transfer)
    with recorded_boards(log.folder, device), _ledger(target, log).phase(f"tune {space}") as meter:
        done = Tuner(kernels, frequencies, log, device, sources, target.tuning.batch).run(budget)
        cost = meter.read(f"tune {space}")
    if done.trials and done.failures == done.trials:
        raise PartialResult("no trial of this run succeeded", f"see the errors in {log.folder / 'trials.jsonl'}")
    return done, cost


def time_winners_again(
    space: str, target: TargetSpec, log: TuningLog, device: Any, kernels: Mapping[str, KernelSpec]
) -> int:
    """Time the winners of a log again, see ``tuner.retime``; how many there were."""
    from ofa_tvm.tuner.retime import retime  # it needs TVM, which nothing else here does

    with _ledger(target, log).phase(f"time winners of {space} again"):
        return retime(log, device, kernels, target.attributes)


def measure_samples(
    space: SearchSpace,
    target: TargetSpec,
    log: TuningLog,
    device: Any,
    samples: int,
    seed: int,
    resolutions: Sequence[int],
) -> dict[str, Any]:
    """Measure random subnets, fit the latency model, save it and say how good it is."""
    bench = LatencyBench(space, target, log, device)
    warn_of_estimates(bench, resolutions)
    with _ledger(target, log).phase(f"measure {space.name}"):
        bench.model(samples, seed, resolutions)
    return bench.report()


def planned_trials(log: TuningLog, kernels: Mapping[str, KernelSpec], budget: Budget) -> int:
    """The most trials that a run can take."""
    spent = {key: state.trials for key, state in log.kernels.items()}
    left = sum(max(0, budget.trials_per_kernel - spent.get(key, 0)) for key in kernels)
    return left if budget.trials is None else min(left, budget.trials)


def _ledger(target: TargetSpec, log: TuningLog) -> Ledger:
    uses_gpu = target.target.gpu is not None and target.device == "local"
    return Ledger(log.folder / "ledger.jsonl", uses_gpu)
