"""Layer by layer, where the time of each pick goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from ofa_tvm.reporting import units
from ofa_tvm.reporting.offers import Offer
from ofa_tvm.reporting.parts import Cell, Column, Fold, LegendEntry, Note, Part, Section, Slice, Table, TimeBar
from ofa_tvm.spaces.subnet_blocks import block_name

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
_KEY = re.compile(r"^(?P<kind>[a-z_]+?)_(?P<size>\d+)x\d+_(?P<channels>[\d-]+)(?:_k(?P<kernel>\d+)s(?P<stride>\d+))?")
MOST_ROWS = 300
"""Of all tables of calls together: more would make the page too large."""
_LABELLED = 0.045
"""Slices of a bar that take less have no room for a label."""
COLUMNS = (
    Column("block", is_text=True),
    Column("computes", is_text=True),
    Column("kernel", is_text=True, is_wide=True),
    Column("time", "µs"),
    Column("share"),
    Column("rate", "GFLOP/s"),
    Column("of the {}"),
    Column("memory", "GB/s"),
)


def layer_section(offers: Sequence[Offer], has_several_series: bool) -> Section | None:
    """The section; None where no offer's layers are known."""
    known = [offer for offer in offers if offer.layers]
    if not known:
        return None
    parts: list[Part | Fold] = [
        Note(
            "The latency of a pick, divided among its kernels: what the latency model knows of each block, split "
            "inside a block as its kernels' own times. Rates count all operations (those of a padded border, too, "
            f"which kernels skip), and weights and maps moved once. {_peak_text(known[0])}"
        )
    ]
    rows = 0
    for offer in known:
        label = f" · {offer.series.label}" if has_several_series else ""
        title = (
            f"{offer.name}{label}: {units.milliseconds(offer.latency_ms)}, {units.plural(len(offer.layers), 'call')}"
        )
        parts.append(_bar(offer, title))
        folded = f"{offer.name}{label}: every call"
        rows += len(offer.layers)
        if rows <= MOST_ROWS:
            parts.append(Fold(folded, (layer_table(offer),), is_open=len(known) == 1))
    if rows > MOST_ROWS:
        parts.append(Note("The calls of the other picks are in the JSON file that this page gives."))
    return Section("layers", "Where the time goes, layer by layer", "Layers", tuple(parts))


def _peak(offer: Offer) -> float | None:
    """GFLOP/s that the cores can do at most; None where not known, as in int8."""
    if offer.core_rates is None or offer.series.dtype not in (None, "float32"):
        return None
    return offer.core_rates.gflops_per_s * offer.threads


def _peak_text(offer: Offer) -> str:
    peak, rates = _peak(offer), offer.core_rates
    if peak is None or rates is None:
        return "They are compared with the fastest kernel of the same pick, as the core's peak is not known."
    cores = units.plural(offer.threads, "core")
    return (
        f"At most, {cores} did {peak:.0f} GFLOP/s in float32 when measured, and one core read {rates.gbytes_per_s:.1f} "
        "GB/s from memory; what lies in the caches arrives faster."
    )


def _bar(offer: Offer, title: str) -> TimeBar:
    whole = sum(layer.time_ms for layer in offer.layers)
    slices = []
    for name, group in groupby(offer.layers, lambda layer: block_name(layer.layers[-1])):
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
    rates = [layer.flops / layer.time_ms / 1e6 for layer in offer.layers]
    largest = max(layer.time_ms for layer in offer.layers) / whole
    most = _peak(offer) or max(rates)
    against = "fastest" if _peak(offer) is None else "peak"
    columns = tuple(replace(column, label=column.label.format(against)) for column in COLUMNS)
    rows = []
    for layer, rate in zip(offer.layers, rates, strict=True):
        share, memory = layer.time_ms / whole, layer.moved_bytes / layer.time_ms / 1e6
        kernel = kernel_text(layer.kernel) + ("" if layer.is_tuned else " (not tuned, estimated)")
        rows.append(
            (
                Cell(units.words(block_name(layer.layers[-1]))),
                Cell(" + ".join(map(_layer_text, layer.layers))),
                Cell(kernel, layer.kernel),
                Cell(units.microseconds(layer.time_ms), 1e3 * layer.time_ms),
                Cell(units.percent(share, 1), share, bar=share / largest),
                Cell(units.rate(rate), rate),
                Cell(units.percent(rate / most, 0), rate / most),
                Cell(units.rate(memory), memory),
            )
        )
    name = "layers" if offer.number is None else f"layers-{offer.series.label}-pick-{offer.number}"
    return Table(name.replace(" ", "-"), f"Calls of {offer.subnet}", columns, tuple(rows))


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
    return f"{size}{KINDS.get(match['kind'], units.words(match['kind']))}{stride}, {channels} channels{pixels}"
