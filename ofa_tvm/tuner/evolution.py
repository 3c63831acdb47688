"""Candidates from MetaSchedule's own space and evolutionary search, in batches as small as wanted.

One schedule cost model is pooled over all kernels. Failed trials never enter it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.scheduled.trace_json import record_to_json, trace_from_json
from ofa_tvm.compiler.tvm_api.names import Schedule, Target, load_tensor_intrinsics, ms
from ofa_tvm.compiler.tvm_api.quiet import without_chatter
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.candidate import Candidate

POPULATION = {"llvm": 64, "cuda": 32}
"""Schedules of one generation. Most of a GPU's are invalid, and finding valid ones takes most of the time."""
ATTEMPTS = 20
"""Times that a first generation is drawn again while too few of it are valid."""
MIN_VALID = 2
"""Schedules that evolution may start from: some kernels have few valid ones, and TVM gives up below its minimum."""
MAX_TRIALS = 100_000
TENSOR_CORES = "cuda-tensorcore"
"""TVM's name of the rules that make tiles for tensor cores."""


class PooledCostModel:
    """TVM's XGBoost schedule cost model, made at first use."""

    def __init__(self) -> None:
        self._model: Any = None

    def get(self) -> Any:
        """The model."""
        if self._model is None:
            self._model = ms.cost_model.XGBModel(num_warmup_samples=64)
        return self._model


def _rules(name: str) -> Any:
    return ms.space_generator.PostOrderApply(sch_rules=name, postprocs=name, mutator_probs=name)


class Evolution:
    """Evolutionary search over one kernel's MetaSchedule space.

    A float16 kernel of a GPU has tiles for tensor cores and others.

    Args:
        spec: the kernel.
        target: what code is for.
        batch: candidates of one round.
        cost_model: shared by all kernels of a run.
        seed: of the search.
    """

    def __init__(self, spec: KernelSpec, target: Target, batch: int, cost_model: PooledCostModel, seed: int) -> None:
        load_tensor_intrinsics()
        self._key, self._spec = spec.key, spec
        workload = kernel_workload(spec)
        on_gpu = target.kind.name == "cuda"
        uses_tensor_cores = spec.dtype == "float16" and on_gpu
        strategy = ms.search_strategy.EvolutionarySearch(
            population_size=POPULATION[target.kind.name],
            init_min_unmeasured=MIN_VALID,
            max_fail_count=ATTEMPTS,
            genetic_num_iters=2,
        )
        self._context = ms.TuneContext(
            workload,
            target=target,
            space_generator=_rules(TENSOR_CORES) if uses_tensor_cores else "post-order-apply",
            search_strategy=strategy,
            task_name=spec.symbol,
            rand_state=seed + 1,
            num_threads=process_cores() if on_gpu else 1,
        )
        self._database = ms.database.MemoryDatabase()
        self._workload = self._database.commit_workload(workload)
        self._model = cost_model.get()
        self._target = target
        designs = self._float16_designs(seed) if uses_tensor_cores else self._context.generate_design_space()
        self._context.pre_tuning(
            max_trials=MAX_TRIALS,
            num_trials_per_iter=batch,
            design_spaces=designs,
            database=self._database,
            cost_model=self._model,
        )
        self._pending: list[Any] = []

    def _float16_designs(self, seed: int) -> list[Any]:
        """Tiles for tensor cores, where TVM's rules for them can take the kernel's shape, and others."""
        workload = kernel_workload(self._spec)
        plain = ms.TuneContext(workload, target=self._target, space_generator=_rules("cuda"), rand_state=seed + 1)
        try:
            on_tensor_cores = list(self._context.generate_design_space())
        except RuntimeError:  # a shape that they cannot take, reported in several ways
            on_tensor_cores = []
        return [*on_tensor_cores, *plain.generate_design_space()]

    def learn(self, measured: Sequence[Record]) -> None:
        """Learn from what earlier runs measured: ``trace`` as JSON and ``times_ms`` of each."""
        candidates, results = [], []
        for candidate in measured:
            trace, seconds = (
                trace_from_json(candidate["trace"], self._spec),
                [one_ms / 1e3 for one_ms in candidate["times_ms"]],
            )
            schedule = Schedule(kernel_workload(self._spec))
            trace.apply_to_schedule(schedule, remove_postproc=False)
            arguments = ms.arg_info.ArgInfo.from_prim_func(schedule.mod["main"])
            record = ms.database.TuningRecord(trace, self._workload, seconds, self._target, arguments)
            self._database.commit_tuning_record(record)
            candidates.append(ms.MeasureCandidate(schedule, arguments))
            results.append(ms.runner.RunnerResult(seconds, None))
        if candidates:
            self._model.update(self._context, candidates, results)

    def ask(self) -> list[Candidate]:
        """The next batch; empty when the space is exhausted, or nothing valid was found in it."""
        with without_chatter():
            self._pending = list(self._context.generate_measure_candidates() or [])
        return [Candidate(self._key, "evolution", {"trace": self._json(candidate)}) for candidate in self._pending]

    def _json(self, candidate: Any) -> Any:
        return record_to_json(candidate.sch.trace, self._spec, [0.0], self._target)[0]

    def tell(self, times_s: Sequence[Sequence[float] | None]) -> None:
        """Times of the batch last asked for, in its order; None for a trial that failed or was not run."""
        results = [
            ms.runner.RunnerResult(None if times is None else list(times), "failed" if times is None else None)
            for times in times_s
        ]
        valid = [
            (candidate, result)
            for candidate, result, times in zip(self._pending, results, times_s, strict=True)
            if times
        ]
        for candidate, result in valid:
            record = ms.database.TuningRecord(
                candidate.sch.trace, self._workload, list(result.run_secs), self._target, candidate.args_info
            )
            self._database.commit_tuning_record(record)
        if valid:
            self._model.update(self._context, [pair[0] for pair in valid], [pair[1] for pair in valid])
        self._context.notify_runner_results(self._pending, results)
