"""int8 networks with some layers in float32: their libraries, their ONNX files, and which blocks stay float32."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from ofa_tvm.bundle.precision import PrecisionByBlock
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import load_anew
from ofa_tvm.graph.mixed import kept_in_float32, units
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.onnx_export import to_onnx
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.quantise import quantised_weights
from ofa_tvm.supernet.subnet import extract
from ofa_tvm.support.errors import UserError
from ofa_tvm.tuner.log import TuningLog

needs_int8 = pytest.mark.skipif("avx2" not in cpu_flags(), reason="int8 needs AVX2")
SUBNET = "r12.5x4.3x2-7x4"


@pytest.fixture(scope="module")
def quantised(tiny_space):
    """A network, its weights in int8, and images."""
    network = tiny_space.network(tiny_space.parse(SUBNET))
    images = np.random.default_rng(0).standard_normal((4, 12, 12, 3)).astype(np.float32)
    return network, quantised_weights(network, random_weights(network), images), images


@needs_int8
@pytest.mark.parametrize(
    ("kept", "is_exact"),
    [(["final_expand"], True), (["stem", "block1_expand"], False), (["block0_project", "block3_se"], False)],
)
def test_a_library_computes_the_reference(quantised, tmp_path, kept, is_exact):
    """Up to levels that float32 sums in another order turn, which no level follows on the last layers."""
    network, weights, images = quantised
    mixed = kept_in_float32(network, weights, kept)
    attributes = load_target("x86", 1, dtype="int8").attributes
    assemble(network, mixed, {}, ObjectCache(attributes), tmp_path / "subnet.so", len(images), "gcc")
    expected = network_logits(network, mixed, images)
    found = load_anew(tmp_path / "subnet.so")(images)
    rounding = relative_error(expected, network_logits(network, random_weights(network), images))
    assert relative_error(found, expected) < (1e-5 if is_exact else rounding)
    assert relative_error(network_logits(network, weights, images), expected) > 1e-3


@pytest.mark.parametrize("kept", [["stem"], ["block1_expand", "final_expand"], ["block3_se"]])
def test_only_int8_layers_have_levels_in_onnx(quantised, kept):
    network, weights, images = quantised
    mixed = kept_in_float32(network, weights, kept)
    model = to_onnx(network, mixed, len(images))
    onnx.checker.check_model(model, full_check=True)
    in_float32 = {name for unit in units(network) if not set(unit).isdisjoint(kept) for name in unit}
    for array in model.graph.initializer:
        layer, _, rest = array.name.partition(".")
        if rest.endswith("weight.quantised"):
            assert layer not in in_float32
        elif rest.endswith("weight"):
            assert layer in in_float32
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images.transpose(0, 3, 1, 2)})
    expected = network_logits(network, mixed, images)
    rounding = relative_error(expected, network_logits(network, random_weights(network), images))
    assert relative_error(logits, expected) < rounding


@dataclass(frozen=True)
class Answers(PrecisionByBlock):
    """Answers that cost no time: each block in int8 turns some of them."""

    wrong: Any = None
    """By the first layer of a block: how many answers are wrong at least while it is int8."""

    def _logits(self, evaluator: Any, kept: Any) -> Any:
        logits = np.eye(4)[evaluator._labels.numpy()].astype(np.float32)
        turned = max((self.wrong.get(unit[0], 0) for unit in units(self.subnet.network) if unit not in kept), default=0)
        logits[:turned] = np.roll(logits[:turned], 1, axis=1)
        return logits

    def _time_ratio(self, mixed: Any) -> float:
        return 1.25


@pytest.fixture
def choosing(quantised, tiny_space, tiny_dataset, tmp_path):
    """What chooses blocks, for the answers that each of them turns."""
    _, weights, _ = quantised
    subnet = extract(Supernet(tiny_space), tiny_space.parse(SUBNET))
    target = load_target("x86", 1, dtype="int8")
    tuning_log = TuningLog(target, tmp_path)
    return lambda **wrong: Answers(tiny_dataset, subnet, weights, target, tuning_log, wrong)


def test_int8_that_holds_a_bound_stays_as_it_is(choosing):
    chosen = choosing()
    assert chosen.choose(0) == (chosen.weights, None)


def test_the_blocks_that_hurt_stay_float32(choosing):
    _, found = choosing(block1_expand=20, block3_expand=3).choose(0.3)
    assert found.blocks == ("block1",)
    assert {name for name, dtype in found.layers.items() if dtype == "float32"} == {
        "block1_expand",
        "block1_depthwise",
        "block1_project",
    }
    assert (found.of_blocks, found.images) == (6, 32)
    assert (found.int8_lost, found.lost) == (20 / 32, 3 / 32)
    assert found.words() == "int8 lost 62.50 points; 1 of 6 blocks stays float32: 9.38 points, 1.25 times the time"
    _, both = choosing(block1_expand=20, block3_expand=3).choose(0)
    assert set(both.blocks) == {"block1", "block3"}


def test_a_bound_that_only_float32_holds_is_refused(choosing):
    everywhere = dict.fromkeys((unit[0] for unit in units(choosing().subnet.network)), 5)
    with pytest.raises(UserError, match="no int8 network holds 0 points for sure") as refusal:
        choosing(**everywhere).choose(0)
    assert "--max-accuracy-drop" in refusal.value.hint
