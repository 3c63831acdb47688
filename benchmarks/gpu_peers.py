"""Subnets of a pack beside torch and ONNX Runtime on the machine that the pack is for: ``gpu_peers.py PACK``.

PACK is what ``tune --target cuda-sm90 --export-pack PACK --trials 0 --samples 10`` wrote, with ``--batch`` and
``--dtype`` as wanted; ``peers.json`` comes to lie in it. That machine needs torch, numpy, onnx and this repository, and
no TVM but the pack's own runtime. Every engine has the same weights, and images in its GPU's memory (libraries of
kernels from templates copy them there and the logits back, which counts); a call ends when
its logits are there. Outputs are compared with the pack's before anything is timed. Each subnet has a process of its
own, and ``peers.json`` is written after each: one that fails or takes too long costs itself alone.

==================  ======================================================================================
``...-overlap``     ours with kernels from templates: each may start before the one before has ended
``torch``           eager, channels_last
``torch-graph``     the same as one CUDA graph
``torch-compile``   ``torch.compile``, frozen weights, CUDA graphs: ``reduce-overhead``, or ``--compile max-autotune``
``ort-cuda``        ONNX Runtime's CUDA provider, where it is installed; float32
``ort-tensorrt``    its TensorRT provider, where it is installed; float32, or float16 as TensorRT chooses
==================  ======================================================================================
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ofa_tvm.devices.pack import digests, forms
from ofa_tvm.devices.pack.pack_files import ENTRIES, MANIFEST, read_lines
from ofa_tvm.engines.comparison import PROTOCOLS, Speedup, time_calls
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.onnx_export import IMAGE, to_onnx
from ofa_tvm.graph.weights import PACKED_PERIOD, Weights, random_weights
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.supernet.folded import FoldedSubnet

OURS = "ofa_tvm"
PROVIDERS = {"ort-cuda": "CUDAExecutionProvider", "ort-tensorrt": "TensorrtExecutionProvider"}
PACKAGES = ("torch", "triton", "onnxruntime", "onnxruntime-gpu", "tensorrt", "apache-tvm")
WARM_UP = 5
Array = Any
Record = dict[str, Any]
Call = Callable[[], Any]
"""One inference; a tensor or an array of logits."""


class TorchSubnet(torch.nn.Module):
    """A subnet whose weights are buffers, which torch's compiler may freeze."""

    def __init__(self, network: NetworkSpec, weights: Weights) -> None:
        super().__init__()
        self._subnet = FoldedSubnet(network, weights, torch.get_num_threads())
        self._names = {name: name.replace(".", "_") for name in self._subnet.tensors}
        for name, tensor in self._subnet.tensors.items():
            self.register_buffer(self._names[name], tensor)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes) of images (batch, channels, resolution, resolution)."""
        return self._subnet.run(images, {name: getattr(self, buffer) for name, buffer in self._names.items()})


def torch_calls(
    network: NetworkSpec, weights: Weights, images: Array, dtype: torch.dtype, where: str, mode: str
) -> Iterator[Any]:
    """Names and calls of torch's ways; ``mode`` is the compiler's."""
    module = TorchSubnet(network, weights).to(where, dtype).eval()
    given = torch.from_numpy(images).permute(0, 3, 1, 2).to(where, dtype)
    yield "torch", lambda: module(given)
    if where == "cuda":
        yield "torch-graph", _as_graph(lambda: module(given))
    torch._dynamo.reset()
    compiled = torch.compile(module, mode=mode)
    yield "torch-compile", lambda: compiled(given)


def _as_graph(call: Call) -> Call:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits: torch.Tensor = call()

    def replay() -> torch.Tensor:
        graph.replay()
        return logits

    return replay


def onnx_calls(network: NetworkSpec, weights: Weights, images: Array, dtype: str) -> Iterator[Any]:
    """Names and calls of ONNX Runtime's providers for GPUs that are installed."""
    try:
        import onnxruntime
    except ImportError:
        return
    model = to_onnx(network, weights, len(images)).SerializeToString()
    for name, provider in PROVIDERS.items():
        if provider not in onnxruntime.get_available_providers() or (dtype != "float32" and name == "ort-cuda"):
            continue
        options = {"trt_fp16_enable": dtype == "float16"} if name == "ort-tensorrt" else {"use_tf32": False}
        session = onnxruntime.InferenceSession(model, providers=[(provider, options)])
        yield name, _bound(session, np.ascontiguousarray(images.transpose(0, 3, 1, 2)), "cuda")


