"""A search in words: tables of its picks, what disturbed it, and what it could not decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ofa_tvm.nas.expected import ExpectedSearch
from ofa_tvm.nas.feasibility import told
from ofa_tvm.nas.objectives import OBJECTIVES
from ofa_tvm.nas.precisions import Precisions
from ofa_tvm.nas.regret import Regret
from ofa_tvm.nas.result import FILE_NAME, Pick
from ofa_tvm.nas.session import SearchOutcome
from ofa_tvm.nas.target_search import TargetSearch
from ofa_tvm.reporting.interval import interval_text
from ofa_tvm.reporting.units import plural
from ofa_tvm.support.command import share, table
from ofa_tvm.support.console import duration
from ofa_tvm.support.errors import Infeasible, PartialResult
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost, total
from ofa_tvm.timing.window import Percentile

MANY = 0.1
"""Share of a pick's calls left out that is worth a line."""
HEADERS = ("pick", "subnet", "budget ms", "predicted ms", "{} ms", "held", "predicted", "validation", "test")
HELD = {None: "unsure", True: "yes", False: "no"}


def text_of(outcome: SearchOutcome, pack: Path | None) -> str:
    """The full report of a search.

    Args:
        outcome: of the search.
        pack: folder that finalists were packed into; None for none.
    """
    pairs = zip(outcome.searches, outcome.results, strict=True)
    text = "\n\n".join(_target_text(search, result, _pack_of(outcome, search, pack)) for search, result in pairs)
    if outcome.regret_file is None:
        return text
    return "\n".join([text, "", *_regret_lines(outcome), f"wrote {outcome.regret_file}"])


def expected_text(expected: ExpectedSearch) -> str:
    """What a search on a target would do and cost."""
    cost = expected.cost
    learnt = f" ({expected.learnt} for the accuracy predictor to learn from)" if expected.learnt else ""
    return (
        f"{expected.target}, {expected.dtype}: {expected.tuned_kernels} of {expected.kernels} kernels tuned, "
        f"{expected.known} subnets known; a search would measure at most {expected.measurements}, "
        f"evaluate {expected.evaluations}{learnt} and test {expected.picks}: about {duration(cost.wall_s)}, "
        f"{cost.energy}"
    )


def left_out(refused: Mapping[str, Infeasible], rest: PartialResult | None = None) -> PartialResult | None:
    """Names the targets on which nothing can be found, before the rest of what is missing; None where all is there."""
    if not refused:
        return rest
    what, hint = told(refused)
    return PartialResult(what, hint) if rest is None else PartialResult(f"{what}; {rest.what}", f"{hint}\n{rest.hint}")


def unmet(outcome: SearchOutcome, pack: Path | None) -> PartialResult | None:
    """Names each budget that was not met, with the nearest latency measured, and each that could not be decided.

    Args:
        outcome: of the search.
        pack: as in ``text_of``.
    """
    return left_out(outcome.refused, _missing(outcome, pack))


def _missing(outcome: SearchOutcome, pack: Path | None) -> PartialResult | None:
    """What is missing on the targets that were searched."""
    searches = outcome.searches
    budgets = sum(len(result["budgets_ms"]) for result in outcome.results)
    missed = [
        f"{budget.budget_ms:g} ms on {on_target.target.name}: the nearest is {budget.nearest_ms:.4g} ms "
        f"({budget.nearest_subnet}); allow {1.05 * budget.nearest_ms:.3g} ms"
        for on_target in searches
        for budget in on_target.infeasible
    ]
    unsure = [
        f"{pick.budget_ms:g} ms on {on_target.target.name} ({pick.measured_ms:.4g} ms, {pick.subnet})"
        for on_target in searches
        for pick in on_target.picks
        if pick.budget_ms is not None and pick.held is None and pick.timing is not None
    ]
    waiting = [on_target for on_target in searches if on_target.bench.wanted]
    elsewhere = [on_target for on_target in waiting if on_target.infeasible]

    def hints(those: Sequence[TargetSearch | Precisions]) -> str:
        return "\n".join(_waiting_hint(one, _pack_of(outcome, one, pack)) for one in those)

    if elsewhere:
        what = f"{len(missed)} of {budgets} budgets are held by no subnet that was measured"
        return PartialResult(f"{what} ({'; '.join(missed)})", hints(elsewhere))
    if missed:
        return PartialResult(f"{len(missed)} of {budgets} budgets cannot be met", "; ".join(missed))
    if unsure:
        again = "stop it and search again; or state a budget for a busy machine: --load 1"
        return PartialResult(
            f"other work disturbed the device too much to say whether a budget is held: {'; '.join(unsure)}",
            hints(waiting) or again,
        )
    return None


