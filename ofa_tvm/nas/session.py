"""A search as one call: accuracies, targets and limits in; picks that were measured, and files, out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ofa_tvm.measurement.kernel_times import how_to_tune
from ofa_tvm.measurement.pack_rounds import Exported, pack_subnets
from ofa_tvm.nas.earlier import REGRET, check_folder, files_of, set_aside
from ofa_tvm.nas.expected import ExpectedSearch, expected_search
from ofa_tvm.nas.feasibility import refuse_hopeless, told
from ofa_tvm.nas.opened_accuracy import OpenedAccuracy, accuracy_of
from ofa_tvm.nas.precisions import Precisions
from ofa_tvm.nas.regret import Regret
from ofa_tvm.nas.request import SearchRequest, search_command
from ofa_tvm.nas.result import FILE_NAME
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.nas.target_search import TargetSearch, cross_target, waits_elsewhere, write_regret
from ofa_tvm.spaces.architectures import read_architectures
from ofa_tvm.supernet.facts import checkpoint_path, untrained
from ofa_tvm.support.console import log
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import Infeasible, UserError
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.tuned_space import Target, TunedSpace

Item = TypeVar("Item")
Refused = dict[str, Infeasible]
"""Why parts of a request (see ``SearchRequest.part``) cannot be met."""


@dataclass(frozen=True)
class SearchOutcome:
    """The outcome of a search.

    Args:
        searches: one for each target; one for all precisions of a target.
        results: of each, as ``result.json`` has it.
        refused: by name, why nothing was found on the other targets.
        regret: of each target's picks on each target, where there are several.
        regret_file: where that was written.
        folder: of the search.
    """

    searches: Sequence[TargetSearch | Precisions]
    results: Sequence[Record]
    refused: Mapping[str, Infeasible] = field(default_factory=dict)
    regret: Sequence[Regret] = ()
    regret_file: Path | None = None
    folder: Path | None = None

    @property
    def has_several(self) -> bool:
        """Whether several targets were asked for."""
        return len(self.searches) + len(self.refused) > 1

    def pack_of(self, target: str, folder: Path) -> Path:
        """Where a target's finalists are packed: in the folder or, of several targets, in one of its name there."""
        return folder / target if self.has_several else folder

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
        if not self.has_several:
            return {**self.results[0], "exported": next(iter(packs.values()), None)}
        targets = {search.target.name: result for search, result in zip(self.searches, self.results, strict=True)}
        return {
            "targets": targets,
            "infeasible": {name: error.record() for name, error in self.refused.items()},
            "regret": [entry.record() for entry in self.regret],
            "folder": str(self.folder),
            "exported": packs,
        }


def _prepared(
    request: SearchRequest, refused: Refused
) -> tuple[SearchSettings, dict[str, tuple[Target, TunedSpace]], Callable[[TargetSearch], OpenedAccuracy]]:
    """The request, checked: its settings in full, targets on which it is not hopeless, and what opens accuracies.

    Raises:
        UserError: something cannot be read, or cannot be searched for.
        Infeasible: no budget can be met.
    """
    request.check()
    check_folder(request.folder, _parts(request))
    space, trained, open_accuracy = accuracy_of(request.supernet, request.evaluation)
    chosen = space.choose_resolutions(request.resolutions or trained)
    if said := untrained(chosen, trained):
        sizes = " ".join(f"--resolution {size}" for size in chosen)
        train = f"python -m ofa_tvm.train --init {shlex.quote(str(request.supernet))} {sizes} --out FOLDER"
        hint = f"leave out --resolution, or train it there: {train}"
        raise UserError(f"{request.supernet} {said}", hint)
    settings = replace(
        request.settings,
        resolutions=chosen,
        start=tuple(config.key for source in request.start for config in read_architectures(source, space)),
    )
    tuned_spaces = {request.part(target): (target, target.tuned(space)) for target in request.targets}
    if request.merges:
        tuned_spaces = _tuned_ones(tuned_spaces)
    hopeful = _possible(tuned_spaces, lambda pair: refuse_hopeless(pair[1], settings, request.budgets_ms), refused)
    return settings, hopeful, open_accuracy


def _tuned_ones(precisions: dict[str, tuple[Target, TunedSpace]]) -> dict[str, tuple[Target, TunedSpace]]:
    """Precisions of which a kernel is tuned; all, if none is: then it is said how to tune."""
    tuned = {name: pair for name, pair in precisions.items() if pair[1].tuned_kernels}
    for _, space in precisions.values() if tuned else ():
        if not space.tuned_kernels:
            how = how_to_tune(space.space, space.log)
            log(f"{space.target.dtype} is left out: none of its kernels is tuned; {how}")
    return tuned or precisions