def _bound(session: Any, images: Array, where: str) -> Call:
    import onnxruntime

    binding = session.io_binding()
    binding.bind_ortvalue_input(IMAGE, onnxruntime.OrtValue.ortvalue_from_numpy(images, where, 0))
    binding.bind_output(session.get_outputs()[0].name, where, 0)

    def call() -> Array:
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    return call


def _values(logits: Any) -> Array:
    if isinstance(logits, torch.Tensor):
        return logits.float().cpu().numpy()
    return logits if isinstance(logits, np.ndarray) else logits.numpy()


def own_subnets(folder: Path, entry: Record, name: str, to: Path) -> Record:
    """A subnet of a pack by name; if its kernels are from templates, also with kernels that overlap."""
    manifest = json.loads((folder / MANIFEST).read_text())
    where = manifest.get("tensors", manifest["device"])
    runtime = forms.open_runtime(folder, where)

    def loaded(place: str) -> Any:
        (to / place).mkdir()
        return forms.Subnet(runtime, entry, forms.unpacked(folder, entry, to / place))

    subnets = {name: loaded(name)}
    if where != manifest["device"]:
        subnets[f"{name}-overlap"] = loaded(f"{name}-overlap")
        subnets[f"{name}-overlap"].overlap()
    return subnets


def entry_beside(folder: Path, entry: Record, conditions: Record) -> Record | None:
    """The same subnet in another pack of the same precision and batch."""
    theirs = json.loads((folder / MANIFEST).read_text())["conditions"]
    if any(theirs[key] != conditions[key] for key in ("dtype", "batch")):
        return None
    wanted = [entry[key] for key in ("space", "classes", "subnet")]
    found = (other for other in read_lines(folder / ENTRIES)[0] if "subnet" in other)
    return next((other for other in found if [other[key] for key in ("space", "classes", "subnet")] == wanted), None)


def compare(options: argparse.Namespace, entry: Record, manifest: Record) -> Record:
    """A subnet on all engines: differences from what is expected, and timings by protocol."""
    network = get_space(entry["space"]).with_classes(entry["classes"]).network(SubnetConfig.parse(entry["subnet"]))
    weights, (images,) = random_weights(network, period=PACKED_PERIOD), digests.inputs_of(entry)
    where, dtype = ("cuda" if manifest["device"] == "cuda" else "cpu"), manifest["conditions"]["dtype"]
    limit = manifest["measure"]["subnet_tolerance"]
    row: Record = {"subnet": entry["subnet"]}
    with tempfile.TemporaryDirectory() as name:
        own = own_subnets(options.pack, entry, OURS, Path(name))
        beside = options.beside and entry_beside(options.beside, entry, manifest["conditions"])
        if beside:
            own |= own_subnets(options.beside, beside, options.beside.name, Path(name))
        calls = {engine: _waiting(subnet.call, where) for engine, subnet in own.items()}
        apart = {
            engine: digests.difference(digests.sample([subnet.run()]), entry["expected"])
            for engine, subnet in own.items()
        }
        for engine, call in (
            *torch_calls(network, weights, images, getattr(torch, dtype), where, options.compile),
            *onnx_calls(network, weights, images, dtype),
        ):
            for _ in range(WARM_UP):
                logits = call()
            apart[engine] = digests.difference(digests.sample([_values(logits)]), entry["expected"])
            calls[engine] = _waiting(call, where)
        row["difference"] = apart
        wrong = {engine: value for engine, value in apart.items() if not value < limit}
        if wrong:
            return {**row, "error": f"differ from the reference by more than {limit:g}: {wrong}"}
        rng = np.random.default_rng(0)
        timings = time_calls(calls, options.seconds, rng)
    row["protocols"] = {
        protocol: {engine: timing.record() for engine, timing in found.items()} for protocol, found in timings.items()
    }
    return row


