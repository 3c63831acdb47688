"""Emitted kernels agree with the unscheduled TensorIR of the same kernel, whole and odd tiles alike."""

import numpy as np
import pytest

from ofa_tvm.compiler.emit.expand_depthwise import ExpandTile, expand_depthwise
from ofa_tvm.compiler.emit.pointwise import PointwiseTile, pointwise
from ofa_tvm.compiler.emit.vector_ir import Vector, pack_panels, vectors
from ofa_tvm.compiler.emit.window import WindowTile, depthwise, full_window
from ofa_tvm.compiler.kernel_tir import kernel_workload
from ofa_tvm.compiler.tvm_import import IRModule, Target, tvm
from ofa_tvm.kernels import KernelSpec

TARGET = Target({"kind": "llvm", "num-cores": 1})


def arrays(spec, seed=0):
    """Random arguments of a kernel without its output, in the shapes of its spec."""
    rng = np.random.default_rng(seed)
    shapes = [spec.input_shape]
    shapes += [(spec.batch, 1, 1, spec.in_channels)] if spec.scaled else []
    shapes += list(spec.weight_shapes)
    shapes += [spec.output_shape] if spec.residual else []
    return [rng.standard_normal(shape).astype(np.float32) / 4 for shape in shapes]


def call(function, inputs, *sizes):
    """Outputs of a function with flat arguments."""
    name = function.attrs["global_symbol"]
    built = tvm.compile(IRModule({name: function}), TARGET)
    outputs = [tvm.runtime.tensor(np.full(size, np.nan, np.float32)) for size in sizes]
    built[name](*(tvm.runtime.tensor(np.ascontiguousarray(array).ravel()) for array in inputs), *outputs)
    return [output.numpy() for output in outputs]


def expected(spec, inputs):
    """What the unscheduled kernel makes of its arguments, in the spec's shape."""
    built = tvm.compile(kernel_workload(spec), Target({"kind": "llvm"}))
    output = tvm.runtime.tensor(np.zeros(spec.output_shape, np.float32))
    built["main"](*(tvm.runtime.tensor(array) for array in inputs), output)
    return output.numpy()


def assert_close(found, wanted):
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_vectors_cover_the_channels():
    assert vectors(40, 16) == (Vector(0, 16), Vector(16, 16), Vector(32, 8))
    assert vectors(7, 16) == (Vector(0, 4), Vector(4, 2), Vector(6, 1))


def test_panels_of_panels():
    weight = np.arange(10, dtype=np.float32).reshape(2, 5)
    assert pack_panels(weight, 3).tolist() == [0, 1, 2, 5, 6, 7, 3, 4, 8, 9]
    assert pack_panels(weight, 3, 2).tolist() == [0, 1, 5, 6, 2, 7, 3, 4, 8, 9]


@pytest.mark.parametrize("outer", ["pixels", "channels"])
@pytest.mark.parametrize(("pixels", "channels", "lanes"), [(4, 16, 16), (7, 24, 8), (5, 16, 4), (49, 40, 16)])
def test_pointwise(outer, pixels, channels, lanes):
    spec = KernelSpec("conv", 12, 40, 6, activation="hard_swish", bias=True, residual=True)
    inputs = arrays(spec)
    packed = [inputs[0], pack_panels(inputs[1][0, 0], channels), *inputs[2:]]
    function = pointwise(spec, PointwiseTile(pixels, channels, outer), lanes)
    assert_close(call(function, packed, 36 * 40)[0], expected(spec, inputs))


@pytest.mark.parametrize("depth", [16, 23])
def test_pointwise_scales_its_input(depth):
    spec = KernelSpec("conv", depth, 24, 5, bias=True, scaled=True)
    inputs = arrays(spec)
    packed = [*inputs[:2], pack_panels(inputs[2][0, 0], 16), *inputs[3:]]
    function = pointwise(spec, PointwiseTile(4, 16), 16)
    assert_close(call(function, packed, 25 * 24)[0], expected(spec, inputs))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize(("size", "columns"), [(14, 4), (7, 7), (5, 2), (3, 3)])
def test_depthwise(size, columns, kernel_size, stride):
    spec = KernelSpec("depthwise", 24, 24, size, kernel_size, stride, activation="relu", bias=True)
    inputs = arrays(spec)
    function = depthwise(spec, WindowTile(columns, 16), 16)
    assert_close(call(function, inputs, spec.out_size**2 * 24)[0], expected(spec, inputs))


@pytest.mark.parametrize(("size", "stride", "columns", "channels"), [(16, 2, 4, 16), (12, 1, 5, 8), (9, 2, 3, 12)])
def test_stem(size, stride, columns, channels):
    spec = KernelSpec("conv", 3, 20, size, 3, stride, activation="hard_swish", bias=True)
    inputs = arrays(spec)
    packed = [inputs[0], pack_panels(inputs[1].reshape(27, 20), channels), inputs[2]]
    function = full_window(spec, WindowTile(columns, channels), 16)
    assert_close(call(function, packed, spec.out_size**2 * 20)[0], expected(spec, inputs))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize(
    ("size", "tile"),
    [
        (10, ExpandTile(16, PointwiseTile(4, 16), WindowTile(3, 16))),
        (7, ExpandTile(40, PointwiseTile(7, 24), WindowTile(7, 32))),
        (4, ExpandTile(32, PointwiseTile(3, 8), WindowTile(2, 8))),
    ],
)
def test_expand_depthwise(size, kernel_size, stride, tile):
    expand = KernelSpec("conv", 12, 40, size, activation="hard_swish", bias=True)
    window = KernelSpec("depthwise", 40, 40, size, kernel_size, stride, activation="hard_swish", bias=True)
    first = arrays(expand)
    rest = arrays(window, 1)[1:]
    wanted = expected(window, [expected(expand, first), *rest])
    packed = [first[0], pack_panels(first[1][0, 0], tile.channels, tile.expand.channels), first[2], *rest]
    function = expand_depthwise("pair", expand, window, tile, 16, pooled=True)
    found, sums = call(function, packed, window.out_size**2 * 40, 40)
    assert_close(found, wanted)
    assert_close(sums, wanted.sum((0, 1, 2)))


def test_what_is_no_such_kernel_is_refused():
    strided = KernelSpec("conv", 8, 16, 8, stride=2)
    with pytest.raises(ValueError, match="no 1x1 convolution of stride 1"):
        pointwise(strided, PointwiseTile(4, 16), 16)
    with pytest.raises(ValueError, match="no depthwise"):
        depthwise(strided, WindowTile(4, 16), 16)
    with pytest.raises(ValueError, match="does not read the output"):
        expand_depthwise(
            "pair",
            KernelSpec("conv", 8, 16, 8),
            KernelSpec("depthwise", 24, 24, 8, 3),
            ExpandTile(16, PointwiseTile(4, 16), WindowTile(4, 16)),
            16,
            pooled=False,
        )
