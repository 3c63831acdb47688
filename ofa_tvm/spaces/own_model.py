"""Spaces around a model that somebody brought: the model alone, or what can be cut out of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Annotated

from pydantic import Field, TypeAdapter

from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.spaces.inverted_residual import make_divisible
from ofa_tvm.spaces.model_blocks import BLOCK, Stages, named_blocks
from ofa_tvm.spaces.space import SearchSpace, SubnetConfig
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.json_text import parse_json
from ofa_tvm.support.typed import validated

PREFIX = "own-"
"""Of the names of such spaces."""
SHARES = (50, 75, 100)
"""Per cent of a block's hidden channels."""
SIZES = (0.43, 0.5, 0.57, 0.71, 0.86, 1.0)
"""Of the model's resolution, rounded to multiples of ``SIZE_STEP`` pixels."""
SIZE_STEP = 8
LEAST_SIZE = 16
KERNELS = (3, 5, 7)
MAX_SIZE = 2**20
"""Of channels, pixels and windows that can be."""
MAX_BLOCKS = 1000
"""Of a stage."""
_NAME = re.compile(PREFIX + r"[A-Za-z0-9_.-]{1,120}")


@dataclass(frozen=True, kw_only=True)
class OwnModel(SearchSpace):
    """A model, or the subnets of an elastic one.

    The expand choices of an elastic model are per cent of each block's own hidden channels; a kernel choice means the
    block's own kernel where that is smaller.

    Args:
        model: the network, whose elastic blocks are named as ``model_blocks`` does.
        most_blocks: of a stage of an elastic model; 0 for a model as it is.
    """

    model: NetworkSpec
    most_blocks: int = 0

    def network(self, config: SubnetConfig) -> NetworkSpec:
        """The model, cut to a config where it is elastic."""
        return _Cut(self, config).network if self.most_blocks else self.model

    def with_classes(self, classes: int) -> OwnModel:
        """The same space with another last layer."""
        last = replace(self.model.layers[-1], out_channels=classes)
        model = replace(self.model, classes=classes, layers=(*self.model.layers[:-1], last))
        return replace(self, classes=classes, model=model)

    def trained_at(self, resolutions: Sequence[int]) -> OwnModel:
        """The space of a training at these input sizes, of which it then has no others; empty for those of the space.

        Raises:
            UserError: the model cannot have one.
        """
        if not resolutions:
            return self
        sizes = tuple(sorted(set(resolutions)))
        for size in sizes:
            is_step = size % SIZE_STEP == 0 and LEAST_SIZE <= size <= self.model.resolution
            if size not in self.resolutions and not (is_step and _fits(self, size)):
                raise UserError(
                    f"resolution {size} is none that {self.name} can have",
                    f"choose multiples of {SIZE_STEP} from {LEAST_SIZE} to {self.model.resolution} at which no map is "
                    f"smaller than its window and branches of sums have one size, e.g. "
                    f"{', '.join(map(str, self.resolutions))}",
                )
        return replace(self, resolutions=sizes, name=f"{self.name}-{'-'.join(map(str, sizes))}")

    @property
    def own(self) -> str:
        """The space as text, from which ``own_model`` makes it again."""
        return json.dumps([self.name, self.most_blocks, self.resolutions, _record(self.model)])


def fixed_model(title: str, network: NetworkSpec) -> OwnModel:
    """The space of one network.

    Args:
        title: what it is called; the name also identifies its layers.
        network: the network.
    """
    return _fixed(f"{PREFIX}{title}-{_digest(network)}", network)


def elastic_model(fixed: OwnModel) -> tuple[OwnModel, dict[str, str]]:
    """The space of what can be cut out of a model, and the new names of the layers of its blocks.

    Raises:
        UserError: it has no blocks that can be cut.
    """
    network, names, most = named_blocks(fixed.model)
    if most == 0:
        raise UserError(
            f"{fixed.name} has no residual blocks that can be cut, inverted or not",
            "tune and deploy it as it is; docs/models.md says which blocks can",
        )
    layers = tuple(replace(one, norm=True, bias=False) if _has_norm(one) else one for one in network.layers)
    return _elastic(f"{fixed.name}-elastic", replace(network, layers=layers), most), names