def _target_text(search: TargetSearch | Precisions, result: Record, pack: Path | None) -> str:
    costs = [Cost(**cost) for cost in result["cost"]]
    objectives = sorted(search.picks[0].objectives) if search.picks else []
    is_mixed = isinstance(search, Precisions)
    rows = [
        [
            *_row(pick, result["percentile"]),
            *([str(pick.dtype)] if is_mixed else []),
            *(f"{pick.objectives[name]:.3f}" for name in objectives),
        ]
        for pick in search.picks
    ]
    lines = [f"{result['space']} on {result['target']}, {plural(result['threads'], 'thread')}"]
    lines += [result["accuracy_note"]] if result["accuracy_note"] else []
    if result["provenance"] != "measured":
        lines.append(f"latencies are {result['provenance']}, no measurements")
    elif result["percentile"] != 50 or result["busy_cores"]:
        busy = f" beside {result['busy_cores']} other busy processes" if result["busy_cores"] else ""
        lines.append(f"latencies are the p{result['percentile']} of single calls{busy}")
    headers = [header.format(result["provenance"]) for header in HEADERS]
    headers += ["precision"] if is_mixed else []
    units = [f"{name} {OBJECTIVES[name].unit}" for name in objectives]
    others = search.others() if isinstance(search, Precisions) else []
    lines += [table([*headers, *units], rows), *others, *_disturbances(search, result["percentile"]), ""]
    if result["unmeasured"]:
        lines.append(f"{len(result['unmeasured'])} subnets are not measured, or were disturbed, so not sure yet:")
        lines += [_waiting_hint(search, pack), ""]
    lines += [*map(str, costs), str(total("search", costs))]
    return "\n".join([*lines, f"wrote {Path(result['folder']) / FILE_NAME}"])


def _row(pick: Pick, percentile: Percentile) -> list[str]:
    budget = "-" if pick.budget_ms is None else f"{pick.budget_ms:g}"
    held = "-" if pick.budget_ms is None else HELD[pick.held]
    predicted = f"{pick.predicted_ms:.3f} ({interval_text(pick.predicted_low_ms, pick.predicted_high_ms)})"
    tops = (pick.predicted_top1, None), (pick.validation_top1, pick.validation_error), (pick.test_top1, pick.test_error)
    accuracy = [share(*top1) for top1 in tops]
    verified = f"{pick.verified_ms:.3f}"
    if pick.timing is not None:
        verified += f" ({interval_text(*pick.timing.spread_ms(percentile))})"
    return [str(pick.number), pick.subnet, budget, predicted, verified, held, *accuracy]


def _disturbances(search: TargetSearch | Precisions, percentile: Percentile) -> list[str]:
    """A line for each pick with many calls left out."""
    return [
        f"pick {pick.number}: other work interrupted {pick.timing.share_left_out:.0%} of the calls, left out here; "
        f"with them it is {pick.timing.any_ms(percentile):.3f} ms"
        for pick in search.picks
        if pick.timing is not None and pick.timing.share_left_out > MANY
    ]


def _waiting_hint(search: TargetSearch | Precisions, pack: Path | None) -> str:
    """How finalists that wait for a device elsewhere are measured."""
    if search.target.device == "replay":
        return "they are not in the recording; search on the device itself to have them measured"
    space, spec = search.bench.space, search.target
    target = f"--target {search.named.source} --threads {spec.threads} --batch {spec.batch} --dtype {spec.dtype}"
    target += "" if search.named.logs is None else f" --logs {search.named.logs}"
    nets = f"--space {space.name} --classes {space.classes}"
    if pack is not None:
        tune = f"python -m ofa_tvm.tune {target} {nets} --import-pack {pack}"
        return f"they are in {pack}: run it there as its README.txt says, then '{tune}', and search again"
    export = f"--export-pack FOLDER --subnets-of {search.folder}"
    return f"python -m ofa_tvm.tune {target} {nets} {export}; run it there, import it, and search again"


def _pack_of(outcome: SearchOutcome, search: TargetSearch | Precisions, pack: Path | None) -> Path | None:
    return None if pack is None else outcome.pack_of(search.target.name, pack)


def _regret_lines(outcome: SearchOutcome) -> list[str]:
    lines = [_regret_table(outcome.regret)] if outcome.regret else []
    without = ", ".join(search.target.name for search in outcome.searches if not search.picks)
    return [*lines, f"nothing is compared with {without}, which has no picks yet"] if without else lines


def _regret_table(matrix: Sequence[Regret]) -> str:
    rows = [
        [
            entry.shipped,
            entry.on,
            f"{100 * entry.top1_lost:.2f}",
            f"{entry.slower:+.1%}",
            f"{entry.broken_budgets} of {entry.picks}",
            f"{entry.unsure_budgets or 0} of {entry.picks}",
            entry.how,
        ]
        for entry in matrix
    ]
    headers = ["picks of", "on", "points lost", "slower than need be", "over their budget", "unsure", "latencies"]
    return table(headers, rows)
