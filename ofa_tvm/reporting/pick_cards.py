"""The picks as cards: what a product engineer asks of each, and what would find out what is not known."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_tvm.nas.objectives import ENERGY, OBJECTIVES
from ofa_tvm.reporting import units
from ofa_tvm.reporting.offers import Offer
from ofa_tvm.reporting.parts import Card, Cards, Fact, Tone
from ofa_tvm.support import amounts
from ofa_tvm.support.carbon import Assumptions, footprint
from ofa_tvm.support.dtype import DTYPE_BYTES
from ofa_tvm.timing.inference import IMAGES

HELD: dict[bool | None, tuple[str, Tone]] = {
    True: ("✓ budget held", "good"),
    False: ("✗ budget missed", "bad"),
    None: ("? too much other work to say whether it is held", "warn"),
}


def pick_cards(offers: Sequence[Offer], has_several_series: bool, given: Assumptions) -> Cards:
    """A card for each offer; ``given`` is what emissions are computed with."""
    return Cards(tuple(_card(offer, has_several_series, given) for offer in offers))


def _card(offer: Offer, has_several_series: bool, given: Assumptions) -> Card:
    known, unknown = list[Fact](), list[Fact]()
    for fact in (*_speed(offer), *_accuracy(offer), *_size(offer), *_startup(offer), *_energy(offer, given)):
        (known if fact.value else unknown).append(fact)
    how = "estimated" if offer.watts is None else "metered by the GPU's driver"
    known += [
        Fact(OBJECTIVES[name].label, f"{value:.3f} {OBJECTIVES[name].unit}", how if name == ENERGY else "")
        for name, value in offer.objectives.items()
    ]
    verdict, tone = _verdict(offer)
    return Card(
        anchor=offer.anchor,
        title=offer.name,
        subtitle=_subtitle(offer, has_several_series),
        value=units.digits(offer.latency_ms),
        unit="ms",
        value_label=_value_label(offer),
        verdict=verdict,
        tone=tone,
        facts=tuple(known),
        unknown=_grouped(unknown),
        code=offer.subnet,
        series=offer.series.number,
    )


def _grouped(unknown: Sequence[Fact]) -> tuple[Fact, ...]:
    """What the same command would find out, together."""
    ways = dict.fromkeys((fact.note, fact.command) for fact in unknown)
    return tuple(
        Fact(", ".join(fact.label for fact in unknown if (fact.note, fact.command) == way), "", *way) for way in ways
    )


def _subtitle(offer: Offer, has_several_series: bool) -> str:
    budget = "" if offer.budget_ms is None else f"budget {units.milliseconds(offer.budget_ms)}"
    return " · ".join(filter(None, [budget, offer.series.label if has_several_series else offer.series.dtype or ""]))


def _value_label(offer: Offer) -> str:
    if offer.latency_ms is None:
        return "not measured"
    which = f"p{offer.percentile}" if offer.provenance == "measured" else ""
    images = "" if offer.batch == 1 else f", {offer.batch} images"
    return " ".join(filter(None, [which, offer.provenance])) + images


def _verdict(offer: Offer) -> tuple[str, Tone]:
    if offer.budget_ms is None or (offer.held is None and offer.timing is None):
        return "", "plain"
    return HELD[offer.held]


def _speed(offer: Offer) -> list[Fact]:
    timing, predicted, facts = offer.timing, offer.predicted, []
    if timing is not None:
        low, high = timing.spread_ms(offer.percentile)
        facts.append(Fact("p50 / p90 / p99", _percentiles(offer), "ms, of single calls"))
        windows = f"{len(timing.undisturbed)} of {len(timing.windows)} undisturbed"
        facts.append(Fact("in each window", f"{units.interval(low, high)} ms", windows))
    elif offer.provenance == "measured":
        facts.append(Fact("p50 / p90 / p99", "", "", _deploys(offer)))
    if offer.deployed_ms is not None:
        deployed = units.milliseconds(offer.deployed_ms)
        facts.append(Fact("as deployed", deployed, "measured again by deploy; energy is of this"))
    if predicted is not None:
        interval = f"90 % sure: {units.interval(predicted.low_ms, predicted.high_ms)}"
        facts.append(Fact("predicted", units.milliseconds(predicted.middle_ms), interval))
    return facts


def _percentiles(offer: Offer) -> str:
    timing = offer.timing
    return "" if timing is None else " / ".join(units.digits(timing.told_ms(which)) for which in (50, 90, 99))


def _accuracy(offer: Offer) -> list[Fact]:
    known = offer.accuracies
    if known.test is not None:
        return [Fact("top-1, test images", units.with_error(known.test, known.test_error), "± standard error")]
    facts = [Fact("top-1, test images", "", "", _deploys(offer))]
    if known.validation is not None:
        text = units.with_error(known.validation, known.validation_error)
        return [Fact("top-1, held-out images", text, "± standard error"), *facts]
    if known.predicted is not None:
        return [Fact("top-1, predicted", units.percent(known.predicted)), *facts]
    return facts


def _size(offer: Offer) -> list[Fact]:
    facts = [Fact("parameters", units.count(offer.parameters)), Fact("MACs", units.count(offer.macs))]
    if offer.bundle_bytes is not None and offer.library_bytes is not None:
        facts.append(Fact("library", amounts.size(offer.library_bytes), f"bundle {amounts.size(offer.bundle_bytes)}"))
    else:
        facts.append(Fact("library", "", "", _deploys(offer)))
    if offer.peak_activation_bytes is not None:
        dtype = offer.series.dtype or "float32"
        alive = offer.peak_activation_bytes * DTYPE_BYTES[dtype] / DTYPE_BYTES["float32"]
        facts.append(Fact("maps alive at once", amounts.size(alive), f"in {dtype}, one image"))
    return facts


def _startup(offer: Offer) -> list[Fact]:
    startup = offer.startup
    if startup is None:
        command = _deploys(offer)
        if offer.number is None:
            command = f"{offer.next_command.rpartition(' ')[0]} --benchmark --json > benchmark.json"
        return [Fact(what, "", "", command) for what in ("load", "first inference", "peak memory")]
    where = "in a fresh process" if startup.starts == 1 else f"median of {startup.starts} fresh processes"
    if startup.first_ms is None:
        facts = [Fact("load and first inference", f"{startup.load_ms:.1f} ms", where)]
    else:
        facts = [
            Fact("load", f"{startup.load_ms:.2f} ms", where),
            Fact("first inference", f"{startup.first_ms:.2f} ms", "likewise"),
        ]
    if startup.peak_memory_bytes is not None:
        facts.append(Fact("peak memory", amounts.size(startup.peak_memory_bytes), "of the whole process"))
    return facts


def _energy(offer: Offer, given: Assumptions) -> list[Fact]:
    """As the ledger has it."""
    if offer.unknown_power:
        return [Fact("energy and CO2e of a million images", "", offer.unknown_power)]
    if offer.inference is None:
        return []
    used = footprint(offer.inference.cost(IMAGES), given)
    return [
        Fact("energy", used.energy.text, f"of a million images; {used.energy.kind}"),
        Fact("CO2e", used.emissions.text, f"likewise; {used.emissions.kind}"),
    ]


def _deploys(offer: Offer) -> str:
    return offer.next_command if offer.number is not None else ""
