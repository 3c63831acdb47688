"""Other engines for 64-bit ARM against this package where there is no board: estimates, not measurements.

``python benchmarks/arm_peers.py [--random 3] [--logs FOLDER] [--engines ort,ncnn,mnn,litert]``: every engine's process
runs under qemu once with few and once with more inferences, one thread; the difference of the counts is what one
inference executes, in the engine and in the libraries that it calls. Its cycles are those of the model that ARM
estimates use, its time includes reading the weights once. Outputs are compared before anything is counted.

``--dtype int8``: our int8 libraries against LiteRT's int8 (XNNPACK), and against both in float32. LiteRT's files are
written here, which takes ``pip install ai-edge-litert`` in this Python, too.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from arm_code import TRIPLE, Counts, NotComparable, Ranges, cost_of_one
from store import keep
from tuning import say

from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.runner_build import build_runner
from ofa_tvm.devices.emulation.emulator import emulator_folder, install_emulator
from ofa_tvm.devices.emulation.instruction_counts import count_code
from ofa_tvm.devices.estimate.device import EstimateDevice
from ofa_tvm.engines import ENGINES
from ofa_tvm.engines.base import Array, calibration_images
from ofa_tvm.engines.comparison import MAX_ERROR, Speedup
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import Winners
from ofa_tvm.graph.onnx_export import to_onnx
from ofa_tvm.graph.parity import check_parity, relative_error
from ofa_tvm.graph.weights import Weights, random_weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.supernet.quantise import quantised_weights
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.files import cache_folder, write_atomic
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.job import SubnetTiming, TunedSubnets
from ofa_tvm.tuner.log import TuningLog

OURS, DEFAULT, FLOAT = "ofa_tvm", "default", "float32"
"""Our libraries: with the tiles that tuning chose by the same estimate, with those of the ranking alone, in float32."""
LIBRARIES = (OURS, DEFAULT, FLOAT)
LITERT = ("litert", "litert-int8")
PEERS = {"ort": "onnxruntime", "ncnn": "ncnn", "mnn": "mnn", LITERT[0]: "ai-edge-litert"}
COMPARED: dict[DType, tuple[str, ...]] = {"float32": tuple(PEERS), "int8": (FLOAT, *LITERT)}
CONVERTERS = ("pnnx", "mnn")
CPU = "cortex-a76"
FEW = 1
COUNTED_MACS = 400e6
"""Multiply-adds of the further inferences, at least two: starting an engine varies by some million instructions."""
TIMEOUT_S = 1800.0
ATTEMPTS = 3
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
# Threads would wait by spinning, which no two runs do alike.
ENVIRONMENT = {
    "PYTHONHOME": "/usr",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
# Engines choose their kernels by these files; those of the machine beneath the emulator describe another CPU.
FACTS = {
    "proc/cpuinfo": """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

