"""A search as one call: accuracies, targets and limits in; picks that were measured, and files, out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.pack_rounds import Exported, pack_subnets
from ofa_tvm.nas.expected import ExpectedSearch, expected_search
from ofa_tvm.nas.feasibility import refuse_hopeless
from ofa_tvm.nas.objectives import LATENCY, OBJECTIVES
from ofa_tvm.nas.opened_accuracy import Evaluation, OpenedAccuracy, accuracy_of
from ofa_tvm.nas.precisions import Precisions
from ofa_tvm.nas.regret import Regret
from ofa_tvm.nas.result import FILE_NAME
from ofa_tvm.nas.searchers import SEARCHERS
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.nas.target_search import TargetSearch, cross_target, waits_elsewhere, write_regret
from ofa_tvm.spaces.architectures import read_architectures
from ofa_tvm.supernet.facts import checkpoint_path
from ofa_tvm.support.console import log
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import Infeasible, UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.nvml import gpu_millijoules
from ofa_tvm.support.shipped import known_as
from ofa_tvm.timing.inference import unknown_power
from ofa_tvm.tuner.tuned_space import Target, TunedSpace

Item = TypeVar("Item")
COSTS = tuple(name for name in OBJECTIVES if name != LATENCY)
"""What a search may limit or minimise besides latency."""
OWN_FILES = {FILE_NAME, "ledger.jsonl"}
"""By which a search's folder is known."""
LIMIT_OPTIONS = {"size": "size-mb", "macs": "mmacs", "memory": "memory-mb", "energy": "energy-mj"}
"""How the command line names limits, after ``--max-``."""
SAMPLES = 60
"""Measured subnets that a latency model starts from by default."""


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
            hint = "search each precision alone: --dtype float32, then int8"
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