def _waiting(call: Call, where: str) -> Call:
    if where == "cpu":
        return call

    def run() -> None:
        call()
        torch.cuda.synchronize()

    return run


def speedups(rows: list[Record]) -> Record:
    """Each engine's time over ours, by protocol: geometric mean over subnets, smallest and largest."""
    found: Record = {}
    for protocol in PROTOCOLS:
        timed = [row["protocols"][protocol] for row in rows if "protocols" in row]
        engines = {engine for timings in timed for engine in timings} - {OURS}
        found[protocol] = {
            engine: Speedup.of(one[engine]["median_ms"] / one[OURS]["median_ms"] for one in timed).record()
            for engine in sorted(engines)
        }
    return found


def _versions() -> Record:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def apart(options: argparse.Namespace, number: int, subnet: str) -> Record:
    """A subnet's row, made by a process of its own; with an error where that fails or takes too long."""
    with tempfile.TemporaryDirectory() as name:
        row = Path(name) / "row.json"
        command = [sys.executable, __file__, str(options.pack), "--only", str(number), "--row", str(row)]
        command += ["--seconds", str(options.seconds), "--compile", options.compile]
        command += [] if options.beside is None else ["--beside", str(options.beside)]
        try:
            done = subprocess.run(command, stdout=sys.stderr, check=False, timeout=options.timeout)
        except subprocess.TimeoutExpired:
            return {"subnet": subnet, "error": f"took longer than {options.timeout:g} s"}
        if not row.exists():
            return {"subnet": subnet, "error": f"its process ended with {done.returncode}"}
        found: Record = json.loads(row.read_text())
        return found


@torch.no_grad()
def only(options: argparse.Namespace, manifest: Record, entry: Record) -> None:
    """In a process of its own: compare one subnet."""
    # The same arithmetic for all: float32 products without TensorFloat-32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch._inductor.config.freezing = True
    torch.set_num_threads(manifest["conditions"]["threads"])
    options.row.write_text(json.dumps(compare(options, entry, manifest)))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path, help="a folder of tune --export-pack")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing for each subnet")
    parser.add_argument("--compile", choices=("reduce-overhead", "max-autotune"), default="reduce-overhead")
    parser.add_argument("--beside", type=Path, help="another pack, whose same subnets are timed, too")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds of a subnet in all")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--row", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    manifest_file = options.pack / MANIFEST
    if not manifest_file.is_file():
        sys.exit(f"error: {options.pack} is no pack: {MANIFEST} is missing\ntry: tune --export-pack {options.pack}")
    manifest = json.loads(manifest_file.read_text())
    entries = [entry for entry in read_lines(options.pack / ENTRIES)[0] if "subnet" in entry]
    if not entries:
        sys.exit(f"error: {options.pack} holds no subnets\ntry: tune --export-pack FOLDER --trials 0 --samples 10")
    is_gpu = manifest["device"] == "cuda"
    if is_gpu and not torch.cuda.is_available():
        sys.exit("error: torch sees no GPU here, and the pack is for one")
    if options.only is not None:
        only(options, manifest, entries[options.only])
        return
    rows: list[Record] = []
    device = torch.cuda.get_device_name() if is_gpu else "CPU"
    for number, entry in enumerate(entries):
        rows.append(apart(options, number, entry["subnet"]))
        blocks = rows[-1].get("protocols", {}).get("blocks", {})
        shown = {name: round(one["median_ms"], 4) for name, one in blocks.items()}
        said = rows[-1].get("error") or shown
        print(f"{number + 1}/{len(entries)} {entry['subnet']}: {said}", file=sys.stderr, flush=True)
        result = {
            "device": device,
            "versions": _versions(),
            "conditions": manifest["conditions"],
            "compile": options.compile,
            "speedups": speedups(rows),
            "subnets": rows,
        }
        (options.pack / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["speedups"], indent=1))


if __name__ == "__main__":
    main()
