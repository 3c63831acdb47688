"""SearchSpace and SubnetConfig: what may vary, as values and as integer genomes.

A genome is one row of small integers, indices into the choices of each gene, in the order
``[resolution | depth of each stage | kernel size of each block | expand ratio of each block]``.
All operations on genomes are vectorised over rows, so that a search handles whole populations.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record

Genomes = NDArray[np.int8]
Number = TypeVar("Number", bound=np.generic)
_KEY = re.compile(r"r(\d{1,6})((?:\.(?:\d{1,6}x\d{1,6})(?:-\d{1,6}x\d{1,6})*)+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class SubnetConfig:
    """One subnet: its resolution and, for each stage, the (kernel size, expand ratio) of its active blocks."""

    resolution: int
    stages: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def depths(self) -> tuple[int, ...]:
        """Active blocks of each stage."""
        return tuple(len(stage) for stage in self.stages)

    @property
    def key(self) -> str:
        """Canonical text, e.g. ``r32.7x4-3x2.5x3-5x3``: equal exactly when the subnets are equal."""
        stages = ("-".join(f"{kernel}x{expand}" for kernel, expand in stage) for stage in self.stages)
        return ".".join([f"r{self.resolution}", *stages])

    @classmethod
    def parse(cls, key: str) -> SubnetConfig:
        """Read a canonical key.

        Raises:
            UserError: the text is not a key.
        """
        match = _KEY.fullmatch(key.strip())
        if match is None:
            raise UserError(
                f"'{key[:80]}' is not a subnet key", "a key reads like r32.7x4-3x2.5x3-5x3.3x2-3x2 (kernel x expand)"
            )
        stages = []
        for stage in match.group(2).strip(".").split("."):
            blocks = (block.split("x") for block in stage.split("-"))
            stages.append(tuple((int(kernel), int(expand)) for kernel, expand in blocks))
        return cls(int(match.group(1)), tuple(stages))


@dataclass(frozen=True, kw_only=True)
class SearchSpace(ABC):
    """A family of subnets with elastic resolution, depth, kernel size and expand ratio.

    All choices are in ascending order. Subclasses add what is fixed and say in ``network`` what runs.

    Args:
        name: of the space.
        resolutions: input heights and widths in pixels.
        depth_choices: blocks of a stage.
        kernel_choices: kernel sizes of a block's depthwise convolution.
        expand_choices: expanded over input channels of a block.
        stages: elastic stages.
        classes: outputs.
        stage_blocks: blocks of each stage at full depth; empty where all have as many as the largest depth.
        stage_least: blocks that each stage runs at least; empty where that is the least choice.
        stage_kernels: the largest kernel size of each stage; empty where all have all.
        stage_expands: the largest expand ratio of each stage; empty where all have all.
        norm_epsilon: added to the variance in batch norms.
    """

    name: str
    resolutions: tuple[int, ...]
    depth_choices: tuple[int, ...]
    kernel_choices: tuple[int, ...]
    expand_choices: tuple[int, ...]
    stages: int
    classes: int
    stage_blocks: tuple[int, ...] = ()
    stage_least: tuple[int, ...] = ()
    stage_kernels: tuple[int, ...] = ()
    stage_expands: tuple[int, ...] = ()
    norm_epsilon: float = 1e-5

    @abstractmethod
    def network(self, config: SubnetConfig) -> NetworkSpec:
        """The layers of a subnet."""

    @property
    def own(self) -> str:
        """What describes a model that somebody brought; empty for the spaces that come with the package."""
        return ""

    def with_classes(self, classes: int) -> Self:
        """The same space with another number of classes."""
        return replace(self, classes=classes)

    def with_resolutions(self, wanted: Sequence[int] | None) -> Self:
        """The same space with fewer resolutions; None for all.

        Raises:
            UserError: one is not in the space.
        """
        return replace(self, resolutions=self.choose_resolutions(wanted))

    def description(self) -> Record:
        """What must be equal for genomes to mean the same subnets."""
        limits = {
            "stage_blocks": list(self.stage_blocks),
            "stage_least": list(self.stage_least),
            "stage_kernels": list(self.stage_kernels),
            "stage_expands": list(self.stage_expands),
        }
        return {
            "name": self.name,
            "resolutions": list(self.resolutions),
            "depth_choices": list(self.depth_choices),
            "kernel_choices": list(self.kernel_choices),
            "expand_choices": list(self.expand_choices),
            "stages": self.stages,
            **{name: limit for name, limit in limits.items() if limit},
        }

    def depths_of(self, stage: int) -> tuple[int, ...]:
        """Blocks that a stage may run; its only depth where it has fewer than the least choice."""
        most = self.stage_blocks[stage] if self.stage_blocks else self.max_depth
        least = self.stage_least[stage] if self.stage_least else 0
        return tuple(depth for depth in self.depth_choices if least <= depth <= most) or (most,)

    def kernels_of(self, stage: int) -> tuple[int, ...]:
        """Kernel sizes that a stage's blocks may have."""
        most = self.stage_kernels[stage] if self.stage_kernels else self.kernel_choices[-1]
        return tuple(kernel for kernel in self.kernel_choices if kernel <= most)

    def expands_of(self, stage: int) -> tuple[int, ...]:
        """Expand ratios that a stage's blocks may have."""
        most = self.stage_expands[stage] if self.stage_expands else self.expand_choices[-1]
        return tuple(expand for expand in self.expand_choices if expand <= most)

    @cached_property
    def depth_values(self) -> NDArray[np.intp]:
        """Blocks that each depth gene of a stage stands for, shape (stages, depth choices); the last one repeats."""
        rows = [self.depths_of(stage) for stage in range(self.stages)]
        return np.asarray([row + row[-1:] * (len(self.depth_choices) - len(row)) for row in rows])

    @property
    def max_depth(self) -> int:
        """Blocks of the deepest stage at full depth."""
        return self.depth_choices[-1]

    @property
    def blocks(self) -> int:
        """Places of elastic blocks, as many in each stage; where a stage has fewer, its last ones stay empty."""
        return self.stages * self.max_depth

    def block_index(self, stage: int, position: int) -> int:
        """Number of an elastic block, from 1 (0 is the fixed first block), as in OFA's state dict."""
        return 1 + stage * self.max_depth + position

    @cached_property
    def cardinality(self) -> int:
        """Number of distinct subnets."""
        subnets = len(self.resolutions)
        for stage in range(self.stages):
            per_block = len(self.kernels_of(stage)) * len(self.expands_of(stage))
            subnets *= sum(per_block**depth for depth in self.depths_of(stage))
        return subnets

    def choose_resolutions(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        """The wanted resolutions in ascending order, or all.

        Raises:
            UserError: one is not in the space.
        """
        for resolution in wanted or ():
            if resolution not in self.resolutions:
                raise UserError(
                    f"resolution {resolution} is not in space {self.name}",
                    f"choose from {', '.join(map(str, self.resolutions))}",
                )
        return tuple(sorted(set(wanted))) if wanted else self.resolutions

    def lift(self, genomes: Genomes, drawn: SearchSpace) -> Genomes:
        """Genomes of this space for those of the same space with fewer resolutions."""
        lifted = genomes.copy()
        lifted[:, 0] = np.asarray([self.resolutions.index(size) for size in drawn.resolutions])[genomes[:, 0]]
        return lifted

    # Configs ------------------------------------------------------------------------------------------------

    def uniform(self, resolution: int, depth: int, kernel_size: int, expand_ratio: int) -> SubnetConfig:
        """The subnet with the same choice everywhere, or the nearest that a stage has."""

        def stage(number: int) -> tuple[tuple[int, int], ...]:
            kernel = min(kernel_size, self.kernels_of(number)[-1])
            expand = min(expand_ratio, self.expands_of(number)[-1])
            return ((kernel, expand),) * min(max(depth, self.depths_of(number)[0]), self.depths_of(number)[-1])

        return SubnetConfig(resolution, tuple(map(stage, range(self.stages))))

    @cached_property
    def largest(self) -> SubnetConfig:
        """The subnet of all largest choices."""
        return self.uniform(self.resolutions[-1], self.max_depth, self.kernel_choices[-1], self.expand_choices[-1])

    @cached_property
    def smallest(self) -> SubnetConfig:
        """The subnet of all smallest choices."""
        return self.uniform(self.resolutions[0], self.depth_choices[0], self.kernel_choices[0], self.expand_choices[0])

    @cached_property
    def middle(self) -> SubnetConfig:
        """The subnet of all middle choices."""
        kernel, expand = (choices[len(choices) // 2] for choices in (self.kernel_choices, self.expand_choices))
        resolution = self.resolutions[len(self.resolutions) // 2]
        return self.uniform(resolution, self.depth_choices[len(self.depth_choices) // 2], kernel, expand)

    def validate(self, config: SubnetConfig) -> SubnetConfig:
        """Return the config if it lies in the space.

        Raises:
            UserError: it does not; names the first choice outside the space.
        """
        if config.resolution not in self.resolutions:
            raise UserError(
                f"resolution {config.resolution} is not in space {self.name}",
                f"choose one of {', '.join(map(str, self.resolutions))}",
            )
        if len(config.stages) != self.stages:
            raise UserError(f"{self.name} has {self.stages} stages, the subnet {config.key} has {len(config.stages)}")
        for number, stage in enumerate(config.stages, 1):
            depths, kernels, expands = (
                choices(number - 1) for choices in (self.depths_of, self.kernels_of, self.expands_of)
            )
            if len(stage) not in depths:
                raise UserError(f"stage {number} of {config.key}: depth {len(stage)} is not in {depths}")
            for kernel, expand in stage:
                if kernel not in kernels:
                    raise UserError(f"stage {number} of {config.key}: kernel {kernel} is not in {kernels}")
                if expand not in expands:
                    raise UserError(f"stage {number} of {config.key}: expand {expand} is not in {expands}")
        return config

    def parse(self, text: str) -> SubnetConfig:
        """Read ``largest``, ``smallest`` or a key, and check that it lies in the space.

        Raises:
            UserError: it is none of them.
        """
        named = {"largest": self.largest, "smallest": self.smallest}
        return named[text] if text in named else self.validate(SubnetConfig.parse(text))

    def to_ofa(self, config: SubnetConfig) -> Record:
        """OFA's arch dict; skipped positions carry the smallest choices."""
        kernels, expands = [], []
        for number, stage in enumerate(config.stages):
            skipped = self.depths_of(number)[-1] - len(stage)
            padded = stage + ((self.kernel_choices[0], self.expand_choices[0]),) * skipped
            kernels += [kernel for kernel, _ in padded]
            expands += [expand for _, expand in padded]
        return {"ks": kernels, "e": expands, "d": list(config.depths), "r": config.resolution}

    # Genomes ------------------------------------------------------------------------------------------------

    @cached_property
    def gene_sizes(self) -> NDArray[np.int8]:
        """Number of choices of each gene, shape (genes,)."""
        sizes = [len(self.resolutions)]
        sizes += [len(self.depths_of(stage)) for stage in range(self.stages)]
        sizes += [len(self.kernels_of(stage)) for stage in range(self.stages) for _ in range(self.max_depth)]
        sizes += [len(self.expands_of(stage)) for stage in range(self.stages) for _ in range(self.max_depth)]
        return np.asarray(sizes, dtype=np.int8)

    def split_genes(
        self, genomes: NDArray[Number]
    ) -> tuple[NDArray[Number], NDArray[Number], NDArray[Number], NDArray[Number]]:
        """Views of resolution (n,), depth (n, stages), kernel and expand (n, blocks) indices."""
        depth_end = 1 + self.stages
        kernel_end = depth_end + self.blocks
        return (
            genomes[:, 0],
            genomes[:, 1:depth_end],
            genomes[:, depth_end:kernel_end],
            genomes[:, kernel_end:],
        )

    def active_blocks(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Which blocks run, shape (n, blocks)."""
        depths = self.depth_values[np.arange(self.stages), self.split_genes(genomes)[1]]
        active = np.arange(self.max_depth) < depths[:, :, None]
        return active.reshape(len(genomes), self.blocks)

    def canonical(self, genomes: Genomes) -> Genomes:
        """Genomes with the genes of skipped blocks set to 0: equal exactly when the subnets are equal."""
        active = self.active_blocks(genomes)
        mask = np.ones(genomes.shape, dtype=np.int8)
        mask[:, 1 + self.stages :] = np.tile(active, 2)
        return genomes * mask

    def sample(self, rng: np.random.Generator, count: int) -> Genomes:
        """Canonical genomes with every gene drawn uniformly, shape (count, genes)."""
        drawn = rng.random((count, len(self.gene_sizes))) * self.gene_sizes
        return self.canonical(drawn.astype(np.int8))

    def mutate(self, rng: np.random.Generator, genomes: Genomes, probability: float) -> Genomes:
        """Redraw each gene with a probability; canonical."""
        redraw = rng.random(genomes.shape) < probability
        drawn = (rng.random(genomes.shape) * self.gene_sizes).astype(np.int8)
        return self.canonical(np.where(redraw, drawn, genomes).astype(np.int8))

    def cross(self, rng: np.random.Generator, first: Genomes, second: Genomes) -> Genomes:
        """Uniform crossover of paired rows; canonical."""
        take = rng.random(first.shape) < 0.5
        return self.canonical(np.where(take, first, second).astype(np.int8))

    def encode(self, genomes: Genomes) -> NDArray[np.float32]:
        """One-hot features, zero for skipped blocks (OFA's encoding).

        Shape (n, resolutions + blocks * kernels + blocks * expands).
        """
        resolution, _, kernel, expand = self.split_genes(genomes)
        active = self.active_blocks(genomes)[:, :, None]
        columns = [resolution[:, None] == np.arange(len(self.resolutions))]
        for choice, choices in ((kernel, self.kernel_choices), (expand, self.expand_choices)):
            chosen = (choice[:, :, None] == np.arange(len(choices))) & active
            columns.append(chosen.reshape(len(genomes), self.blocks * len(choices)))
        return np.concatenate(columns, axis=1).astype(np.float32)

    def genome(self, config: SubnetConfig) -> Genomes:
        """The canonical genome of a config, shape (genes,)."""
        row = np.zeros(len(self.gene_sizes), dtype=np.int8)
        resolution, depths, kernels, expands = self.split_genes(row[None])
        resolution[0] = self.resolutions.index(config.resolution)
        for stage, blocks in enumerate(config.stages):
            depths[0, stage] = self.depths_of(stage).index(len(blocks))
            for position, (kernel, expand) in enumerate(blocks):
                kernels[0, stage * self.max_depth + position] = self.kernel_choices.index(kernel)
                expands[0, stage * self.max_depth + position] = self.expand_choices.index(expand)
        return row

    def genomes(self, configs: list[SubnetConfig]) -> Genomes:
        """Canonical genomes of configs, shape (len(configs), genes)."""
        rows = [self.genome(config) for config in configs]
        return np.stack(rows) if rows else np.zeros((0, len(self.gene_sizes)), dtype=np.int8)

    def config(self, genome: Genomes) -> SubnetConfig:
        """The config of one genome row."""
        resolution, depths, kernels, expands = (part[0] for part in self.split_genes(genome[None]))
        stages = []
        for stage in range(self.stages):
            first = stage * self.max_depth
            active = range(first, first + self.depths_of(stage)[depths[stage]])
            stages.append(tuple((self.kernel_choices[kernels[i]], self.expand_choices[expands[i]]) for i in active))
        return SubnetConfig(self.resolutions[resolution], tuple(stages))

    def sample_configs(self, rng: np.random.Generator, count: int) -> list[SubnetConfig]:
        """Distinct random configs (fewer than ``count`` only if the space is smaller)."""
        configs: dict[str, SubnetConfig] = {}
        while len(configs) < min(count, self.cardinality):
            for row in self.sample(rng, count):
                config = self.config(row)
                if len(configs) < count:
                    configs.setdefault(config.key, config)
        return list(configs.values())
