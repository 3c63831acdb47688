"""``python -m ofa_tvm.search``: the most accurate subnets for latency budgets, measured on the device."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ofa_tvm.cli import SCHEMA_VERSION, JsonFlag, emit, run_command, table


def search(
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    supernet: Annotated[Path | None, typer.Option(help="Trained supernet (default: the one that ships).")] = None,
    max_latency_ms: Annotated[
        list[float] | None, typer.Option(help="Latency budget; repeat for several (default: the whole front).")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the supernet's images are, as for train (default: fetched once).")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    samples: Annotated[int, typer.Option(min=20, help="Measured subnets that the latency model starts from.")] = 60,
    searcher: Annotated[str, typer.Option(help="nsga2 or random.")] = "nsga2",
    evaluations: Annotated[int, typer.Option(min=100, help="Candidates that one search predicts.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the result (default: runs/search-TIME).")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder of tuning logs (default: tuning_logs/).")] = None,
    json: JsonFlag = False,
) -> None:
    """Find the most accurate subnet for each budget, or the whole front, and verify it on the device.

    Predictions choose; measurements decide. Subnets measured and evaluated before are not measured again. Where only
    some budgets can be met, the result has those, and the command ends with exit code 3.
    """
    from ofa_tvm.devices.local import LocalDevice
    from ofa_tvm.errors import PartialResult, UserError
    from ofa_tvm.finder import SearchSettings
    from ofa_tvm.searchers import SEARCHERS
    from ofa_tvm.shipped import shipped_supernet
    from ofa_tvm.targets import load_target
    from ofa_tvm.tuner.log import TuningLog

    if searcher not in SEARCHERS:
        raise UserError(f"unknown searcher '{searcher}'", f"choose one of {', '.join(SEARCHERS)}")
    budgets = sorted(max_latency_ms or [])
    if any(not 0 < budget < float("inf") for budget in budgets):
        raise UserError("a latency budget must be a positive number of milliseconds")
    spec = load_target(target, threads)
    tuning_log = TuningLog(spec, logs)
    settings = SearchSettings(searcher=searcher, evaluations=evaluations, seed=seed)
    with ExitStack() as stack:
        stack.enter_context(tuning_log.exclusive())
        device = stack.enter_context(LocalDevice(spec))
        run = _Run(spec, target, tuning_log, device, supernet or shipped_supernet(), data, settings, out)
        payload, text = run.result(budgets, samples)
    emit(payload, json, lambda: text)
    if run.infeasible:
        raise PartialResult(f"{len(run.infeasible)} of {len(budgets)} budgets cannot be met", _unmet(run.infeasible))


class _Run:
    def __init__(
        self,
        target: Any,
        target_source: str,
        tuning_log: Any,
        device: Any,
        supernet_path: Path,
        data: str | None,
        settings: Any,
        out: Path | None,
    ) -> None:
        from datetime import UTC, datetime

        from ofa_tvm.accuracy.evaluate import Evaluator, supernet_images
        from ofa_tvm.accuracy.samples import AccuracySamples, samples_folder, weights_identity
        from ofa_tvm.console import log
        from ofa_tvm.energy import Ledger
        from ofa_tvm.storage import sha256_file
        from ofa_tvm.supernet.checkpoint import checkpoint_path, load_supernet

        self.target, self.log, self.device, self.settings = target, tuning_log, device, settings
        self.target_source = target_source
        self.infeasible: list[dict[str, Any]] = []
        self.path = checkpoint_path(supernet_path)
        self.supernet, self.facts = load_supernet(self.path)
        self.dataset = supernet_images(data, self.facts, self.path, log)
        self.evaluator = Evaluator(self.dataset, self.dataset.validation)
        self.sha256 = sha256_file(self.path)
        checkpoint = weights_identity(self.sha256)
        self.samples = AccuracySamples(
            self.supernet.space, samples_folder(self.path.parent, checkpoint), checkpoint, self.path.parent
        )
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self.folder = out or Path("runs") / f"search-{stamp}"
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        self._earlier_phases = len(self.ledger.costs())

    def evaluate(self, config: Any) -> float:
        return self.evaluator.top1(self.supernet, config)

    def result(self, budgets: list[float], samples: int) -> tuple[dict[str, Any], str]:
        from ofa_tvm.accuracy.samples import FEWEST
        from ofa_tvm.finder import Finder
        from ofa_tvm.latency import LatencyBench, warn_of_estimates

        bench = LatencyBench(self.supernet.space, self.target, self.log, self.device)
        warn_of_estimates(bench)
        with self.ledger.phase("measure subnets"):
            self.device.start()
            bench.model(samples)
        with self.ledger.phase("evaluate subnets"):
            self.samples.sample(FEWEST, self.evaluate)
        with self.ledger.phase("search and verify"):
            finder = Finder(bench, self.samples, self.evaluate, self.settings)
            front = finder.front()
            picks = self._for_budgets(finder, budgets) if budgets else finder.along_front(front)
        picks = [self._tested(pick, number) for number, pick in enumerate(picks, 1)]
        return self._write(bench, finder, front, picks, budgets)

    def _for_budgets(self, finder: Any, budgets: list[float]) -> list[Any]:
        """The picks of the budgets that can be met; the others are noted in ``infeasible``.

        Raises:
            Infeasible: none can be met.
        """
        from ofa_tvm.console import log
        from ofa_tvm.errors import Infeasible

        picks, errors = [], []
        for budget in budgets:
            try:
                picks.append(finder.for_budget(budget))
            except Infeasible as error:
                log(error.what)
                nearest, nearest_ms = finder.nearest()
                self.infeasible.append({"budget_ms": budget, "nearest_ms": nearest_ms, "nearest_subnet": nearest.key})
                errors.append(error)
        if not picks:
            raise Infeasible("; ".join(error.what for error in errors), errors[-1].hint)
        return picks

    def _tested(self, pick: Any, number: int) -> Any:
        """The pick with its number and its accuracy on the test images, which only report."""
        from ofa_tvm.accuracy.evaluate import Evaluator
        from ofa_tvm.spaces import SubnetConfig

        evaluator = Evaluator(self.dataset, self.dataset.test)
        test_top1 = evaluator.top1(self.supernet, SubnetConfig.parse(pick.subnet))
        return pick.model_copy(update={"number": number, "test_top1": test_top1})

    def _write(
        self, bench: Any, finder: Any, front: list[dict[str, Any]], picks: list[Any], budgets: list[float]
    ) -> tuple[dict[str, Any], str]:
        from ofa_tvm.energy import total
        from ofa_tvm.storage import write_json

        costs = self.ledger.costs()[self._earlier_phases :]
        payload = {
            "space": self.supernet.space.name,
            "supernet": str(self.path),
            "supernet_sha256": self.sha256,
            "target": self.target.name,
            "target_source": self.target_source,
            "threads": self.target.threads,
            "fingerprint": self.target.fingerprint,
            "conditions": self.target.conditions,
            "budgets_ms": budgets,
            "infeasible": self.infeasible,
            "picks": [pick.model_dump() for pick in picks],
            "front": front,
            "rounds": finder.rounds,
            "cost_model": bench.report(),
            "accuracy_predictor": self.samples.report(),
            "cost": [cost.record() for cost in costs],
            "folder": str(self.folder),
        }
        write_json(self.folder / "result.json", {"schema_version": SCHEMA_VERSION, **payload})
        rows = [_row(pick) for pick in picks]
        headers = [
            "pick",
            "subnet",
            "budget ms",
            "predicted ms",
            "measured ms",
            "held",
            "predicted",
            "validation",
            "test",
        ]
        summary = total("search", costs)
        lines = [table(headers, rows), "", *map(str, costs), str(summary), f"wrote {self.folder / 'result.json'}"]
        return payload, "\n".join(lines)


def _unmet(infeasible: list[dict[str, Any]]) -> str:
    """Each budget that was not met, with the nearest latency measured."""
    return "; ".join(
        f"{unmet['budget_ms']:g} ms: the nearest is {unmet['nearest_ms']:.4g} ms ({unmet['nearest_subnet']})"
        for unmet in infeasible
    )


def _row(pick: Any) -> list[str]:
    budget = "-" if pick.budget_ms is None else f"{pick.budget_ms:g}"
    held = {None: "-", True: "yes", False: "no"}[pick.held]
    predicted = f"{pick.predicted_ms:.3f} ({pick.predicted_low_ms:.3f}-{pick.predicted_high_ms:.3f})"
    accuracy = [f"{top1:.2%}" for top1 in (pick.predicted_top1, pick.validation_top1, pick.test_top1)]
    return [str(pick.number), pick.subnet, budget, predicted, f"{pick.measured_ms:.3f}", held, *accuracy]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(search, argv)


if __name__ == "__main__":
    sys.exit(main())
