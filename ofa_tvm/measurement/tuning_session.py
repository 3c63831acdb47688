"""What ``tune`` does where the device is: kernels tried, winners timed again, subnets measured, all in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ofa_tvm.devices import open_device, recorded_boards
from ofa_tvm.measurement.latency_bench import LatencyBench, warn_of_estimates
from ofa_tvm.support.errors import PartialResult
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost, Ledger, total
from ofa_tvm.tuner.candidate_sources import candidate_sources
from ofa_tvm.tuner.coverage import Coverage, coverage
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.loop import Budget, Tuner, TuningSummary
from ofa_tvm.tuner.tuned_space import TunedSpace


@dataclass(frozen=True)
class TuningReport:
    """What tuning a space did.

    Args:
        summary: trials and why they ended.
        cost: of the trials, and of measuring subnets.
        coverage: what is tuned by now.
        latency_model: how good the latency model is; None where no subnets were asked for.
        measured_ms: latency of a model that somebody brought, as measured now.
    """

    summary: TuningSummary
    cost: Cost
    coverage: Coverage
    latency_model: Record | None
    measured_ms: float | None = None

    def record(self) -> Record:
        """As a JSON object."""
        done = self.summary
        return {
            "trials": done.trials,
            "failed_trials": done.failures,
            "failures_by_kind": dict(done.failures_by_kind),
            "seconds": done.seconds,
            "trials_per_second": done.trials / done.seconds if done.seconds else 0.0,
            "stopped_by": done.stopped_by,
            "slowest_reference": done.slowest_reference,
            **self.coverage.record(),
            "cost_model": self.latency_model,
            "measured_ms": self.measured_ms,
            "cost": self.cost.record(),
        }


def tune(
    tuned: TunedSpace,
    budget: Budget,
    *,
    resolutions: tuple[int, ...] | None = None,
    transfer: bool = True,
    samples: int = 0,
    seed: int = 0,
) -> TuningReport:
    """Tune the kernels of a space on its target's device within a budget; resumes from the log.

    Args:
        tuned: the space on its target.
        budget: of trials and seconds.
        resolutions: of the space, whose kernels are tuned; None for all.
        transfer: try winners of other logs and of similar kernels, too.
        samples: random subnets to measure afterwards, from which the latency model is learned; 0 for none.
        seed: of the samples.

    Raises:
        PartialResult: no trial succeeded.
        DeviceUnreachable: the device cannot be used.
    """
    sizes = tuned.space.choose_resolutions(resolutions)
    with tuned.log.exclusive(), _opened(tuned) as device:
        summary, cost = _tune_kernels(tuned, sizes, device, budget, transfer)
        report = measured_ms = None
        if tuned.space.cardinality == 1:
            (measured_ms,) = LatencyBench(tuned, device).measure([tuned.space.largest], "measuring the model")
        elif samples:
            report, measuring = _measure_samples(tuned, device, samples, seed, sizes)
            cost = total(f"tune {tuned.space.name} and measure subnets", [cost, measuring])
    return TuningReport(summary, cost, coverage(tuned, sizes), report, measured_ms)


def time_winners_again(tuned: TunedSpace, resolutions: tuple[int, ...]) -> int:
    """Time the winners of a log again, see ``tuner.retime``; returns how many.

    Raises:
        DeviceUnreachable: the device cannot be used.
    """
    from ofa_tvm.tuner.retime import retime  # it needs TVM, which nothing else here does

    with (
        tuned.log.exclusive(),
        _opened(tuned) as device,
        _ledger(tuned).phase(f"time winners of {tuned.space.name} again"),
    ):
        return retime(tuned.log, device, tuned.kernels(resolutions), tuned.target.attributes)


@contextmanager
def _opened(tuned: TunedSpace) -> Iterator[Device]:
    with open_device(tuned.target) as device:
        device.start()
        device.calibrate_to(tuned.log)
        yield device


def _tune_kernels(
    tuned: TunedSpace, resolutions: tuple[int, ...], device: Device, budget: Budget, transfer: bool
) -> tuple[TuningSummary, Cost]:
    target, log, phase = tuned.target, tuned.log, f"tune {tuned.space.name}"
    kernels, frequencies = tuned.kernels(resolutions), tuned.frequencies(resolutions)
    sources = candidate_sources(target, kernels, log, transfer)
    with recorded_boards(log.folder, device), _ledger(tuned).phase(phase) as meter:
        done = Tuner(kernels, frequencies, log, device, sources, target.tuning.batch).run(budget)
        cost = meter.read(phase)
    if done.trials and done.failures == done.trials:
        raise PartialResult("no trial of this run succeeded", f"see the errors in {log.folder / 'trials.jsonl'}")
    return done, cost


def _measure_samples(
    tuned: TunedSpace, device: Device, samples: int, seed: int, resolutions: Sequence[int]
) -> tuple[Record, Cost]:
    """Measure random subnets, fit the latency model, save it; how good it is, and what that cost."""
    bench = LatencyBench(tuned, device)
    warn_of_estimates(bench, resolutions)
    phase = f"measure {tuned.space.name}"
    with _ledger(tuned).phase(phase) as meter:
        bench.measure_samples(samples, seed, resolutions)
        report = bench.fit_and_save()
        return report, meter.read(phase)


def planned_trials(tuned: TunedSpace, resolutions: tuple[int, ...], budget: Budget) -> int:
    """The most trials that a run can take."""
    spent = {key: state.trials for key, state in tuned.log.kernels.items()}
    left = sum(max(0, budget.trials_per_kernel - spent.get(key, 0)) for key in tuned.kernels(resolutions))
    return left if budget.trials is None else min(left, budget.trials)


def _ledger(tuned: TunedSpace) -> Ledger:
    uses_gpu = tuned.target.is_gpu and tuned.target.device == "local"
    return Ledger(tuned.log.folder / "ledger.jsonl", uses_gpu)
