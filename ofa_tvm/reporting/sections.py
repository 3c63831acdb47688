"""The sections of the page, in the order in which their questions are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ofa_tvm.nas.result import SearchResult
from ofa_tvm.reporting import units
from ofa_tvm.reporting.architecture_drawing import architecture_drawing
from ofa_tvm.reporting.condition_section import condition_section
from ofa_tvm.reporting.cost_section import cost_section
from ofa_tvm.reporting.engine_section import engine_section
from ofa_tvm.reporting.front_plot import front_plot
from ofa_tvm.reporting.layer_section import layer_section
from ofa_tvm.reporting.ledger_folders import search_costs
from ofa_tvm.reporting.model_section import model_section
from ofa_tvm.reporting.offers import Offer, Series, series_of
from ofa_tvm.reporting.parts import Commands, Fact, Facts, Fold, Note, Part, Section
from ofa_tvm.reporting.pick_cards import pick_cards
from ofa_tvm.reporting.pick_table import compared_table, windows_table
from ofa_tvm.reporting.progress_section import progress_section
from ofa_tvm.reporting.regret_section import regret_section
from ofa_tvm.reporting.sci import SciReport
from ofa_tvm.reporting.sci_parts import carbon_text, sci_parts
from ofa_tvm.reporting.source import Searched, Source
from ofa_tvm.reporting.tuning_section import tuning_section
from ofa_tvm.support.carbon import Assumptions
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.ledger import Cost


def sections(
    source: Source,
    series: tuple[Series, ...],
    offers: tuple[Offer, ...],
    given: Assumptions,
    account: SciReport | UserError,
) -> tuple[Section, ...]:
    """All sections that have something to say.

    Args:
        source: what is reported.
        series: its targets and precisions.
        offers: its picks or bundles.
        given: what emissions are computed with.
        account: of the emissions.
    """
    results = [searched.result for searched in source.searches]
    several = len(series) > 1
    of_results = [(series_of(series, result, _main_dtype(result)), result) for result in results]
    rounds = [(series_of(series, result, entry.dtype), entry) for result in results for entry in result.rounds]
    tuned = [(one, result.tuning) for one, result in of_results if result.tuning is not None]
    costs = [
        (one.label if len(results) > 1 else "", _costs(searched, account))
        for (one, _), searched in zip(of_results, source.searches, strict=True)
    ]
    space = results[0].space if results else source.bundles[0].manifest.space
    made = [
        _picks(source, offers, several, given),
        _front(results, series, offers),
        _architecture(offers, several),
        layer_section(offers, several) or _no_layers(offers, space),
        engine_section(source.benches, offers, space),
        progress_section(rounds, series),
        tuning_section(tuned),
        model_section(of_results),
        regret_section(source.regret),
        cost_section(costs or [("", bundled.manifest.cost) for bundled in source.bundles], sci_parts(account)),
        condition_section(
            [(one, searched) for (one, _), searched in zip(of_results, source.searches, strict=True)],
            source.bundles,
            offers,
        ),
    ]
    return tuple(section for section in made if section is not None and section.parts)


def _costs(searched: Searched, account: SciReport | UserError) -> tuple[Cost, ...]:
    """Of all attempts, as the account has them; of this one, where there is no account."""
    is_known = not isinstance(account, UserError)
    return search_costs(searched.folder, searched.result) if is_known else searched.result.cost


def _main_dtype(result: SearchResult) -> DType | None:
    """The precision that a result in several tells the models of: that of most of its picks."""
    dtypes = Counter(pick.dtype for pick in result.picks)
    return dtypes.most_common(1)[0][0] if dtypes else None


def _picks(source: Source, offers: tuple[Offer, ...], several: bool, given: Assumptions) -> Section:
    has_budgets = any(searched.result.budgets_ms for searched in source.searches)
    title = "What fits each budget" if has_budgets else "Picks along the front" if source.searches else "The bundle"
    if not offers:
        parts: list[Part | Fold] = [Note("The search found no subnet to offer.", "warn")]
    else:
        parts = [pick_cards(offers, several, given)]
        parts += [] if all(offer.unknown_power for offer in offers) else [Note(carbon_text(given))]
    parts += _other_precisions(source)
    parts += _unmet(source)
    parts += _waiting(source)
    if offers:
        tables: list[Part] = [compared_table(offers, several)]
        if any(offer.timing for offer in offers):
            tables.append(windows_table(offers, several))
        parts.append(Fold("Predicted, measured, and the windows behind it", tuple(tables)))
    return Section("picks", title, "Picks", tuple(parts))


def _other_precisions(source: Source) -> Iterator[Part]:
    """What the precisions that were not picked would offer: why they lost."""
    lost = sorted((pair for searched in source.searches for pair in _lost(searched)), key=lambda pair: pair[0])
    if lost:
        yield Note(
            "Each budget's pick is of the precision whose own pick has the best expected accuracy (of about equal "
            "ones, the fastest). The others offer:"
        )
        yield Facts(tuple(fact for _, fact in lost))


def _lost(searched: Searched) -> Iterator[tuple[float, Fact]]:
    """With the budget or, without one, the latency."""
    won = {(pick.budget_ms, pick.dtype, pick.subnet) for pick in searched.result.picks}
    for result in searched.precisions:
        for pick in result.picks:
            if (pick.budget_ms, result.dtype, pick.subnet) not in won:
                on = "" if pick.budget_ms is None else f" for {units.milliseconds(pick.budget_ms)}"
                missed = ", budget missed" if pick.held is False else ""
                what = f"{units.percent(pick.expected_top1)} expected at {units.milliseconds(pick.verified_ms)}{missed}"
                yield pick.budget_ms or pick.verified_ms or 0.0, Fact(f"in {result.dtype}{on}", what, pick.subnet)
        for unmet in result.infeasible:
            label = f"in {result.dtype} for {units.milliseconds(unmet.budget_ms)}"
            what = f"{units.ends(unmet.budget_ms, unmet.nearest_ms)[1]} ms at least"
            yield unmet.budget_ms, Fact(label, what, unmet.nearest_subnet)


def _unmet(source: Source) -> Iterator[Part]:
    facts = [
        Fact(
            f"{units.milliseconds(unmet.budget_ms)} on {searched.result.target}",
            f"the nearest subnet takes {units.milliseconds(unmet.nearest_ms)}, {searched.result.provenance}",
            unmet.nearest_subnet,
        )
        for searched in source.searches
        for unmet in searched.result.infeasible
    ]
    if facts:
        yield Note("Budgets that nothing holds", "warn")
        yield Facts(tuple(facts))


def _waiting(source: Source) -> Iterator[Part | Fold]:
    for searched in source.searches:
        result = searched.result
        if not result.unmeasured:
            continue
        how = "They are not in the recording."
        if result.provenance != "replayed":
            dtype = f" --dtype {result.dtype}" if result.dtype not in (None, "float32") else ""
            where = f"--target {result.target}{dtype}"
            how = f"'tune {where} --export-pack FOLDER --subnets-of {searched.folder}' packs them."
        facts = tuple(Fact(f"finalist {number}", key) for number, key in enumerate(result.unmeasured, 1))
        note = Note(f"They may be better than the picks; only measured subnets are picked. {how}")
        where = f" of {result.target}" if len(source.searches) > 1 else ""
        yield Fold(f"Finalists that wait for the device{where}", (note, Facts(facts)), is_open=True)


def _front(results: list[SearchResult], series: tuple[Series, ...], offers: tuple[Offer, ...]) -> Section | None:
    plot = front_plot(results, series, offers) if results else None
    return None if plot is None else Section("front", "Accuracy against latency", "Front", (plot,))


def _architecture(offers: tuple[Offer, ...], several: bool) -> Section | None:
    drawing = architecture_drawing(offers, several)
    if drawing is None:
        return None
    note = (
        "A block's height is the square root of its widest map's channels: four times the channels are twice as tall. "
        "The part in full colour is what it gives to the next one."
    )
    if len(drawing.networks) > 1:
        note += " A triangle marks blocks that differ from the first network's in more than pixels."
    return Section("architecture", "What the networks look like", "Architecture", (Note(note), drawing))


def _no_layers(offers: tuple[Offer, ...], space: str) -> Section | None:
    if not offers:
        return None
    offer = offers[0]
    asked = f"--space {space} --target {offer.series.target} --subnet {offer.subnet} --layers"
    commands = Commands((("Ask the model", f"python -m ofa_tvm.predict {asked}"),))
    note = Note("Not known: the version that made this result did not keep it, or no kernel was tuned.", "warn")
    return Section("layers", "Where the time goes, layer by layer", "Layers", (note, commands))
