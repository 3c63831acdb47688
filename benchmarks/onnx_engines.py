"""Bundles beside the engines that their user would take otherwise: ms of one call, test images right.

``python benchmarks/onnx_engines.py FIXED [PICK ...] --data imagefolder:PATH``: every bundle's own library, and the
``model.onnx`` of the first in ONNX Runtime and OpenVINO, in float32, as installed, and in int8 (quantised by ONNX
Runtime, static, a scale for each channel, calibrated on training images), and the same network in LiteRT, in float32
and in int8. All are timed in turn. What is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store import keep

from ofa_tvm.accuracy.uncertainty import standard_error
from ofa_tvm.adoption.adopted_network import adopt_operators
from ofa_tvm.adoption.onnx_file import read_onnx
from ofa_tvm.bundle.folder import LIBRARY, ONNX, load_manifest
from ofa_tvm.bundle.manifest import Manifest
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.data import load_dataset
from ofa_tvm.data.dataset import Dataset, Preprocess, Split
from ofa_tvm.engines.comparison import WARMUP_RUNS, time_calls
from ofa_tvm.engines.lite_rt import LiteRt, tensor_ranges
from ofa_tvm.graph.tflite_export import to_tflite
from ofa_tvm.hardware.machine import package_version
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.support.command import share, table

Images = NDArray[np.float32]
Call = Callable[[], Any]
CALIBRATION_IMAGES = 300
PACKAGES = ("onnxruntime", "openvino", "ai-edge-litert", "torch", "apache-tvm")


@dataclass(frozen=True)
class Candidate:
    """Something that classifies: ``bind`` gives a call on one image, ``logits`` the answer of such a call."""

    name: str
    resolution: int
    preprocess: Preprocess
    bind: Callable[[Images], Call]
    logits: Callable[[Any], Images]


def of_bundle(folder: Path) -> Candidate:
    """A bundle's own library."""
    manifest, model = load_manifest(folder), LoadedModel(folder / LIBRARY)

    def bind(image: Images) -> Call:
        given, logits = model.bind(image)

        def call() -> Any:
            model.run(given, logits)
            return logits

        return call

    return _candidate(f"ofa_tvm: {folder.name}", manifest, bind, lambda logits: logits.numpy())


def _candidate(
    name: str, manifest: Manifest, bind: Callable[[Images], Call], logits: Callable[[Any], Images]
) -> Candidate:
    normalise = Preprocess(manifest.preprocess.mean, manifest.preprocess.std)
    return Candidate(name, manifest.input.shape[1], normalise, bind, logits)


def channels_first(image: Images) -> Images:
    """(1, size, size, 3) as (1, 3, size, size)."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


def in_onnx_runtime(name: str, model: Path, manifest: Manifest, threads: int) -> Candidate:
    """A model in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def bind(image: Images) -> Call:
        feed = {given.name: channels_first(image)}
        return lambda: session.run(None, feed)

    return _candidate(f"ONNX Runtime, {name}", manifest, bind, lambda found: np.asarray(found[0]))


def in_openvino(name: str, model: Path, manifest: Manifest, threads: int, **config: str) -> Candidate:
    """A model in OpenVINO."""
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **config}
    request = core.compile_model(core.read_model(model), "CPU", hints).create_infer_request()

    def bind(image: Images) -> Call:
        tensor = openvino.Tensor(channels_first(image))

        def call() -> Any:
            request.set_input_tensor(tensor)
            request.infer()
            return request

        return call

    return _candidate(f"OpenVINO, {name}", manifest, bind, lambda asked: np.array(asked.get_output_tensor().data))


def in_litert(
    name: str, model: Path, manifest: Manifest, threads: int, calibration: Images | None, work: Path
) -> Candidate:
    """A model in LiteRT; in int8 with ranges from calibration images, if there are any."""
    adopted = adopt_operators(read_onnx(model))
    network, weights = adopted.network, adopted.weights
    ranges = None if calibration is None else tensor_ranges(network, weights, calibration)
    file = work / f"{name}.tflite"
    file.write_bytes(to_tflite(network, weights, ranges))
    loaded = LiteRt().load(file, network, threads)
    return _candidate(f"LiteRT, {name}", manifest, loaded.bind, loaded.logits)


