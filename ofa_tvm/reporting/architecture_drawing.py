"""Networks drawn block by block: a column for each block, so that two picks can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ofa_tvm.reporting import units
from ofa_tvm.reporting.offers import Offer
from ofa_tvm.reporting.parts import Drawing, Network, Shape
from ofa_tvm.spaces.subnet_blocks import Block

COLUMN, GAP, LEFT = 52, 8, 4
TALLEST, SHORTEST = 120, 16
TOP = 30
PER_CENT_FROM = 20
"""Expand choices from here on are per cent of a block's channels."""


def architecture_drawing(offers: Sequence[Offer], has_several_series: bool) -> Drawing | None:
    """The drawing of all offers whose blocks are known; None where there is none."""
    known = [offer for offer in offers if offer.blocks]
    if not known:
        return None
    columns = _columns([_drawn(offer) for offer in known])
    widest = max(block.hidden_channels for offer in known for block in _drawn(offer))
    first = {block.name: block for block in _drawn(known[0])}
    networks = tuple(
        _network(offer, columns, first if row else None, widest, has_several_series) for row, offer in enumerate(known)
    )
    width = LEFT + len(columns) * (COLUMN + GAP)
    return Drawing(width, TOP + TALLEST + 50, TOP + TALLEST, networks)


def _drawn(offer: Offer) -> tuple[Block, ...]:
    """Its blocks, but for squeeze-excite layers outside of blocks: they give no map."""
    return tuple(block for block in offer.blocks if block.kinds != ("squeeze_excite",))


def _columns(networks: Sequence[tuple[Block, ...]]) -> list[str]:
    """Names of all blocks in an order that every network keeps: each new name comes after the one before it."""
    names: list[str] = []
    for blocks in networks:
        place = 0
        for block in blocks:
            if block.name in names:
                place = names.index(block.name) + 1
            else:
                names.insert(place, block.name)
                place += 1
    return names


def _network(
    offer: Offer, columns: Sequence[str], first: dict[str, Block] | None, widest: int, has_several_series: bool
) -> Network:
    own = {block.name: block for block in _drawn(offer)}
    shapes, stages = [], list[tuple[str, float, float]]()
    for number, name in enumerate(columns):
        x, block = LEFT + number * (COLUMN + GAP), own.get(name)
        differs = first is not None and _look(block) != _look(first.get(name))
        shapes.append(_skipped(x, name, differs) if block is None else _shape(x, block, widest, differs))
        stage = f"stage {block.stage}" if block is not None and block.stage else ""
        if stage and stages and stages[-1][0] == stage:
            stages[-1] = (stage, stages[-1][1], x + COLUMN)
        elif stage:
            stages.append((stage, x, x + COLUMN))
    depths = " + ".join(str(sum(block.stage == stage for block in offer.blocks)) for stage in _stages(offer))
    label = f" · {offer.series.label}" if has_several_series else ""
    return Network(
        title=f"{offer.name}{label}",
        note=f"{offer.blocks[0].in_size} px in, {depths} blocks in {len(_stages(offer))} stages"
        if depths
        else f"{offer.blocks[0].in_size} px in",
        shapes=tuple(shapes),
        stages=tuple(stages),
    )


def _stages(offer: Offer) -> list[int]:
    return sorted({block.stage for block in offer.blocks} - {0})


def _look(block: Block | None) -> tuple[object, ...]:
    """What tells blocks apart; their size in pixels is that of the whole network."""
    return () if block is None else (block.kinds, block.kernel, block.hidden_channels, block.out_channels)


def _height(channels: int, widest: int) -> float:
    return round(TALLEST * math.sqrt(channels / widest), 1)


def _shape(x: float, block: Block, widest: int, differs: bool) -> Shape:
    height = _height(block.hidden_channels, widest)
    kernel = f"{block.kernel}×{block.kernel}" if block.kernel > 1 else ""  # noqa: RUF001
    expand = "" if block.choice is None else expand_text(block.choice[1])
    return Shape(
        x=x,
        y=TOP + TALLEST - height,
        height=height,
        inner=min(_height(block.out_channels, widest), height),
        css=f"k{block.kernel}" if block.choice is not None else "fixed",
        lines=tuple(filter(None, (kernel, expand))) or (_short(block),),
        below=(f"{block.out_channels} ch", f"{block.out_size} px"),
        tip=_tip(block),
        differs=differs,
    )


def _skipped(x: float, name: str, differs: bool) -> Shape:
    y = TOP + TALLEST - SHORTEST
    return Shape(x, y, SHORTEST, 0.0, "skipped", (), ("skipped",), f"{units.words(name)}: skipped", differs)


def expand_text(expand: int) -> str:
    """An expand choice: ``e6``, or per cent of a block's channels."""
    return f"{expand} %" if expand >= PER_CENT_FROM else f"e{expand}"


def _short(block: Block) -> str:
    names = {"global_pool": "pool", "linear": "dense", "max_pool": "max", "average_pool": "mean"}
    return names.get(block.kinds[0], "1×1")  # noqa: RUF001


def _tip(block: Block) -> str:
    kernel = f"{block.kernel}x{block.kernel}, " if block.kernel > 1 else ""
    gates = ", squeeze-excite" if "squeeze_excite" in block.kinds else ""
    channels = f"{block.in_channels} → {block.hidden_channels} → {block.out_channels} channels"
    return (
        f"{units.words(block.name)}: {kernel}{channels}{gates}\n"
        f"{block.in_size} px → {block.out_size} px, {block.macs / 1e6:.2f} M MACs"
    )