""",
    "sys/devices/system/cpu/possible": "0\n",
    "sys/devices/system/cpu/present": "0\n",
}


class Emulated:
    """An emulated Cortex-A76 with the other engines, made once in the user's cache."""

    def __init__(self) -> None:
        install_emulator()
        folder = cache_folder() / "arm-peers"
        names = "-".join(PEERS)  # a folder of before lacks what is new
        self.site, self.converters, self.root = folder / f"site-{names}", folder / "converters", folder / "root"
        python = (emulator_folder() / "root" / "usr" / "bin" / "python3").readlink().name.removeprefix("python")
        foreign = [f"--platform={name}" for name in PLATFORMS]
        _pip(self.site, PEERS.values(), [*foreign, "--implementation=cp", f"--python-version={python}"])
        _pip(self.converters, CONVERTERS, [])
        for name, text in FACTS.items():
            write_atomic(self.root / name, text)
        for path in (emulator_folder() / "root").iterdir():
            if not (self.root / path.name).exists():
                (self.root / path.name).symlink_to(path)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the engines."""
        return {one.name.lower(): one.version for one in distributions(path=[str(self.site)])}

    def program(self, *arguments: object) -> list[str]:
        """A program of the emulated system."""
        return ["-L", str(self.root), *map(str, arguments)]

    def python(self, *arguments: object) -> list[str]:
        """Its Python, with the engines."""
        variables = {**ENVIRONMENT, "PYTHONPATH": f"{self.site}:{emulator_folder() / 'site'}"}
        settings = [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
        return self.program(*settings, self.root / "usr" / "bin" / "python3", *arguments)


def _pip(folder: Path, packages: Any, options: Sequence[str]) -> None:
    if not folder.exists():
        say(f"fetching {', '.join(packages)} ...")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            made = Path(name) / "site"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*command, *options, "--target", str(made), *packages], check=True)
            made.rename(folder)


class Subnet:
    """A subnet with random weights, in the form that each engine reads, in a folder.

    Args:
        space: its space.
        config: which one.
        log: what our library is built for, and whose winners it uses.
        machine: where it runs.
        folder: an empty one.
        engines: that it runs on besides.
    """

    def __init__(
        self,
        space: SearchSpace,
        config: SubnetConfig,
        log: TuningLog,
        machine: Emulated,
        folder: Path,
        engines: Sequence[str],
    ) -> None:
        target = log.target
        self.network, self.dtype = space.network(config), target.dtype
        self.steps = fused_steps(self.network, target.dtype)
        self.tuned = sum(step.kernel.key in log.winners for step in self.steps)
        self._target, self._machine, self._folder = target, machine, folder
        self._runner = build_runner(target.toolchain.linker)
        size, self._weights = self.network.resolution, random_weights(self.network)
        self._image = np.random.default_rng(0).standard_normal((1, size, size, 3), np.float32)
        np.save(folder / "image.npy", self._image)
        self._assemble(OURS, log.winners, target)
        self._assemble(DEFAULT, {}, target)
        if FLOAT in engines:
            exact = load_target("arm")
            self._assemble(FLOAT, TuningLog(exact, log.root).winners, exact)
        for name in LITERT:
            if name in engines:
                (folder / name).mkdir()
                ENGINES[name]().build(self.network, self._weights, 1, folder / name)
        if not {"ort", "ncnn", "mnn"}.isdisjoint(engines):
            onnx.save(to_onnx(self.network, self._weights), folder / "m.onnx")
            self._convert()

    def _assemble(self, name: str, winners: Winners, target: TargetSpec) -> None:
        weights: Weights = self._weights
        if target.dtype == "int8":
            weights = quantised_weights(self.network, weights, calibration_images(self.network))
        library, linker = self._folder / f"{name}.so", target.toolchain.linker
        assemble(self.network, weights, winners, ObjectCache(target.attributes), library, 1, linker)

    def _convert(self) -> None:
        shape = f"inputshape=[1,3,{self.network.resolution},{self.network.resolution}]"
        tools = self._machine.converters
        (tools / "pnnx" / "pnnx").chmod(0o755)
        self._quietly([str(tools / "pnnx" / "pnnx"), "m.onnx", shape, "fp16=0"])
        arguments = ["mnnconvert", "-f", "ONNX", "--modelFile", "m.onnx", "--MNNModel", "m.mnn", "--bizCode", "x"]
        code = f"import sys; sys.path.insert(0, {str(tools)!r}); import _tools; _tools.mnnconvert({arguments})"
        self._quietly([sys.executable, "-c", code])

    def _quietly(self, command: list[str]) -> None:
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True)

    def _program(self, engine: str, runs: int) -> list[str]:
        folder = self._folder
        files = [folder / "image.npy", folder / "logits.npy", folder / "maps.txt"]
        if engine in LIBRARIES:
            np.save(folder / "images.npy", np.repeat(self._image, runs, axis=0))
            images = [folder / "images.npy", "--logits", files[1], "--top", 1]
            return self._machine.program(self._runner, folder / f"{engine}.so", *images)
        return self._machine.python(Path(__file__).with_name("arm_peers_run.py"), engine, folder / "m", *files, runs)

    def estimate(self, engine: str, expected: Array | None) -> tuple[dict[str, Any], Array]:
        """What one inference costs on an engine, and its logits, once these are as expected."""
        model = self._target.estimate
        assert model is not None
        for attempt in range(ATTEMPTS):
            few = self._count(engine, FEW)
            logits = np.load(self._folder / "logits.npy")[:1]
            error = 0.0 if expected is None else relative_error(logits, expected)
            check_parity(engine, error, OURS, MAX_ERROR[self.dtype])
            more = max(2, round(COUNTED_MACS / sum(layer.macs for layer in self.network.layers)))
            many = self._count(engine, FEW + more)
            try:
                cost = cost_of_one(few, many, more, self._ignored(engine), model)
                break
            except NotComparable as problem:
                say(f"{engine}: {problem}")
                if attempt == ATTEMPTS - 1:
                    raise
        is_exact = engine in (FLOAT, *PEERS)
        steps = fused_steps(self.network, "float32") if is_exact else self.steps
        weights_ms = sum(step.kernel.weight_bytes for step in steps) / (1e6 * model.weights_gb_s)
        estimated_ms = cost.cycles / (1e3 * model.clock_mhz) + weights_ms
        return {"relative_error": error, **asdict(cost), "estimated_ms": estimated_ms}, logits

    def _count(self, engine: str, runs: int) -> Counts:
        return count_code(self._program(engine, runs), TRIPLE, CPU, TIMEOUT_S)

    def _ignored(self, engine: str) -> Ranges:
        """Where the Python program itself lies; applications call engines without it."""
        lines = [] if engine in LIBRARIES else (self._folder / "maps.txt").read_text().splitlines()
        found = [re.match(r"([0-9a-f]+)-([0-9a-f]+) .*/python3[.0-9]*$", line) for line in lines]
        return [(int(one[1], 16), int(one[2], 16)) for one in found if one]


def row_of(name: str, subnet: Subnet, engines: Sequence[str], kernels: SubnetTiming) -> dict[str, Any]:
    """What a subnet costs on each engine, beside the sum of our kernels' estimates."""
    expected: Array | None = None
    row: dict[str, Any] = {
        "subnet": name,
        "kernels": len(subnet.steps),
        "tuned_kernels": subnet.tuned,
        "sum_of_kernels_ms": kernels.times_ms[0],
        "engines": {},
    }
    for engine in [OURS, DEFAULT, *engines]:
        row["engines"][engine], logits = subnet.estimate(engine, expected)
        expected = logits if expected is None else expected
        say(f"{name} {engine}: {row['engines'][engine]}")
    return row


