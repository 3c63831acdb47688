"""Which subnets a command line asks for."""

import numpy as np
import pytest

from ofa_tvm.spaces import get_space
from ofa_tvm.spaces.subnet_arguments import DEFAULT_RANDOM, choose_subnets
from ofa_tvm.support.errors import UserError

SPACE = get_space("mbv3-cifar")
NAMED = "r28.3x3-7x3-3x3.7x4-7x4-5x3.3x4-3x2"


def chosen(named=(), random=None, resolution=None, written=()):
    return [
        config.key for config in choose_subnets(SPACE, named, written, random, resolution, np.random.default_rng(0))
    ]


def test_named_ones_come_first_and_random_ones_only_where_wanted():
    assert chosen([NAMED]) == [NAMED]
    both = chosen([NAMED], random=2, resolution=24)
    assert both[0] == NAMED
    assert [key[:4] for key in both[1:]] == ["r24."] * 2
    assert len(chosen()) == DEFAULT_RANDOM


def test_no_subnet_at_all_is_bad_input():
    with pytest.raises(UserError, match="no subnet is named and none is drawn"):
        chosen(random=0)
    assert chosen([NAMED], random=0) == [NAMED]


def test_those_of_files_come_after_the_named_ones(tmp_path):
    path = tmp_path / "some.json"
    path.write_text(f'["{SPACE.smallest.key}", "{SPACE.largest.key}"]')
    assert chosen([NAMED], written=[str(path)]) == [NAMED, SPACE.smallest.key, SPACE.largest.key]
    assert len(chosen(written=[str(path)], random=1)) == 3