def expected(request: SearchRequest) -> tuple[list[ExpectedSearch], Refused]:
    """What the search would do and cost on each target, and why not on others; nothing is run or written.

    Raises:
        UserError: something cannot be read, or cannot be searched for.
        Infeasible: no budget can be met.
    """
    refused: Refused = {}
    settings, hopeful, _ = _prepared(request, refused)
    plans = [expected_search(tuned, settings, request.budgets_ms, request.samples) for _, tuned in hopeful.values()]
    return plans, {} if request.merges else refused


def _opened(
    stack: ExitStack, request: SearchRequest, hopeful: Mapping[str, tuple[Target, TunedSpace]], settings: SearchSettings
) -> dict[str, TargetSearch]:
    """A search on each target, with its log and its device, which the stack gives back."""
    from ofa_tvm.devices import open_device  # slow to import

    searches = {}
    for part, (target, tuned) in hopeful.items():
        stack.enter_context(tuned.log.exclusive())
        device = None if target.spec.device == "pack" else stack.enter_context(open_device(target.spec))
        folder = request.folder if len(request.targets) == 1 else request.folder / part
        searches[part] = TargetSearch(target, tuned, device, folder, settings, search_command(request))
    return searches


def search(request: SearchRequest) -> SearchOutcome:
    """Find and verify the picks; results are written to the request's folder.

    What is measured elsewhere comes first: what is missing there is said before anything is measured here. Of several
    targets or precisions, one on which nothing can be found is left out.

    Raises:
        UserError: something cannot be read, or cannot be searched for.
        Infeasible: no budget can be met.
    """
    refused: Refused = {}
    earlier = files_of(request.folder)
    try:
        outcome = _search(request, refused)
        set_aside(earlier - _written(request))
        return outcome
    except Infeasible:
        set_aside(earlier)
        raise
    finally:
        set_aside(request.folder / part / FILE_NAME for part in _parts(request) if part in refused)


def _parts(request: SearchRequest) -> list[str]:
    """Names of the folders of several targets, or precisions, in the search's folder."""
    return [request.part(target) for target in request.targets] if len(request.targets) > 1 else []


def _written(request: SearchRequest) -> set[Path]:
    """The files of a search that found something."""
    parts = _parts(request)
    whole = REGRET if parts and not request.merges else FILE_NAME
    return {request.folder / name for name in (whole, *(f"{part}/{FILE_NAME}" for part in parts))}


def _search(request: SearchRequest, refused: Refused) -> SearchOutcome:
    settings, hopeful, open_accuracy = _prepared(request, refused)
    several = len(request.targets) > 1 and not request.merges
    path = checkpoint_path(request.supernet)
    with ExitStack() as stack:
        opened_searches = _opened(stack, request, hopeful, settings)
        in_order = dict(sorted(opened_searches.items(), key=lambda item: item[1].device is not None))
        for on_target in in_order.values():
            if on_target.device is None:
                on_target.measure(request.samples)
        log(f"opening {request.supernet}")
        opened: dict[DType, OpenedAccuracy] = {}
        for on_target in sorted(opened_searches.values(), key=lambda one: not one.target.is_this_cpu):  # the fastest
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

        done = _possible(in_order, run, refused)
        searches = [on_target for part, on_target in opened_searches.items() if part in done]
        matrix = cross_target(searches) if several else []
    waits = several and waits_elsewhere(searches)
    results = [finish(one, is_kept=waits and one.bench.can_measure) for one in searches]
    if request.merges:
        precisions = Precisions(searches, request.folder)
        return SearchOutcome([precisions], [precisions.result(results)], folder=request.folder)
    regret_file = write_regret(request.folder, matrix) if several else None
    return SearchOutcome(searches, results, refused, matrix, regret_file, request.folder)


def _possible(parts: Mapping[str, Item], do: Callable[[Item], None], refused: Refused) -> dict[str, Item]:
    """Do something with each part of a request; returns those for which it could be done.

    Args:
        parts: by name.
        do: what to do.
        refused: why other parts could not be met; those of ``parts`` are added.

    Raises:
        Infeasible: none can.
    """
    done = {}
    for name, part in parts.items():
        try:
            do(part)
            done[name] = part
        except Infeasible as error:
            refused[name] = error
            if len(parts) > 1:
                log(f"{name} is left out: {error.what}")
    if not done:
        *_, last = refused.values()
        raise last if len(refused) == 1 else Infeasible(*told(refused), last.nearest)
    return done
