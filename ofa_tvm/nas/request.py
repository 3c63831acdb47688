"""What is searched for, checked; and the command line that asks for the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.kernel_times import SAMPLES
from ofa_tvm.nas.objectives import LATENCY, OBJECTIVES
from ofa_tvm.nas.opened_accuracy import Evaluation
from ofa_tvm.nas.searchers import SEARCHERS
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.nvml import gpu_millijoules
from ofa_tvm.support.shipped import known_as
from ofa_tvm.timing.inference import unknown_power
from ofa_tvm.tuner.tuned_space import Target

COSTS = tuple(name for name in OBJECTIVES if name != LATENCY)
"""What a search may limit or minimise besides latency."""
LIMIT_OPTIONS = {"size": "size-mb", "macs": "mmacs", "memory": "memory-mb", "energy": "energy-mj"}
"""How the command line names limits, after ``--max-``."""


@dataclass(frozen=True)
class SearchRequest:
    """What is searched for.

    Args:
        supernet: folder or file of the supernet, or of OFA's accuracy predictor (``.npz``).
        targets: one or several; each one's picks are measured on the others, too.
        budgets_ms: of latency; empty for the whole front.
        settings: how hard, and for what else.
        resolutions: input sizes that picks may have; empty for all that the supernet knows.
        start: files of subnets to start from, see ``spaces.architectures``.
        evaluation: how accuracies are found.
        samples: measured subnets that a latency model starts from.
        exports: whether finalists go into a pack instead of onto a device.
        merges: the targets are precisions of one device, whose best picks become one result.
        folder: of the result.
    """

    supernet: Path
    targets: Sequence[Target]
    folder: Path
    budgets_ms: Sequence[float] = ()
    settings: SearchSettings = field(default_factory=SearchSettings)
    resolutions: Sequence[int] = ()
    start: Sequence[str] = ()
    evaluation: Evaluation = field(default_factory=Evaluation)
    samples: int = SAMPLES
    exports: bool = False
    merges: bool = False

    def part(self, target: Target) -> str:
        """What tells a target from the others: its precision where those merge, else its name."""
        return target.spec.dtype if self.merges else target.spec.name

    def check(self) -> None:
        """Refuse what cannot be searched for.

        That is unknown names, limits that are not positive, targets of one name, a pack for devices that need none,
        energy where nothing tells it, and percentiles or load for a device other than this machine.

        Raises:
            UserError: it cannot; names what is wrong.
        """
        settings, limits = self.settings, self.settings.limits or {}
        if settings.searcher not in SEARCHERS:
            raise UserError(f"unknown searcher '{settings.searcher}'", f"choose one of {', '.join(SEARCHERS)}")
        for name in (*settings.objectives, *limits):
            if name not in COSTS:
                raise UserError(f"unknown objective '{name}'", f"choose from {', '.join(COSTS)}")
        for name, limit in [*((LATENCY, budget) for budget in self.budgets_ms), *limits.items()]:
            if not 0 < limit < float("inf"):
                unit = OBJECTIVES[name].unit
                raise UserError(f"a limit of {name} must be a positive number of {unit}, not {limit:g}")
        names = [target.spec.name for target in self.targets]
        twice = [name for name in names if names.count(name) > 1]
        if twice and not self.merges:
            hint = "copy the file of one under another name, and give that .toml file as --target"
            raise UserError(f"two targets are called {twice[0]}", hint)
        devices = [target.spec.device for target in self.targets]
        if self.exports and "pack" not in devices:
            hint = "leave out --export-pack, or say what is measured elsewhere: --target NAME@pack"
            raise UserError(f"--device {devices[0]} needs no pack", hint)
        for target in self.targets:
            self._check_target(target.spec)

    def _check_target(self, spec: TargetSpec) -> None:
        if spec.device == "pack" and self.merges:
            hint = "search each precision alone: --dtype float32, then int8, bfloat16 or float16"
            raise UserError(f"target {spec.name} is measured elsewhere, by packs", hint)
        unknown = _unknown_energy(spec) if self.settings.asks_energy else ""
        if unknown:
            raise UserError(
                f"energy of target {spec.name} cannot be told: {unknown}",
                "leave energy out: on one target it grows with latency",
            )
        if (self.settings.percentile != 50 or self.settings.busy_cores > 0) and spec.device != "local":
            raise UserError(
                f"--percentile and --load are for what this machine measures, target {spec.name} is device "
                f"'{spec.device}'",
                "leave them out",
            )


def _unknown_energy(spec: TargetSpec) -> str:
    """Why it is not known what calls on a target draw; empty where it is, or where measurements may tell it."""
    if not spec.is_gpu:
        return unknown_power(spec.attributes)
    is_counted = spec.device != "local" or gpu_millijoules() is not None
    return "" if is_counted else "the GPU's driver counts none (NVML)"


def search_command(request: SearchRequest) -> str:
    """The command line that searches the same."""
    settings, usual = request.settings, SearchSettings()
    targets = list(dict.fromkeys((target.source, target.device) for target in request.targets))
    is_one = len(targets) == 1
    named = [source if is_one or device is None else f"{source}@{device}" for source, device in targets]
    one = request.targets[0]
    dtypes = {target.spec.dtype for target in request.targets}
    limits = {f"--max-{LIMIT_OPTIONS[name]}": [limit] for name, limit in (settings.limits or {}).items()}
    options: dict[str, Iterable[object]] = {
        "--target": named,
        "--supernet": [known_as(request.supernet)],
        "--max-latency-ms": request.budgets_ms,
        **limits,
        "--objective": settings.objectives,
        "--resolution": request.resolutions,
        "--arch": request.start,
        "--data": [request.evaluation.data],
        "--threads": [one.spec.threads] if is_one else [],
        "--batch": [one.spec.batch] if is_one else [],
        "--dtype": ["auto"] if request.merges else dtypes if len(dtypes) == 1 else [],
        "--device": [one.device] if is_one else [],
        "--logs": [one.logs],
        "--accuracies": request.evaluation.accuracies,
        "--samples": [request.samples],
        "--percentile": [settings.percentile] if settings.percentile != usual.percentile else [],
        "--load": [settings.busy_cores] if settings.busy_cores else [],
        "--searcher": [settings.searcher] if settings.searcher != usual.searcher else [],
        "--evaluations": [settings.evaluations] if settings.evaluations != usual.evaluations else [],
        "--finalists": [settings.finalists] if settings.finalists != usual.finalists else [],
        "--seed": [settings.seed],
        "--out": [request.folder],
    }
    given = [[name, str(value)] for name, values in options.items() for value in values if value is not None]
    return f"python -m ofa_tvm.search {shlex.join(chain.from_iterable(given))}"
