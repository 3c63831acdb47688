"""Layer by layer, where the time of each pick goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from ofa_tvm.cost_model.layer_time import LayerTime
from ofa_tvm.reporting import units
from ofa_tvm.reporting.offers import Offer
from ofa_tvm.reporting.parts import Cell, Column, Fold, LegendEntry, Note, Part, Section, Slice, Table, TimeBar
from ofa_tvm.spaces.subnet_blocks import block_name, block_of_call

KINDS = {
    "expand_depthwise": "expand and depthwise, fused",
    "depthwise": "depthwise",
    "conv": "convolution",
    "squeeze_excite": "squeeze-excite",
    "max_pool": "max pooling",
    "average_pool": "mean pooling",
    "pool": "global pooling",
    "dense": "dense",
}
EXTRAS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "hard-swish": "hard swish",
    "hard-sigmoid": "hard sigmoid",
    "silu": "SiLU",
    "sigmoid": "sigmoid",
    "gelu": "GELU",
    "scaled": "scaled by squeeze-excite",
    "residual": "with residual",
    "pooled": "with sums for pooling",
}
"""What tells kernels of the same shapes apart, by the words in their keys."""
_KEY = re.compile(r"^(?P<kind>[a-z_]+?)_(?P<size>\d+)x\d+_(?P<channels>[\d-]+)(?:_k(?P<kernel>\d+)s(?P<stride>\d+))?")
MOST_ROWS = 250
"""Of all tables of calls together: more would make the page too large."""
_LABELLED = 0.025
"""Slices of a bar that take less have no room for a label, however wide the page is."""
COLUMNS = (
    Column("block", is_text=True),
    Column("computes", is_text=True),
    Column("kernel", is_text=True, is_wide=True),
    Column("alone", "µs"),
    Column("share of the latency"),
    Column("rate alone", units.RATE),
    Column("of the {against}"),
    Column("memory alone", "GB/s"),
)


def layer_section(offers: Sequence[Offer], has_several_series: bool) -> Section | None:
    """The section; None where no offer's layers are known."""
    known = [offer for offer in offers if offer.layers]
    if not known:
        return None
    parts: list[Part | Fold] = [Note(f"Shares divide the latency of a pick among its kernels. {_alone_text(known)}")]
    rows = 0
    for offer in known:
        label = f" · {offer.series.label}" if has_several_series else ""
        title = (
            f"{offer.name}{label}: {units.milliseconds(offer.latency_ms)}, {units.plural(len(offer.layers), 'call')}"
        )
        parts += [_bar(offer, title), *_sums(offer)]
        folded = f"{offer.name}{label}: every call"
        rows += len(offer.layers)
        if rows <= MOST_ROWS:
            parts.append(Fold(folded, (layer_table(offer),), is_open=len(known) == 1))
    if rows > MOST_ROWS:
        parts.append(Note("The calls of the other picks are in the JSON file that this page gives."))
    return Section("layers", "Where the time goes, layer by layer", "Layers", tuple(parts))


def _peak(offer: Offer) -> float | None:
    """``units.RATE`` that the cores can do at most; None where not known, as in int8."""
    if offer.core_rates is None or offer.series.dtype not in (None, "float32"):
        return None
    return offer.core_rates.gflops_per_s * offer.threads


def _alone_text(known: Sequence[Offer]) -> str:
    if not any(layer.kernel_ms for offer in known for layer in offer.layers):
        return "What each kernel takes alone, and so its rate, is not in files of older versions."
    return (
        "Alone: the kernel's own time, as it was tuned; the latency is divided in proportion. Their sum is not the "
        "latency: each was timed by itself, at another hour and perhaps another clock, with its maps in other caches. "
        "Rates are of kernels alone; they count all operations (two for each multiply-add; those of a padded border, "
        f"too, which kernels skip), and weights and maps moved once. {_peak_text(known)}"
    )


def _peak_text(known: Sequence[Offer]) -> str:
    offer = known[0]
    peak, rates = _peak(offer), offer.core_rates
    if peak is None or rates is None:
        return "They are compared with the fastest kernel of the same pick, as the core's peak is not known."
    cores = units.plural(offer.threads, "core")
    text = (
        f"At most, {cores} did {peak:.0f} {units.RATE} in float32 when measured, and one core read "
        f"{rates.gbytes_per_s:.1f} GB/s from memory; what lies in the caches arrives faster."
    )
    if any(rate > peak for one in known if _peak(one) for layer in one.layers if (rate := _rate(layer)) is not None):
        text += (
            " Rates above that can be: border operations are counted though skipped, and the peak was measured later "
            "than the kernels, perhaps at a lower clock."
        )
    return text