@lru_cache(maxsize=16)
def own_model(text: str) -> OwnModel:
    """The space that ``OwnModel.own`` describes.

    Raises:
        UserError: the text is damaged.
    """
    try:
        name, most, resolutions, network = validated(_OWN, parse_json(text))
        _check(name, network)
        if most == 0:
            return _fixed(name, network)
        space = _elastic(name, network, most)
        if sorted(set(resolutions)) != list(resolutions) or not all(_fits(space, size) for size in resolutions):
            raise ValueError("it has input sizes that the model cannot have")
        return replace(space, resolutions=resolutions)
    except (ValueError, TypeError, KeyError, IndexError, ArithmeticError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"the description of a model is damaged: {said}", "adopt it again") from error


def _check(name: str, network: NetworkSpec) -> None:
    """Refuse a network that cannot be.

    Raises:
        ValueError: it is one.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("its name is no name")
    before = {INPUT: (network.in_channels, network.resolution)}
    for layer in network.layers:
        sizes = (layer.in_channels, layer.out_channels, layer.in_size, layer.kernel_size, layer.stride, layer.groups)
        if (
            not all(0 < size <= MAX_SIZE for size in (*sizes, layer.out_size))
            or not 0 <= layer.hidden_channels <= MAX_SIZE
        ):
            raise ValueError(f"layer {layer.name} has impossible sizes")
        if before.get(layer.input) != (layer.in_channels, layer.in_size) or layer.name in before:
            raise ValueError(f"layer {layer.name} does not fit what it reads")
        if layer.residual is not None and before.get(layer.residual) != (layer.out_channels, layer.out_size):
            raise ValueError(f"layer {layer.name} does not fit what it adds")
        before[layer.name] = (layer.out_channels, layer.out_size)
    if not network.layers or network.layers[-1].out_elements != network.classes:
        raise ValueError("it does not end in its classes")


def _has_norm(layer: LayerSpec) -> bool:
    return layer.kind in ("conv", "depthwise")


def _digest(network: NetworkSpec) -> str:
    return hashlib.sha256(json.dumps(_record(network)).encode()).hexdigest()[:8]


def _fixed(name: str, network: NetworkSpec) -> OwnModel:
    return OwnModel(
        name=name,
        resolutions=(network.resolution,),
        depth_choices=(1,),
        kernel_choices=(1,),
        expand_choices=(1,),
        stages=1,
        classes=network.classes,
        model=network,
    )


def _elastic(name: str, network: NetworkSpec, most: int) -> OwnModel:
    stages = Stages.of(network, most)
    largest = max(stages.kernels)
    sizes = {SIZE_STEP * round(network.resolution * share / SIZE_STEP) for share in SIZES}
    sizes = {size for size in sizes if LEAST_SIZE <= size <= network.resolution}
    space = OwnModel(
        name=name,
        resolutions=tuple(sorted({*sizes, network.resolution})),
        depth_choices=tuple(range(1, most + 1)),
        kernel_choices=tuple(size for size in KERNELS if size <= largest),
        expand_choices=SHARES,
        stages=len(stages.blocks),
        classes=network.classes,
        stage_blocks=stages.blocks,
        stage_kernels=stages.kernels,
        model=network,
        most_blocks=most,
    )
    return replace(space, resolutions=tuple(size for size in space.resolutions if _fits(space, size)))


def _fits(space: OwnModel, resolution: int) -> bool:
    """Whether a model can have a size.

    Flattened maps have the size that they have; windows lie within maps; and branches of sums have one size, which odd
    maps that a shortcut pools have not.
    """
    if resolution == space.model.resolution:
        return True
    network = space.network(replace(space.largest, resolution=resolution))
    sizes = {layer.name: layer.out_size for layer in network.layers}
    return all(
        (original.kind != "linear" or original.in_size == 1)
        and layer.kernel_size <= layer.in_size + 2 * layer.pads[1]
        and (layer.residual is None or sizes.get(layer.residual) == layer.out_size)
        for layer, original in zip(network.layers, space.model.layers, strict=True)
    )


class _Cut:
    """A subnet of an elastic model."""

    def __init__(self, space: OwnModel, config: SubnetConfig) -> None:
        self._choices = {
            space.block_index(stage, position): pair
            for stage, blocks in enumerate(config.stages)
            for position, pair in enumerate(blocks)
        }
        self._groups = {
            match[1]: layer.groups
            for layer in space.model.layers
            if (match := BLOCK.match(layer.name)) is not None and match[2] == "middle"
        }
        """Of the middle convolutions of blocks, by the block's number."""
        self._layers: dict[str, LayerSpec] = {}
        self._instead: dict[str, str] = {}
        """What is read in place of the layers of skipped blocks."""
        for layer in space.model.layers:
            self._add(layer, config.resolution)
        layers = tuple(self._layers.values())
        self.network = NetworkSpec(config.resolution, space.model.in_channels, space.classes, layers)

    def _add(self, layer: LayerSpec, resolution: int) -> None:
        match = BLOCK.match(layer.name)
        source = self._instead.get(layer.input, layer.input)
        choice = None if match is None else self._choices.get(int(match[1]))
        if match is not None and choice is None:
            self._instead[layer.name] = source
            return
        before = self._layers.get(source)
        size = resolution if source == INPUT or before is None else before.out_size
        inputs = layer.in_channels if before is None else before.out_channels
        cut = replace(layer, input=source, in_size=size, in_channels=inputs)
        if layer.residual is not None:
            cut = replace(cut, residual=self._instead.get(layer.residual, layer.residual))
        if match is not None and choice is not None:
            cut = _cut_block(cut, layer, match[2], choice, self._groups.get(match[1], 1))
        elif layer.kind in ("global_pool", "max_pool", "average_pool"):
            cut = replace(cut, out_channels=inputs)
        self._layers[layer.name] = cut