def table(space: str, rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| subnet | engine | instructions (M) | cycles (M) | estimated ms | over ours |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        for name, one in row["engines"].items():
            cells = [f"{one['instructions'] / 1e6:.2f}", f"{one['cycles'] / 1e6:.2f}", f"{one['estimated_ms']:.3f}"]
            lines.append(
                f"| `{space}` `{row['subnet']}` | {name} | {' | '.join(cells)} | {_over_ours(row, name):.2f} |"
            )
    return "\n".join(lines)


def _over_ours(row: dict[str, Any], engine: str) -> float:
    return float(row["engines"][engine]["estimated_ms"] / row["engines"][OURS]["estimated_ms"])


def without_sevens(space: SearchSpace, configs: Sequence[SubnetConfig]) -> list[SubnetConfig]:
    """Subnets with 5x5 windows in place of 7x7, for which XNNPACK has no depthwise kernel."""
    return [space.parse(config.key.replace("7x", "5x")) for config in configs]


def compare(
    space: SearchSpace, configs: Sequence[SubnetConfig], engines: Sequence[str], log: TuningLog
) -> dict[str, Any]:
    """Some subnets of a space, and what they say together."""
    machine, target, name = Emulated(), log.target, space.name
    rows = []
    with EstimateDevice(target.model_copy(update={"device": "estimate"})) as device:
        for config in configs:
            with tempfile.TemporaryDirectory() as folder:
                subnet = Subnet(space, config, log, machine, Path(folder), engines)
                subnets = TunedSubnets(name, space.classes, (config.key,), log.folder)
                (kernels,) = device.time_subnets(subnets, WindowPlan(1, 1, 0))
                rows.append(row_of(config.key, subnet, engines, kernels))
    print(f"Estimated, not measured:\n\n{table(name, rows)}\n")
    together = {engine: Speedup.of(_over_ours(row, engine) for row in rows).record() for engine in [DEFAULT, *engines]}
    whole = Speedup.of(row["engines"][OURS]["estimated_ms"] / row["sum_of_kernels_ms"] for row in rows).record()
    print(f"over ours: {together}\nours, whole network over the sum of its kernels: {whole}\n", flush=True)
    return {"over_ours": together, "whole_over_sum_of_kernels": whole, "subnets": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=3, help="random subnets of mbv3 at 224 px")
    parser.add_argument("--logs", type=Path, help="folder of tuning logs")
    parser.add_argument("--dtype", choices=COMPARED, default="float32", help="of our libraries")
    parser.add_argument("--engines", help="to compare with")
    options = parser.parse_args()
    engines = options.engines.split(",") if options.engines else COMPARED[options.dtype]
    rng = np.random.default_rng(7)
    small, large = get_space("mbv3-cifar"), get_space("mbv3").with_resolutions([224])
    drawn = [
        (small, [small.parse("smallest"), *small.sample_configs(rng, 1), small.parse("largest")]),
        (large, large.sample_configs(rng, options.random)),
    ]
    chosen = [(space, configs) for space, configs in drawn if configs]
    has_litert = any(name in engines for name in LITERT)
    target = load_target("arm", dtype=options.dtype)
    assert target.estimate is not None
    log = TuningLog(target, options.logs)
    result = {
        "provenance": "estimated",
        "emulated_cpu": CPU,
        "dtype": options.dtype,
        "model": target.estimate.model_dump(mode="json"),
        "versions": Emulated().versions,
        "spaces": {space.name: compare(space, configs, engines, log) for space, configs in chosen},
        "without_7x7": {
            space.name: compare(space, without_sevens(space, configs), engines, log)
            for space, configs in chosen
            if has_litert
        },
    }
    keep("arm-peers" if options.dtype == "float32" else "arm-peers-int8", result)


if __name__ == "__main__":
    main()
