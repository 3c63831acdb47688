"""Tables of blocks against sums and maxima taken block by block, and the fast sums of SubnetTable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.measurement.kernel_times import kernel_keys
from ofa_tvm.spaces import SPACES, get_space
from ofa_tvm.spaces.block_table import BlockMaximum, BlockTable
from ofa_tvm.spaces.subnet_table import KINDS, QUANTITIES, SubnetTable
from ofa_tvm.support.dtype import FLOAT32_BYTES

CIFAR = get_space("mbv3-cifar")
SHAPES = {
    **SPACES,
    "one block a stage": replace(CIFAR, depth_choices=(1,)),
    "five blocks a stage": replace(CIFAR, depth_choices=(1, 3, 5), kernel_choices=(3, 5), expand_choices=(2,)),
}


@pytest.fixture(params=SHAPES)
def space(request):
    return SHAPES[request.param]


def draw(space, columns=()):
    rng = np.random.default_rng(3)
    choices = len(space.kernel_choices) * len(space.expand_choices)
    fixed = rng.random((len(space.resolutions), *columns))
    blocks = rng.random((len(space.resolutions), space.blocks, 1 + choices, *columns))
    blocks[:, :, 0] = 0
    return fixed, blocks


def block_by_block(space, fixed, blocks, genomes, combine):
    resolution, _, kernel, expand = space.split_genes(genomes)
    choice = (1 + kernel * len(space.expand_choices) + expand) * space.active_blocks(genomes)
    rows = []
    for row, r in enumerate(resolution):
        total = fixed[r]
        for block in range(space.blocks):
            total = combine(total, blocks[r, block, choice[row, block]])
        rows.append(total)
    return np.array(rows)


@pytest.mark.parametrize("columns", [(), (3,)])
def test_sums_and_maxima_are_those_of_the_blocks(space, columns):
    genomes = space.sample(np.random.default_rng(1), 300)
    fixed, blocks = draw(space, columns)
    sums = BlockTable(space, fixed, blocks).sum(genomes)
    assert np.allclose(sums, block_by_block(space, fixed, blocks, genomes, np.add), rtol=1e-12)
    largest = BlockMaximum(space, fixed, blocks).largest(genomes)
    assert np.array_equal(largest, block_by_block(space, fixed, blocks, genomes, np.maximum))


def test_genes_of_skipped_blocks_and_the_number_of_subnets_do_not_matter():
    table = BlockTable(CIFAR, *draw(CIFAR))
    rng = np.random.default_rng(1)
    genomes = (rng.random((40_000, len(CIFAR.gene_sizes))) * CIFAR.gene_sizes).astype(np.int8)
    sums = table.sum(genomes)
    assert np.array_equal(sums, table.sum(CIFAR.canonical(genomes)))
    assert np.array_equal(sums[7000:7003], table.sum(genomes[7000:7003]))
    assert table.sum(genomes[:0]).shape == (0,)


def test_keeps_the_type():
    fixed, blocks = draw(CIFAR)
    genomes = CIFAR.sample(np.random.default_rng(1), 5)
    assert BlockTable(CIFAR, fixed.astype(np.float32), blocks.astype(np.float32)).sum(genomes).dtype == np.float32


def test_refuses_tables_of_another_space():
    fixed, blocks = draw(CIFAR)
    with pytest.raises(ValueError, match="do not fit space mbv3"):
        BlockTable(get_space("mbv3"), fixed, blocks)
    with pytest.raises(ValueError, match="do not fit"):
        BlockTable(CIFAR, fixed, blocks[:, :, 1:])


@pytest.mark.seconds(20)
def test_kernel_ms_is_the_sum_of_the_kinds(space):
    kernels = fused_kernels(space)
    table = SubnetTable(space, {key: 1e-9 * kernel.flops + 1e-3 for key, kernel in kernels.items()}, kernel_keys)
    genomes = space.sample(np.random.default_rng(2), 100)
    assert np.allclose(table.kernel_ms(genomes), table.quantities(genomes)[:, : len(KINDS)].sum(axis=1), rtol=1e-12)
    assert not SubnetTable(space).kernel_ms(genomes).any()


@pytest.mark.seconds(20)
def test_peak_activation_is_that_of_the_network(space):
    table = SubnetTable(space)
    configs = [space.smallest, space.largest, *space.sample_configs(np.random.default_rng(4), 40)]
    peaks = table.peak_activation_bytes(space.genomes(configs))
    assert peaks.dtype == np.int64
    assert peaks.tolist() == [space.network(config).peak_activation_bytes for config in configs]
    assert len(set(peaks)) >= len(space.resolutions)


def test_alive_bytes_of_each_layer():
    network = CIFAR.network(CIFAR.smallest)
    assert len(network.alive_bytes) == len(network.layers)
    first = network.layers[0]
    assert network.alive_bytes[0] == FLOAT32_BYTES * (3 * network.resolution**2 + first.out_elements)


def test_quantities_has_a_column_for_each_name():
    genomes = CIFAR.sample(np.random.default_rng(2), 3)
    assert SubnetTable(CIFAR).quantities(genomes).shape == (3, len(QUANTITIES))
