"""Emitted kernels against the tuned ones of this machine's log, isolated: ``python benchmarks/emitted_kernels.py``.

For some kernels of `mbv3` at 224 px the best of a handful of tiles and the log's winner are timed in turn. Tune
first (``python -m ofa_tvm.tune --space mbv3 --resolution 224 --minutes 4``); nothing else should run meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from ofa_tvm.compiler.emit.expand_depthwise import ExpandTile, expand_depthwise
from ofa_tvm.compiler.emit.pointwise import PointwiseTile, pointwise
from ofa_tvm.compiler.emit.window import WindowTile, depthwise, full_window
from ofa_tvm.compiler.tvm_import import IRModule, Target, tvm
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.targets import load_target
from ofa_tvm.threads import use_threads
from ofa_tvm.tuner.jobs import trial
from ofa_tvm.tuner.log import TuningLog

LANES = 16
REGISTERS = 32
ROUNDS = 3
PROJECTIONS = ((112, 16, 16, 1, 0), (56, 64, 24, 0, 0), (56, 96, 24, 1, 0), (28, 96, 40, 0, 1), (28, 160, 40, 1, 1))
PROJECTIONS += (
    (14, 160, 80, 0, 0),
    (14, 320, 80, 1, 0),
    (14, 448, 112, 1, 1),
    (7, 448, 160, 0, 1),
    (7, 640, 160, 1, 1),
)
PAIRS = ((112, 16, 64, 3, 2), (112, 16, 64, 7, 2), (56, 24, 96, 3, 1), (56, 24, 144, 5, 2), (28, 40, 160, 5, 1))
PAIRS += ((28, 40, 240, 7, 2), (14, 80, 320, 3, 1), (14, 112, 448, 7, 1), (14, 112, 672, 5, 2), (7, 160, 960, 7, 1))


def timer(function: Any, target: Any, sizes: list[int]) -> Callable[[], float]:
    """A call that times a function with flat arguments of these sizes: microseconds of the fastest repeat."""
    rng = np.random.default_rng(0)
    arrays = [tvm.runtime.tensor(rng.standard_normal(size).astype(np.float32)) for size in sizes]
    name = function.attrs["global_symbol"]
    built = tvm.compile(IRModule({name: function}), target)
    evaluator = built.mod.time_evaluator(name, tvm.cpu(), number=1, repeat=5, min_repeat_ms=5)
    return lambda: 1e6 * min(evaluator(*arrays).results)


def fastest(functions: Iterable[Any], target: Any, sizes: list[int]) -> Callable[[], float]:
    """The timer of the fastest of some functions."""
    return min((timer(function, target, sizes) for function in functions), key=lambda time_us: time_us())


def fits(pixels: int, channels: int) -> bool:
    """Whether a register tile leaves room for its weights."""
    wide = -(-channels // LANES)
    return 8 <= pixels * wide <= REGISTERS - wide - 1


def main() -> None:
    """Time and print a table."""
    spec = load_target("x86", 1)
    use_threads(1)
    target = Target(spec.attributes)
    known = TuningLog(spec).kernels

    def tuned_us(kernel: KernelSpec) -> float:
        schedule = known[kernel.key].schedule or {}
        return 1e3 * min(trial(asdict(kernel), schedule, dict(spec.attributes), 5, 5, 0.0)["times_ms"])

    def show(name: str, kernels: tuple[KernelSpec, ...], emitted_us: Callable[[], float]) -> None:
        rounds = [(emitted_us(), sum(map(tuned_us, kernels))) for _ in range(ROUNDS)]
        ours, before = (min(times) for times in zip(*rounds, strict=True))
        rate = sum(kernel.flops for kernel in kernels) / ours / 1e3
        print(f"| {name} | {ours:.1f} | {rate:.0f} | {before:.1f} | {before / ours:.2f} |", flush=True)

    print("| kernel | emitted us | GFLOP/s | tuned schedules us | ratio |\n| --- | --- | --- | --- | --- |")
    for size, depth, outputs, residual, scaled in PROJECTIONS:
        kernel = KernelSpec("conv", depth, outputs, size, bias=True, residual=bool(residual), scaled=bool(scaled))
        widths = [width for width in (16, 24, 32, 40, 80) if width <= outputs]
        tiles = [PointwiseTile(p, c) for p, c in itertools.product((4, 5, 7, 8, 10, 14), widths) if fits(p, c)]
        area = size * size
        arguments = [area * depth, *([depth] if scaled else []), depth * outputs, outputs]
        arguments += [area * outputs] * (1 + residual)
        show(
            kernel.key,
            (kernel,),
            fastest((pointwise(kernel, tile, LANES) for tile in tiles), target, arguments),
        )
    for size, depth, channels, window, stride in PAIRS:
        activation: Any = "relu" if size >= 56 or (size, depth, channels) == (28, 40, 160) else "hard_swish"
        expand = KernelSpec("conv", depth, channels, size, activation=activation, bias=True)
        deep = KernelSpec("depthwise", channels, channels, size, window, stride, activation=activation, bias=True)
        pairs = [
            ExpandTile(block, PointwiseTile(pixels, panel), WindowTile(columns, 16))
            for block, panel, pixels, columns in itertools.product((16, 32, 48), (16, 32, 48), (7, 14), (7, 14))
            if panel <= block and fits(pixels, panel) and columns <= deep.out_size
        ]
        arguments = [size**2 * depth, depth * channels, channels, window**2 * channels, channels]
        arguments.append(deep.out_size**2 * channels)
        show(
            f"{expand.key} + k{window}s{stride}",
            (expand, deep),
            fastest(
                (expand_depthwise("pair", expand, deep, tile, LANES, pooled=False) for tile in pairs), target, arguments
            ),
        )
    stem = KernelSpec("conv", 3, 16, 224, 3, 2, activation="hard_swish", bias=True)
    columns = [WindowTile(c, 16) for c in (4, 7, 8, 14)]
    sizes = [224**2 * 3, 27 * 16, 16, 112**2 * 16]
    show(stem.key, (stem,), fastest((full_window(stem, tile, LANES) for tile in columns), target, sizes))
    first = KernelSpec("depthwise", 16, 16, 112, 3, 1, activation="relu", bias=True)
    sizes = [112**2 * 16, 9 * 16, 16, 112**2 * 16]
    show(first.key, (first,), fastest((depthwise(first, tile, LANES) for tile in columns), target, sizes))


if __name__ == "__main__":
    main()