def batches(split: Split, candidate: Candidate) -> Iterator[Images]:
    """Normalised images of a candidate's size, one after the other, shape (1, size, size, 3)."""
    for start in range(0, len(split), 100):
        given = preprocess(to_tensor(split.images[start : start + 100]), candidate.preprocess, candidate.resolution)
        yield from (image[None] for image in given.permute(0, 2, 3, 1).numpy())


def calibrating(dataset: Dataset, candidate: Candidate) -> Iterator[Images]:
    """The first training images of a shuffled order."""
    rows = np.random.default_rng(0).permutation(len(dataset.train))[:CALIBRATION_IMAGES]
    return batches(dataset.train.take(np.sort(rows)), candidate)


def quantised(model: Path, out: Path, dataset: Dataset, candidate: Candidate) -> Path:
    """A model in int8, calibrated on training images."""
    from onnxruntime import quantization

    images = calibrating(dataset, candidate)
    import onnx

    name = onnx.load(model).graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Images] | None:
            image = next(images, None)
            return None if image is None else {name: channels_first(image)}

    quantization.quantize_static(
        str(model), str(out), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True
    )
    return out


def top1(candidate: Candidate, split: Split) -> float:
    """Share of images that a candidate gets right."""
    right = 0
    for image, label in zip(batches(split, candidate), split.labels, strict=True):
        right += int(candidate.logits(candidate.bind(np.ascontiguousarray(image))()).argmax() == label)
    return right / len(split)


def candidates(bundles: list[Path], dataset: Dataset, threads: int, work: Path) -> tuple[list[Candidate], list[str]]:
    """Everything that is compared, and what is not installed."""
    found, missing = [of_bundle(folder) for folder in bundles], []
    manifest, model = load_manifest(bundles[0]), bundles[0] / ONNX
    int8: Path | None = None
    try:
        found.append(in_onnx_runtime("float32", model, manifest, threads))
        int8 = quantised(model, work / "int8.onnx", dataset, found[0])
        found.append(in_onnx_runtime("int8", int8, manifest, threads))
    except ImportError:
        missing.append("onnxruntime")
    try:
        found.append(in_openvino("float32", model, manifest, threads, INFERENCE_PRECISION_HINT="f32"))
        found.append(in_openvino("as installed", model, manifest, threads))
        if int8 is not None:
            found.append(in_openvino("int8", int8, manifest, threads))
    except ImportError:
        missing.append("openvino")
    try:
        found.append(in_litert("float32", model, manifest, threads, None, work))
        images = np.concatenate([*calibrating(dataset, found[0])])
        found.append(in_litert("int8", model, manifest, threads, images, work))
    except ImportError:
        missing.append("ai-edge-litert")
    return found, missing


def main() -> None:
    """Count, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, help="test images to count (default: all)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    threads = {load_manifest(folder).target.threads for folder in options.bundles}
    if len(threads) != 1:
        sys.exit(f"error: the bundles are for {sorted(threads)} threads")
    dataset, rng = load_dataset(options.data), np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(dataset.test))[: options.images])
    test = dataset.test.take(rows)
    with tempfile.TemporaryDirectory() as work:
        compared, missing = candidates(options.bundles, dataset, threads.pop(), Path(work))
        accuracies = {one.name: top1(one, test) for one in compared}
        calls = {}
        for one in compared:
            image = np.ascontiguousarray(next(iter(batches(test, one))))
            calls[one.name] = one.bind(image)
            for _ in range(WARMUP_RUNS):
                calls[one.name]()
        timings = time_calls(calls, options.seconds, rng)["blocks"]
    error = {name: standard_error(value, len(test)) for name, value in accuracies.items()}
    result = {
        "versions": {name: package_version(name) for name in PACKAGES},
        "not_installed": missing,
        "data": dataset.name,
        "test_images": len(test),
        "rows": [
            {"name": name, "test_top1": accuracies[name], "test_error": error[name], **timings[name].record()}
            for name in accuracies
        ],
    }
    keep(f"onnx-engines-{dataset.name.partition(':')[0]}", result)
    if options.json:
        print(json.dumps(result))
        return
    shown = [[name, f"{timings[name].median_ms:.3f}", share(accuracies[name], error[name])] for name in accuracies]
    print(table(["", "ms", "test top-1"], shown))


if __name__ == "__main__":
    main()
