"""Int8 kernels compute the reference bit for bit, on each instruction set, alone and shared by threads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.emit import EmittedKernel, candidates
from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_order import dealt_order, groups, pack_words
from ofa_tvm.compiler.cpu.emit.row_ring import Phases
from ofa_tvm.compiler.cpu.kernel_runner import KernelRunner
from ofa_tvm.compiler.cpu.object_cache import ObjectCache, generate
from ofa_tvm.compiler.loaded_model import load_anew
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import compute, network_logits, random_inputs
from ofa_tvm.graph.onnx_export import to_onnx
from ofa_tvm.graph.quantisation import QuantisedTensor, untrained_weights
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.classifier import Classifier
from ofa_tvm.spaces import SPACES
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.quantise import Observer
from ofa_tvm.support.errors import UserError

NEEDS = {
    "haswell": {"avx2", "fma"},
    "skylake-avx512": {"avx512bw", "avx512vl"},
    "cascadelake": {"avx512_vnni", "avx512vl"},
}
"""Instruction sets with code of their own, and what a machine needs to run it."""


def int8(kind: Any, inputs: int, outputs: int, size: int, **how: Any) -> KernelSpec:
    bias = kind not in ("pool", "quantise", "dequantise")
    return KernelSpec(kind, inputs, outputs, size, dtype="int8", bias=bias, **how)


KERNELS = [
    int8("conv", 12, 40, 6, activation="hard_swish"),
    int8("conv", 144, 24, 5, residual=True),
    int8("conv", 40, 56, 7, scaled=True, residual=True),
    int8("conv", 24, 80, 5, activation="relu"),
    int8("conv", 160, 24, 12, scaled=True),
    int8("conv", 16, 72, 5, activation="hard_swish", pooled=True),
    int8("dense", 96, 40, 1, activation="relu"),
    int8("dense", 40, 96, 1, activation="hard_sigmoid"),
    int8("dense", 64, 200, 1, activation="hard_swish"),
    int8("dense", 48, 10, 1),
    int8("dense", 48, 71, 1, activation="relu6"),
    int8("depthwise", 16, 16, 14, kernel_size=3, activation="relu"),
    int8("depthwise", 40, 40, 9, kernel_size=5, stride=2, activation="hard_swish", pooled=True),
    int8("depthwise", 24, 24, 8, kernel_size=3, stride=2, activation="relu6", shifted=True),
    int8("depthwise", 8, 8, 3, kernel_size=7, activation="none"),
    int8("expand_depthwise", 12, 40, 10, kernel_size=5, activation="relu", pooled=True),
    int8("expand_depthwise", 16, 96, 7, kernel_size=3, activation="hard_swish"),
    int8("expand_depthwise", 16, 72, 7, kernel_size=7, stride=2, activation="hard_swish", pooled=True),
    int8("expand_depthwise", 24, 64, 6, kernel_size=5, stride=2, activation="relu6", shifted=True),
    int8("expand_depthwise", 8, 48, 2, kernel_size=7, activation="relu"),
    int8("expand_depthwise", 160, 32, 4, kernel_size=3, activation="relu"),
    int8("conv", 3, 16, 17, kernel_size=3, stride=2, activation="hard_swish"),
    int8("conv", 1, 24, 6, kernel_size=5, activation="relu"),
    int8("conv", 3, 40, 12, kernel_size=3, stride=2, activation="relu6", shifted=True),
    int8("pool", 40, 40, 5),
    int8("quantise", 76, 76, 5),
    int8("dequantise", 76, 76, 5),
]


def cache_for(mcpu: str, threads: int, folder: Path) -> ObjectCache:
    return ObjectCache({"kind": "llvm", "mcpu": mcpu, "num-cores": threads}, folder)


@pytest.mark.seconds(40)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mcpu", NEEDS)
def test_kernels_are_the_reference_bit_for_bit(mcpu, threads, tmp_path):
    if not NEEDS[mcpu] <= cpu_flags():
        pytest.skip(f"this machine cannot run code for {mcpu}")
    cache = cache_for(mcpu, threads, tmp_path)
    for spec in KERNELS:
        inputs = random_inputs(spec)
        expected = compute(spec, inputs)
        assert len(np.unique(expected[0])) > 5
        schedules = candidates(spec, cache.features)
        for schedule in (schedules[0], schedules[-1]):
            runner = KernelRunner(cache.kernel(spec, schedule), cache.get(spec, schedule), threads)
            for output, other in zip(runner.run(inputs), expected, strict=True):
                np.testing.assert_array_equal(output, other, err_msg=f"{spec.key} {schedule}")


@pytest.mark.parametrize(("mcpu", "instruction"), [("cascadelake", "vpdpbusd"), ("alderlake", "vpdpbusd")])
def test_dot_products_are_instructions(mcpu, instruction, tmp_path):
    cache = cache_for(mcpu, 1, tmp_path)
    for spec in (KERNELS[0], KERNELS[16]):
        assert instruction in generate(cache.kernel(spec), cache.target).inspect_source("s")


@pytest.mark.parametrize(("mcpu", "product"), [("cortex-a76", "sdot"), ("neoverse-n2", "usmmla")])
def test_code_for_arm_has_its_instructions_and_few_copies(mcpu, product, tmp_path):
    attributes = {"kind": "llvm", "mcpu": mcpu, "mtriple": "aarch64-linux-gnu", "num-cores": 1}
    cache = ObjectCache(attributes, tmp_path)
    spec = int8("expand_depthwise", 64, 96, 14, kernel_size=5, activation="hard_swish", pooled=True)
    lines = [line.split() for line in generate(cache.kernel(spec), cache.target).inspect_source("s").splitlines()]
    used = Counter(line[0] for line in lines if line)
    assert used[product] >= 32
    assert used["fminnm"] == used["fmaxnm"] > 0
    assert not used["fcmgt"]
    copies = sum(line[0] == "mov" and line[1].startswith("v") and line[2].endswith(".16b") for line in lines if line)
    assert copies < used["fmla"] / 2


@pytest.mark.parametrize("device", ["estimate", "pack", "rpc:127.0.0.1:9190"])
def test_a_target_without_the_instructions_is_told(device):
    target = load_target("raspberry-pi-4", device=device, dtype="int8")
    with pytest.raises(UserError, match="cortex-a72 has no instructions for int8"):
        codegen_of(target)


def test_a_cpu_without_the_instructions_is_told(tmp_path):
    with pytest.raises(ValueError, match="int8 kernels need AVX2"):
        candidates(KERNELS[0], CpuFeatures(4, 16, 1))


@pytest.mark.parametrize("size", [3, 17, 24, 100_000])
def test_tiles_that_cannot_be_are_refused(size):
    features = CpuFeatures(16, 32, 1, "vnni")
    for spec in (KERNELS[5], KERNELS[15]):
        schedule = candidates(spec, features)[0]
        sizes = {name: size if isinstance(value, int) else value for name, value in schedule["parameters"].items()}
        with pytest.raises(ValueError, match="does not suit"):
            EmittedKernel(spec, {**schedule, "parameters": sizes}, features)


@pytest.mark.parametrize(("width", "lanes"), [(64, 16), (40, 16), (12, 16), (72, 8), (20, 4)])
def test_dealt_channels_are_each_once(width, lanes):
    assert sorted(dealt_order(width, lanes)) == list(range(width))
    assert sum(group.width for group in groups(width, lanes)) == width
    assert sorted(dealt_order(width, lanes, 24, 8)) == list(range(width))


def test_words_hold_four_inputs_of_an_output():
    matrix = np.arange(10, dtype=np.int8).reshape(5, 2)
    assert pack_words(matrix, CpuFeatures(8, 16, 1, "vnni"), 2).reshape(2, 4, 4)[:, :2].tolist() == [
        [[0, 2, 4, 6], [1, 3, 5, 7]],
        [[8, 0, 0, 0], [9, 0, 0, 0]],
    ]


def test_words_hold_two_inputs_where_only_16_bits_are_multiplied():
    matrix = np.arange(-5, 5, dtype=np.int8).reshape(5, 2)
    packed = pack_words(matrix, CpuFeatures(8, 16, 1, "madd"), 2).view(np.int16)
    assert packed.reshape(4, 4, 2)[:, :2].tolist() == [
        [[-5, -3], [-4, -2]],
        [[-1, 1], [0, 2]],
        [[3, 0], [4, 0]],
        [[0, 0], [0, 0]],
    ]


@pytest.mark.parametrize("dot", ["vnni", "madd"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_each_tap_of_a_window_is_in_one_word(kernel_size, shifted, dot):
    spec = int8("depthwise", 8, 8, 8, kernel_size=kernel_size, stride=2 if shifted else 1, shifted=shifted)
    phases = Phases(spec, CpuFeatures(8, 16, 1, dot))
    words = phases.pack(np.ones((kernel_size, kernel_size, 8), np.int8))
    assert words.size == 4 * phases.words()
    words = words.reshape(len(phases.pairs()), -1)
    for phase in range(phases.count):
        of_phase = [index for index, (own, _) in enumerate(phases.pairs()) if own == phase]
        assert words[of_phase].sum() == kernel_size**2 * 8


@pytest.mark.parametrize("name", ["mbv3-cifar", "efficientnet-lite", "proxyless"])
def test_a_quantised_network_computes_nearly_the_same(name):
    space = SPACES[name]
    network = space.network(space.smallest)
    images = np.random.default_rng(0).standard_normal((1, network.resolution, network.resolution, 3), np.float32)
    exact, levels = (network_logits(network, untrained_weights(network, dtype), images) for dtype in DTYPES)
    assert np.corrcoef(exact.ravel(), levels.ravel())[0, 1] > 0.99


DTYPES: tuple[Any, ...] = ("float32", "int8")


@pytest.mark.parametrize("name", ["mbv3-cifar", "efficientnet-lite"])
def test_a_library_computes_the_reference_bit_for_bit(name, tmp_path):
    space, target = SPACES[name], load_target("x86")
    network = space.network(space.smallest)
    weights = untrained_weights(network, "int8")
    images = np.random.default_rng(0).standard_normal((2, network.resolution, network.resolution, 3), np.float32)
    library = tmp_path / "subnet.so"
    assemble(network, weights, {}, ObjectCache(target.attributes), library, 2, target.toolchain.linker)
    np.testing.assert_array_equal(load_anew(library)(images), network_logits(network, weights, images))


def test_scales_come_from_calibration_images(tiny_space, tiny_dataset):
    torch.manual_seed(0)
    supernet, config = Supernet(tiny_space).eval(), tiny_space.largest
    evaluator = Evaluator(tiny_dataset, tiny_dataset.validation, dtype="int8")
    subnet = evaluator.subnet(supernet, config)
    scaled = preprocess(to_tensor(tiny_dataset.test.images), tiny_dataset.preprocess, config.resolution)
    images = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    exact = Classifier(subnet.network, subnet.folded(), load_target("x86"), {}, 1)(images)
    levels = Classifier(subnet.network, evaluator.weights(subnet), load_target("x86"), {}, 1)(images)
    assert np.corrcoef(exact.ravel(), levels.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("is_product", [False, True])
def test_scales_hold_every_value(is_product):
    values = torch.tensor([[0.0, 1.0], [-2.0, 16.0]]).reshape(2, 2, 1, 1)
    observer = Observer(QuantisedTensor("map", "none", 2, is_product))
    observer.see(values)
    arrays = observer.scales()
    ranges = 255 * arrays["map.scale"]
    assert ranges.tolist() == pytest.approx([np.sqrt(2 * 16), 16] if is_product else [2, 16])
    levels = np.rint(values.numpy().reshape(2, 2) / arrays["map.scale"]) + arrays["map.zero"]
    assert levels.min() >= 0
    assert levels.max() <= 255


def test_onnx_has_the_same_levels():
    space = SPACES["mbv3-cifar"]
    network = space.network(space.largest)
    weights = untrained_weights(network, "int8")
    images = np.random.default_rng(0).standard_normal((1, network.resolution, network.resolution, 3), np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(to_onnx(network, weights).SerializeToString(), options)
    (logits,) = session.run(None, {"image": images.transpose(0, 3, 1, 2)})
    assert np.corrcoef(logits.ravel(), network_logits(network, weights, images).ravel())[0, 1] > 0.995