def _rate(layer: LayerTime) -> float | None:
    """1e9 operations a second of a kernel alone."""
    return layer.flops / layer.kernel_ms / 1e6 if layer.kernel_ms else None


def _sums(offer: Offer) -> Iterator[Note]:
    """What the kernels' own times add up to, beside the latency."""
    alone = [layer.kernel_ms for layer in offer.layers if layer.kernel_ms is not None]
    if len(alone) < len(offer.layers):
        return
    yield Note(
        f"Alone, the kernels take {units.microseconds(sum(alone))} µs together, the network as a whole "
        f"{units.microseconds(sum(layer.time_ms for layer in offer.layers))} µs."
    )


def _bar(offer: Offer, title: str) -> TimeBar:
    whole = sum(layer.time_ms for layer in offer.layers)
    slices = []
    for name, group in groupby(offer.layers, lambda layer: block_of_call(layer.layers)):
        layers = tuple(group)
        time_ms = sum(layer.time_ms for layer in layers)
        costliest = max(layers, key=lambda layer: layer.time_ms)
        share = time_ms / whole
        slices.append(
            Slice(
                label=units.words(name.replace("block", "b")) if share >= _LABELLED else "",
                share=share,
                group=list(KINDS).index(costliest.kind) if costliest.kind in KINDS else 0,
                tip=f"{units.words(name)}: {units.microseconds(time_ms)} µs, {units.percent(share, 1)}",
            )
        )
    groups = sorted({one.group for one in slices})
    legend = tuple(LegendEntry(f"mostly {list(KINDS.values())[group]}", "swatch", group) for group in groups)
    return TimeBar(title, tuple(slices), legend)


def layer_table(offer: Offer) -> Table:
    """A row for each call."""
    whole = sum(layer.time_ms for layer in offer.layers)
    rates = [_rate(layer) for layer in offer.layers]
    largest = max(layer.time_ms for layer in offer.layers) / whole
    most = _peak(offer) or max((rate for rate in rates if rate is not None), default=None)
    against = "fastest" if _peak(offer) is None else "peak"
    columns = tuple(replace(column, label=column.label.format(against=against)) for column in COLUMNS)
    rows = []
    for layer, rate in zip(offer.layers, rates, strict=True):
        share, alone_ms = layer.time_ms / whole, layer.kernel_ms
        of_most = None if rate is None or most is None else rate / most
        memory = layer.moved_bytes / alone_ms / 1e6 if alone_ms else None
        kernel = kernel_text(layer.kernel) + ("" if layer.is_tuned else " (not tuned, estimated)")
        rows.append(
            (
                Cell(units.words(block_of_call(layer.layers))),
                Cell(" + ".join(map(_layer_text, layer.layers))),
                Cell(kernel, layer.kernel),
                Cell(units.microseconds(alone_ms), None if alone_ms is None else 1e3 * alone_ms),
                Cell(units.percent(share, 1), share, bar=share / largest),
                Cell(units.rate(rate), rate),
                Cell(units.percent(of_most, 0), of_most),
                Cell(units.rate(memory), memory),
            )
        )
    name = "layers" if offer.number is None else f"layers-{offer.series.label}-pick-{offer.number}"
    kept = [number for number in range(len(columns)) if any(row[number].text != units.UNKNOWN for row in rows)]
    return Table(
        name.replace(" ", "-"),
        f"Calls of {offer.subnet}",
        tuple(columns[number] for number in kept),
        tuple(tuple(row[number] for number in kept) for row in rows),
    )


def _layer_text(layer: str) -> str:
    name = layer.removeprefix(block_name(layer)).strip("_") or layer
    return "squeeze-excite" if name == "se" else units.words(name)


def kernel_text(key: str) -> str:
    """A kernel's key in words: ``5x5 depthwise /2, 96 channels, 14 px``."""
    match = _KEY.match(key)
    if match is None:
        return key
    window = match["kernel"] or "1"
    size = f"{window}x{window} " if int(window) > 1 or match["kind"] == "conv" else ""
    stride = f" /{match['stride']}" if match["stride"] not in (None, "1") else ""
    channels = match["channels"].replace("-", " → ")
    pixels = "" if match["kind"] == "dense" else f", {match['size']} px"
    words = key[match.end() :].replace("hard_", "hard-").split("_")
    extras = "".join(f", {text}" for word, text in EXTRAS.items() if word in words)
    return f"{size}{KINDS.get(match['kind'], units.words(match['kind']))}{stride}, {channels} channels{pixels}{extras}"