def _cut_block(cut: LayerSpec, layer: LayerSpec, part: str, choice: tuple[int, int], groups: int) -> LayerSpec:
    """A layer of a block with (kernel size, per cent of hidden channels).

    Args:
        cut: the layer with the inputs that it has in the subnet.
        layer: the layer of the whole model.
        part: of the block.
        choice: of the block.
        groups: of the block's middle convolution; some of them stay, each as wide as it was.
    """
    kernel_size, share = choice
    kept = max(1, round(groups * share / 100))
    match part:
        case "expand" | "middle" if groups > 1:
            channels = layer.out_channels // groups * kept
            return replace(cut, out_channels=channels, groups=kept if part == "middle" else 1)
        case "expand" | "middle":
            return replace(cut, out_channels=_share_of(layer.out_channels, share))
        case "depthwise":
            return replace(cut, out_channels=cut.in_channels, kernel_size=min(kernel_size, layer.kernel_size))
        case "se":
            hidden = _share_of(layer.hidden_channels, share)
            return replace(cut, out_channels=cut.in_channels, hidden_channels=hidden)
        case _:
            return cut


def _share_of(channels: int, share: int) -> int:
    return channels if share == 100 else min(channels, make_divisible(channels * share / 100))


_Size = Annotated[int, Field(ge=8, le=4096)]
_OWN: TypeAdapter[tuple[str, int, tuple[int, ...], NetworkSpec]] = TypeAdapter(
    tuple[
        str, Annotated[int, Field(ge=0, le=MAX_BLOCKS)], Annotated[tuple[_Size, ...], Field(min_length=1)], NetworkSpec
    ]
)
_DEFAULTS = {field.name: field.default for field in fields(LayerSpec)}


def _record(network: NetworkSpec) -> Record:
    """A network as JSON, without what is as usual."""
    layers: Sequence[Record] = [
        {name: value for name, value in asdict(layer).items() if value != _DEFAULTS[name]} for layer in network.layers
    ]
    sizes = {"resolution": network.resolution, "in_channels": network.in_channels, "classes": network.classes}
    return {**sizes, "layers": list(layers)}
