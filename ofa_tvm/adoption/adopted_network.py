"""A model as a network: its operators rewritten, its last softmax left out, and what remains as layers."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_tvm.adoption.kinds import INTERMEDIATE, KINDS, PROBABILITIES, refuse_others
from ofa_tvm.adoption.layers import Lowering, Weights
from ofa_tvm.adoption.operators import OperatorGraph, reading, refused
from ofa_tvm.adoption.rewrites import rewrite
from ofa_tvm.adoption.squeeze_excite import VIEWS
from ofa_tvm.graph.network import NetworkSpec


@dataclass(frozen=True)
class AdoptedNetwork:
    """A model as a network.

    Args:
        network: its layers.
        weights: folded, see ``graph.weights``.
        logits: name of the model's tensor that the network gives: what a last softmax reads.
        has_softmax: whether the model ends in one, which the network leaves out.
    """

    network: NetworkSpec
    weights: Weights
    logits: str
    has_softmax: bool


def adopt_operators(graph: OperatorGraph) -> AdoptedNetwork:
    """Read a model's operators as layers.

    Raises:
        UserError: an operator cannot be taken; names it, and what would have to change.
    """
    with reading("the model", "export it again"):
        refuse_others(graph, {*KINDS, *INTERMEDIATE})
        rewrite(graph)
        refuse_others(graph, KINDS)
        has_softmax = _drop_probabilities(graph)
        return AdoptedNetwork(*Lowering(graph).result(), graph.output, has_softmax)


def _drop_probabilities(graph: OperatorGraph) -> bool:
    last = graph.producer(graph.output)
    while last is not None and last.kind in VIEWS and _is_vector(graph, last.inputs[0]):
        graph.remove(last)
        last = graph.producer(graph.output)
    if last is None or last.kind not in PROBABILITIES:
        return False
    shape = graph.shapes.get(last.inputs[0], ())
    axis = last.attributes.get("axis", -1)
    is_over_classes = len(shape) == 2 and axis in (1, -1)
    is_over_classes = is_over_classes or (len(shape) == 4 and axis in (1, -3))
    if not is_over_classes:
        raise refused(last, f"it is over axis {axis} of {shape}", "a softmax over the classes is taken")
    graph.remove(last)
    return True


def _is_vector(graph: OperatorGraph, name: str) -> bool:
    shape = graph.shapes.get(name, ())
    return len(shape) in (2, 4) and all(size == 1 for size in shape[2:])