@dataclass(frozen=True)
class SearchOutcome:
    """The outcome of a search.

    Args:
        searches: one for each target; one for all precisions of a target.
        results: of each, as ``result.json`` has it.
        regret: of each target's picks on each target, where there are several.
        regret_file: where that was written.
        folder: of the search.
    """

    searches: Sequence[TargetSearch | Precisions]
    results: Sequence[Record]
    regret: Sequence[Regret] = ()
    regret_file: Path | None = None
    folder: Path | None = None

    def pack_of(self, target: str, folder: Path) -> Path:
        """Where a target's finalists are packed: in the folder or, of several targets, in one of its name there."""
        return folder / target if len(self.searches) > 1 else folder

    def export(self, folder: Path) -> dict[str, Exported]:
        """Pack the finalists that must be measured elsewhere; what was packed, by name of the target."""
        exported = {}
        for on_target in self.searches:
            wanted = list(on_target.bench.wanted.values())
            if on_target.target.device == "pack" and wanted and not isinstance(on_target, Precisions):
                name = on_target.target.name
                exported[name] = pack_subnets(on_target.bench.tuned, wanted, self.pack_of(name, folder))
        return exported

    def record(self, exported: Mapping[str, Exported]) -> Record:
        """As a JSON object: the result, or those of several targets by their names; ``exported`` likewise."""
        packs = {name: asdict(pack) for name, pack in exported.items()}
        if len(self.searches) == 1:
            return {**self.results[0], "exported": next(iter(packs.values()), None)}
        targets = {search.target.name: result for search, result in zip(self.searches, self.results, strict=True)}
        return {
            "targets": targets,
            "regret": [entry.record() for entry in self.regret],
            "folder": str(self.folder),
            "exported": packs,
        }


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


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds other things than a search.

    Raises:
        UserError: it does, or it is a file.
    """
    if not folder.exists():
        return
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    is_own = any(any(folder.glob(pattern)) for name in OWN_FILES for pattern in (name, f"*/{name}"))
    if inside and not is_own:
        others = ", ".join(sorted(inside)[:3])
        raise UserError(f"{folder} holds something else: {others}", "name another folder with --out")


def _prepared(
    request: SearchRequest,
) -> tuple[SearchSettings, list[tuple[Target, TunedSpace]], Callable[[TargetSearch], OpenedAccuracy]]:
    """The request, checked: its settings in full, targets on which it is not hopeless, and what opens accuracies.

    Raises:
        UserError: something cannot be read, or cannot be searched for.
        Infeasible: no budget can be met.
    """
    request.check()
    _check_folder(request.folder)
    space, trained, open_accuracy = accuracy_of(request.supernet, request.evaluation)
    settings = replace(
        request.settings,
        resolutions=space.choose_resolutions(request.resolutions or trained),
        start=tuple(config.key for source in request.start for config in read_architectures(source, space)),
    )
    tuned_spaces = [(target, target.tuned(space)) for target in request.targets]
    hopeful = _each(tuned_spaces, lambda pair: refuse_hopeless(pair[1], settings, request.budgets_ms), request.merges)
    return settings, hopeful, open_accuracy


def expected(request: SearchRequest) -> list[ExpectedSearch]:
    """What the search would do and cost on each target; nothing is run or written.

    Raises:
        UserError: something cannot be read, or cannot be searched for.
        Infeasible: no budget can be met.
    """
    settings, hopeful, _ = _prepared(request)
    return [expected_search(tuned, settings, request.budgets_ms, request.samples) for _, tuned in hopeful]


def _opened(
    stack: ExitStack, request: SearchRequest, hopeful: Sequence[tuple[Target, TunedSpace]], settings: SearchSettings
) -> list[TargetSearch]:
    """A search on each target, with its log and its device, which the stack gives back."""
    from ofa_tvm.devices import open_device  # slow to import

    searches = []
    for target, tuned in hopeful:
        stack.enter_context(tuned.log.exclusive())
        device = None if target.spec.device == "pack" else stack.enter_context(open_device(target.spec))
        part = target.spec.dtype if request.merges else target.spec.name
        folder = request.folder if len(request.targets) == 1 else request.folder / part
        searches.append(TargetSearch(target, tuned, device, folder, settings, search_command(request)))
    return searches


def search(request: SearchRequest) -> SearchOutcome:
    """Find and verify the picks; results are written to the request's folder.

    What is measured elsewhere comes first: what is missing there is said before anything is measured here.

    Raises:
        UserError: something cannot be read, or cannot be searched for.
        Infeasible: no budget can be met.
    """
    settings, hopeful, open_accuracy = _prepared(request)

    several = len(request.targets) > 1 and not request.merges
    path = checkpoint_path(request.supernet)
    with ExitStack() as stack:
        searches = _opened(stack, request, hopeful, settings)
        in_order = sorted(searches, key=lambda one: one.device is not None)
        for on_target in in_order:
            if on_target.device is None:
                on_target.measure(request.samples)
        log(f"opening {request.supernet}")
        opened: dict[DType, OpenedAccuracy] = {}
        for on_target in sorted(searches, key=lambda one: not one.target.is_this_cpu):  # which evaluates fastest
            if on_target.target.dtype not in opened:
                opened[on_target.target.dtype] = open_accuracy(on_target)

        def finish(on_target: TargetSearch, *, is_kept: bool) -> Record:
            source, sha256, _ = opened[on_target.target.dtype]
            return on_target.result(path, sha256, source, request.budgets_ms, is_kept=is_kept)

        def run(on_target: TargetSearch) -> None:
            accuracy = opened[on_target.target.dtype]
            # The next precision needs the same board, which serves one session at a time.
            with (on_target.device if request.merges else None) or nullcontext():
                if on_target.device is not None:
                    on_target.measure(request.samples)
                if several and on_target.bench.can_measure and on_target.take_up(accuracy.source, accuracy.sha256):
                    return
                on_target.search(accuracy.source, request.budgets_ms)
            with on_target.ledger.phase("count test images"):
                on_target.picks = [accuracy.tested(pick, number) for number, pick in enumerate(on_target.picks, 1)]
            if several and on_target.bench.can_measure:
                finish(on_target, is_kept=True)

        done = _each(in_order, run, request.merges)
        searches = [on_target for on_target in searches if on_target in done]
        matrix = cross_target(searches) if several else []
    waits = several and waits_elsewhere(searches)
    results = [finish(one, is_kept=waits and one.bench.can_measure) for one in searches]
    if request.merges:
        precisions = Precisions(searches, request.folder)
        return SearchOutcome([precisions], [precisions.result(results)], folder=request.folder)
    regret_file = write_regret(request.folder, matrix) if several else None
    return SearchOutcome(searches, results, matrix, regret_file, request.folder)


def _each(items: Sequence[Item], do: Callable[[Item], None], one_suffices: bool) -> list[Item]:
    """Do something with each item; returns those for which it could be done.

    Args:
        items: the items.
        do: what to do.
        one_suffices: whether ``Infeasible`` counts only if it is raised for all.

    Raises:
        Infeasible: what was to be done cannot be.
    """
    done, last = [], None
    for item in items:
        try:
            do(item)
            done.append(item)
        except Infeasible as error:
            if not one_suffices:
                raise
            last = error
    if last is not None and not done:
        raise last
    return done
