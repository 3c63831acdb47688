"""The supernet, its subnets, and the facts that NetworkSpec states about them."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F

from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.weights import weight_shapes
from ofa_tvm.spaces import SPACES
from ofa_tvm.spaces.own_model import fixed_model
from ofa_tvm.supernet import depthwise
from ofa_tvm.supernet.checkpoint import load_supernet, load_tensors, save_tensors
from ofa_tvm.supernet.elastic import ElasticNorm, ElasticSqueezeExcite
from ofa_tvm.supernet.facts import FILE_NAME, SupernetFacts, checkpoint_path
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.sorting import sort_channels
from ofa_tvm.supernet.subnet import Norm, extract
from ofa_tvm.support import c_library as native
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.shipped import shipped_supernets

NAMES = [name for name in SPACES if name not in ("fused", "resnet50d", "resnet50d-w0.8")]
"""Of all spaces but larger ones of a family."""
every_space = pytest.mark.parametrize("name", NAMES)


def random_supernet(space):
    """A supernet whose norms, kernel matrices and biases are not at their trivial start."""
    torch.manual_seed(0)
    supernet = Supernet(space).eval()
    with torch.no_grad():
        for module in supernet.modules():
            if isinstance(module, ElasticNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        for name, parameter in supernet.named_parameters():
            if "matrices" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return supernet


@pytest.fixture(scope="module")
def supernets():
    return {name: random_supernet(SPACES[name]) for name in NAMES}


def some_configs(space, count):
    configs = space.sample_configs(np.random.default_rng(3), count)
    return [space.smallest, space.largest, *configs]


def images(resolution, count=2, seed=0):
    return torch.randn(count, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed))


def close(found, expected, tolerance=1e-4):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def run_folded(network, weights, inputs):
    """The layers as weights.py describes them, and nothing else."""
    tensors = {INPUT: inputs}
    arrays = {name: torch.from_numpy(array) for name, array in weights.items()}
    for spec in network.layers:
        x = tensors[spec.input]
        weight, bias = f"{spec.name}.weight", arrays.get(f"{spec.name}.bias")
        match spec.kind:
            case "conv":
                y = F.conv2d(F.pad(x, spec.pads * 2), arrays[weight], bias, spec.stride)
            case "depthwise":
                y = F.conv2d(F.pad(x, spec.pads * 2), arrays[weight], bias, spec.stride, groups=spec.out_channels)
            case "global_pool":
                y = x.mean((2, 3), keepdim=True)
            case "max_pool":
                y = F.max_pool2d(x, spec.kernel_size, spec.stride, spec.kernel_size // 2)
            case "average_pool":
                y = F.avg_pool2d(x, spec.kernel_size, spec.stride)
            case "linear":
                y = F.linear(x.flatten(1), arrays[weight], bias)
            case "squeeze_excite":
                part = {name: arrays[f"{spec.name}.{name}"] for name in ("reduce.weight", "expand.weight")}
                hidden = F.relu(F.linear(x.mean((2, 3)), part["reduce.weight"], arrays[f"{spec.name}.reduce.bias"]))
                scale = F.linear(hidden, part["expand.weight"], arrays[f"{spec.name}.expand.bias"])
                y = x * F.hardsigmoid(scale)[:, :, None, None]
        if spec.residual is not None:
            y = y + tensors[spec.residual]
        activations = {"none": lambda t: t, "relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish}
        y = activations[spec.activation](y)
        assert tuple(y.shape[1:]) in {(spec.out_channels, spec.out_size, spec.out_size), (spec.out_channels,)}
        tensors[spec.name] = y
    return tensors[network.layers[-1].name]


@every_space
@torch.inference_mode()
def test_supernet_subnet_and_folded_weights_agree(supernets, name):
    supernet = supernets[name]
    for config in some_configs(supernet.space, 3):
        inputs = images(config.resolution)
        expected = supernet(inputs, config)
        subnet = extract(supernet, config)
        close(subnet(inputs), expected)
        weights = subnet.folded()
        shapes = {name: shape for spec in subnet.network.layers for name, shape in weight_shapes(spec).items()}
        assert {name: array.shape for name, array in weights.items()} == shapes
        assert all(array.dtype == np.float32 for array in weights.values())
        close(run_folded(subnet.network, weights, inputs), expected)


@every_space
def test_subnet_owns_its_weights(supernets, name):
    supernet = supernets[name]
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    subnet = extract(supernet, supernet.space.smallest)
    subnet.calibrate([images(supernet.space.smallest.resolution, 4)])
    for tensor in [*subnet.parameters(), *subnet.buffers()]:
        tensor.data.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


@every_space
def test_sorting_keeps_the_largest_network_and_sorts(name):
    supernet = random_supernet(SPACES[name])
    largest = supernet.space.largest
    inputs = images(largest.resolution)
    with torch.inference_mode():
        before = supernet(inputs, largest)
        smallest_before = supernet(images(supernet.space.smallest.resolution), supernet.space.smallest)
    changed = sort_channels(supernet)
    with torch.inference_mode():
        close(supernet(inputs, largest), before)
        smallest = supernet(images(supernet.space.smallest.resolution), supernet.space.smallest)
    assert not torch.allclose(smallest, smallest_before)
    elastic = [spec.name for spec in supernet.space.network(largest).layers if spec.name.startswith("block")]
    for layer_name in elastic:
        layer = supernet.layers[layer_name]
        weight = None
        if isinstance(layer, ElasticSqueezeExcite):
            weight = layer.expand.weight
        elif layer_name.endswith("_project") and not layer_name.startswith("block0_"):
            weight = layer.weight
        if weight is not None:
            importance = weight.detach().double().abs().sum((0, 2, 3))
            assert (importance[:-1] >= importance[1:]).all(), layer_name
    again = sort_channels(supernet)
    assert len(again) == len(changed)
    for _, _, order in again:
        assert torch.equal(order, torch.arange(len(order)))


@torch.inference_mode()
def test_a_layers_name_alone_does_not_make_it_a_blocks():
    layers = [LayerSpec("stem", "conv", INPUT, 3, 8, 16, 3, activation="relu", bias=True)]
    layers += [LayerSpec("sum", "conv", "stem", 8, 8, 16, 3, bias=True, residual="stem")]
    layers += [LayerSpec("conv_project", "conv", "sum", 8, 8, 16, 3, bias=True)]
    layers += [LayerSpec("pool", "global_pool", "conv_project", 8, 8, 16), LayerSpec("head", "linear", "pool", 8, 3, 1)]
    network = NetworkSpec(16, 3, 3, tuple(layers))
    supernet = Supernet(fixed_model("named", network)).eval()
    before = supernet(images(16), network)
    sort_channels(supernet)
    close(supernet(images(16), network), before, 1e-6)


@every_space
def test_sorting_tells_how_to_move_what_is_kept_beside(name):
    supernet = random_supernet(SPACES[name])
    before = {id(t): t.detach().clone() for t in [*supernet.parameters(), *supernet.buffers()]}
    for tensor, dimension, order in sort_channels(supernet):
        before[id(tensor)] = before[id(tensor)].index_select(dimension, order)
    assert all(torch.equal(before[id(t)], t) for t in [*supernet.parameters(), *supernet.buffers()])


@every_space
@torch.inference_mode()
def test_spec_counts_what_torch_does(supernets, name, monkeypatch):
    supernet = supernets[name]
    counted = {"macs": 0}
    conv2d, linear = F.conv2d, F.linear

    def counting_conv2d(x, weight, *args, **kwargs):
        y = conv2d(x, weight, *args, **kwargs)
        counted["macs"] += y[0].numel() * weight[0].numel()
        return y

    def counting_linear(x, weight, *args):
        counted["macs"] += weight.numel()
        return linear(x, weight, *args)

    monkeypatch.setattr(F, "conv2d", counting_conv2d)
    monkeypatch.setattr(F, "linear", counting_linear)
    monkeypatch.setattr(depthwise, "_library", lambda: None)
    for config in some_configs(supernet.space, 2):
        network = supernet.space.network(config)
        subnet = extract(supernet, config)
        sizes = {INPUT: 3 * config.resolution**2}
        for layer_name, layer in subnet.layers.items():
            layer.register_forward_hook(
                lambda module, inputs, output, key=layer_name, into=sizes: into.update({key: output[0].numel()})
            )
        counted["macs"] = 0
        subnet(images(config.resolution, 1))
        assert network.macs == counted["macs"]
        learned = [t for key, t in subnet.state_dict().items() if "running" not in key]
        assert network.parameters == sum(tensor.numel() for tensor in learned)
        assert network.parameter_bytes == sum(array.nbytes for array in subnet.folded().values())
        assert {spec.name: spec.out_elements for spec in network.layers} == {
            key: size for key, size in sizes.items() if key != INPUT
        }
        assert network.peak_activation_bytes >= 4 * max(sizes.values())
        for spec in network.layers:
            assert network.peak_activation_bytes >= 4 * (sizes[spec.input] + sizes[spec.name])


@torch.inference_mode()
def test_recalibration_is_the_mean_over_batches(supernets):
    supernet = supernets["mbv3-cifar"]
    config = supernet.space.smallest
    subnet = extract(supernet, config)
    batches = [images(config.resolution, 8, seed) * (1 + seed) + seed for seed in range(3)]
    norms = {
        name: norm for name, layer in subnet.layers.items() if isinstance(norm := getattr(layer, "norm", None), Norm)
    }
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in norms}
    hooks = [
        norm.register_forward_pre_hook(lambda module, inputs, key=name: seen[key].append(inputs[0]))
        for name, norm in norms.items()
    ]
    for _ in range(2):
        for inputs in seen.values():
            inputs.clear()
        subnet.calibrate(batches)
        for name, norm in norms.items():
            means = torch.stack([x.mean((0, 2, 3)) for x in seen[name]])
            variances = torch.stack([x.var((0, 2, 3), correction=0) for x in seen[name]])
            assert len(means) == 3
            torch.testing.assert_close(norm.running_mean, means.mean(0), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(norm.running_var, variances.mean(0), rtol=1e-4, atol=1e-5)
    for hook in hooks:
        hook.remove()
    fixed = [norm.running_mean.clone() for norm in norms.values()]
    subnet(batches[0])
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms.values(), fixed, strict=True))


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(native, "c_compiler", lambda: None)
    native.native_library.cache_clear()
    native.optional_library.cache_clear()
    yield
    native.native_library.cache_clear()
    native.optional_library.cache_clear()


def gradients(convolution, channels, kernel_size, stride, size):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, channels, size, size, generator=generator).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, kernel_size, kernel_size, generator=generator)
    x.requires_grad_(), weight.requires_grad_()
    y = convolution(x, weight, stride, (kernel_size // 2,) * 2)
    (y * torch.randn(y.shape, generator=generator)).sum().backward()
    return y.detach(), x.grad, weight.grad


def reference(x, weight, stride, pads):
    return F.conv2d(x, weight, stride=stride, padding=pads[0], groups=len(weight))


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 2), (7, 1)])
def test_without_a_compiler_torch_does_it(no_compiler, kernel_size, stride):
    assert depthwise._library() is None
    found = gradients(depthwise.depthwise_conv2d, 16, kernel_size, stride, 9)
    for ours, theirs in zip(found, gradients(reference, 16, kernel_size, stride, 9), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_without_a_usable_cache_torch_does_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path / "file"))
    native.native_library.cache_clear()
    native.optional_library.cache_clear()
    assert depthwise._library() is None
    native.native_library.cache_clear()
    native.optional_library.cache_clear()


@pytest.mark.parametrize(("space", "name"), [(tiny.space(), "block1_depthwise"), (tiny.fused(), "block2_expand")])
def test_smaller_kernels_are_mapped_centres_of_larger_ones(space, name):
    layer = random_supernet(space).layers[name]
    seven, five, three = (
        layer.kernel(next(one for one in space.network(space.uniform(16, 2, size, 4)).layers if one.name == name))
        for size in (7, 5, 3)
    )
    assert torch.equal(seven, layer.weight)
    last = seven.shape[1] - 1
    torch.testing.assert_close(five[0, 0].flatten(), layer.matrices["5"] @ seven[0, 0, 1:-1, 1:-1].flatten())
    torch.testing.assert_close(three[3, last].flatten(), layer.matrices["3"] @ five[3, last, 1:-1, 1:-1].flatten())


def test_a_window_that_never_varies_has_nothing_to_map():
    layers = Supernet(tiny.fused()).layers
    mapped = [name for name in layers if any("matrices" in one for one, _ in layers[name].named_parameters())]
    assert mapped == [f"block{number}_expand" for number in (1, 2, 3, 4)]


def test_shipped_supernets_are_known_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in shipped_supernets():
        assert checkpoint_path(Path(folder.name)) == folder / FILE_NAME
        assert load_supernet(Path(folder.name))[0].space.name == folder.name
    assert checkpoint_path(Path("elsewhere") / "mbv3-cifar") == Path("elsewhere") / "mbv3-cifar"


def test_every_byte_of_a_checkpoints_weights_counts(tmp_path):
    path = tmp_path / "supernet.safetensors"
    facts = SupernetFacts("mbv3-cifar", "", ("cat", "dog"), Preprocess((0.5,) * 3, (0.25,) * 3))
    tensors = {"one": torch.arange(6.0), "two": torch.ones(3, 2), "count": torch.tensor(7)}
    save_tensors(path, tensors, facts)
    content = path.read_bytes()
    found, found_facts = load_tensors(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert found_facts == facts
    for place in range(len(content) - 56, len(content)):  # all weights
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match="its weights are not what their hash says"):
            load_tensors(path)
    path.write_bytes(content.replace(b"[3,2]", b"[2,3]"))
    with pytest.raises(UserError, match="its weights are not what their hash says"):
        load_tensors(path)


def test_equal_supernets_are_equal_files(tmp_path):
    facts = SupernetFacts("mbv3-cifar", "", ("cat", "dög"), Preprocess((0.5,) * 3, (0.25,) * 3))
    for number in range(4):
        save_tensors(tmp_path / f"{number}.safetensors", {"one": torch.arange(6.0), "two": torch.ones(3, 2)}, facts)
    (content,) = {path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert (8 + int.from_bytes(content[:8], "little")) % 8 == 0
    assert load_tensors(tmp_path / "0.safetensors")[1] == facts


def test_a_full_disk_is_the_systems_error_and_keeps_the_old_checkpoint(tmp_path):
    facts = SupernetFacts("mbv3-cifar", "tiny", tuple(map(str, range(10))), Preprocess((0.5,) * 3, (0.25,) * 3))
    path, limits = tmp_path / FILE_NAME, resource.getrlimit(resource.RLIMIT_FSIZE)
    save_tensors(path, {"weight": torch.arange(6.0)}, facts)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_tensors(path, {"weight": torch.zeros(10000)}, facts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "supernet.safetensors"
    facts = SupernetFacts("mbv3-cifar", "", ("cat", "dog"), Preprocess((0.5,) * 3, (0.25,) * 3))
    save_tensors(path, {"one": torch.tensor([1.0, float("nan")])}, facts)
    with pytest.raises(UserError, match="one holds numbers that are not finite"):
        load_tensors(path)


def test_a_shipped_checkpoint_is_what_its_manifest_says(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(shipped_supernets()[0], folder)
    load_tensors(folder / "supernet.safetensors")
    content = (folder / "supernet.safetensors").read_bytes()
    (folder / "supernet.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="its weights are not what their hash says"):
        load_tensors(folder / "supernet.safetensors")
