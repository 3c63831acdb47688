"""Tensors that are alive together never share bytes, and others do."""

from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.compiler.assembly.memory_plan import ALIGNMENT, Lifetime, aligned, plan_memory

lifetimes = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=20)


@given(lifetimes)
def test_no_two_living_tensors_overlap(shapes):
    tensors = [Lifetime(str(i), size, first, first + length) for i, (size, first, length) in enumerate(shapes)]
    offsets, total = plan_memory(tensors)
    for one in tensors:
        start, end = offsets[one.name], offsets[one.name] + one.size_bytes
        assert start % ALIGNMENT == 0
        assert end <= total
        for other in tensors:
            if other is not one and other.first <= one.last and one.first <= other.last:
                begin = offsets[other.name]
                assert end <= begin or begin + other.size_bytes <= start
    assert total <= sum(aligned(tensor.size_bytes) for tensor in tensors)


def test_a_chain_needs_two_tensors_at_a_time():
    chain = [Lifetime(str(step), 1000, step, step + 1) for step in range(50)]
    assert plan_memory(chain)[1] == 2 * aligned(1000)


def test_nothing_needs_nothing():
    assert plan_memory([]) == ({}, 0)
