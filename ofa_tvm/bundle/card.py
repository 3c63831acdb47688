"""A bundle's card: what its folder needs to be published where models are shown.

Its files are hashed like the rest; ``README.md`` may be edited by whoever publishes it, so its hash need not hold.

===================  ===================================================================================
``README.md``        the card: metadata header as on Hugging Face's hub, key results, how to run it, costs
``example.py``       classifies a picture with numpy and Pillow alone
``benchmarks.json``  every number of the card, with how it was obtained
===================  ===================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ofa_tvm.bundle.folder import LIBRARY, ONNX, README
from ofa_tvm.bundle.manifest import SCHEMA_VERSION, Manifest
from ofa_tvm.bundle.told import bundle_inference, told_latency
from ofa_tvm.support.amounts import size
from ofa_tvm.support.carbon import assumptions, footprint
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, read_json, write_json
from ofa_tvm.support.ledger import Cost, total
from ofa_tvm.timing.inference import IMAGES

EXAMPLE, BENCHMARKS = "example.py", "benchmarks.json"
DATASETS = {"cifar10": "uoft-cs/cifar10", "fashion-mnist": "zalando-datasets/fashion_mnist"}
"""Names of data sets on the hub."""
UNKNOWN = "unknown"
"""What the hub calls a licence that nobody stated."""


def largest_top1(training: Path) -> float | None:
    """Accuracy of the supernet's largest subnet on test images, as its training counted; None where that is not known.

    Args:
        training: folder of the training.
    """
    try:
        return float(read_json(training / "accuracy.json", "accuracy")["test_top1"]["largest"])
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return None


def write_card(
    folder: Path, manifest: Manifest, licence: str, largest: float | None, *, is_whole: bool = False
) -> None:
    """Write a card's files into a bundle's folder that has all others.

    Args:
        folder: of the bundle.
        manifest: what it will say, without hashes.
        licence: of the weights, as the hub names it.
        largest: accuracy of the supernet's largest subnet, where it is known.
        is_whole: it is a model that somebody brought, as it was, and no subnet.
    """
    source = files("ofa_tvm.bundle").joinpath("card_files")
    (folder / EXAMPLE).write_text(source.joinpath("example.py.txt").read_text())
    sizes = {
        "library_bytes": sum(path.stat().st_size for path in folder.iterdir() if ".so" in path.suffixes),
        "onnx_bytes": (folder / ONNX).stat().st_size,
    }
    write_json(folder / BENCHMARKS, {**_benchmarks(manifest, largest), **sizes})
    shape, attributes = manifest.input.shape, manifest.target.attributes
    given = assumptions()
    conditions = "; ".join(_words(manifest.latency.conditions))
    text = (
        Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
        .from_string(source.joinpath("README.md.j2").read_text())
        .render(
            manifest=manifest,
            metadata=_metadata(manifest, licence),
            title=f"{manifest.space} for {manifest.target.name}, {manifest.dtype}",
            chip=attributes.get("mcpu") or attributes.get("arch") or attributes.get("kind"),
            is_whole=is_whole,
            is_x86="aarch64" not in str(attributes.get("mtriple", "")),
            results=_results(manifest, largest, sizes),
            shape=tuple(shape),
            batch=shape[0],
            floats=shape[0] * shape[1] * shape[2] * shape[3],
            mean=tuple(manifest.preprocess.mean),
            std=tuple(manifest.preprocess.std),
            conditions=conditions or "not recorded",
            costs=[(cost, footprint(cost, given)) for cost in costs_of(manifest)],
            given=given,
        )
    )
    (folder / README).write_text(text)


def _words(conditions: Record, of: str = "") -> Iterator[str]:
    for name, value in sorted(conditions.items()):
        label = f"{of} {name}".replace("_", " ").replace("-", " ").strip()
        if isinstance(value, dict):
            yield from _words(value, label)
        elif value is not None:
            yield f"{label} {' '.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def costs_of(manifest: Manifest) -> list[Cost]:
    """What the search and the deployment took, each in one, and inference where what the target draws is known."""
    deploying = [cost for cost in manifest.cost if cost.phase.startswith("deploy: ")]
    searching = [cost for cost in manifest.cost if cost not in deploying]
    costs = [total("search", searching)] if searching else []
    costs.append(total("deployment", deploying))
    calls, _ = bundle_inference(manifest)
    return costs if calls is None else [*costs, calls.cost(IMAGES)]


def _metadata(manifest: Manifest, licence: str) -> str:
    """The header's YAML; each value as JSON, which is YAML, too."""
    accuracy = manifest.accuracy
    dataset = DATASETS.get(accuracy.data)
    fields: Record = {
        "license": licence,
        "library_name": "ofa_tvm",
        "pipeline_tag": "image-classification",
        "tags": ["ofa_tvm", "once-for-all", "tvm", "onnx", manifest.target.name, manifest.dtype],
        "datasets": [dataset] if dataset else [],
        "metrics": ["accuracy"] if accuracy.test_top1 is not None else [],
    }
    if dataset and accuracy.test_top1 is not None:
        result = {
            "task": {"type": "image-classification", "name": "Image Classification"},
            "dataset": {"type": dataset, "name": accuracy.data, "split": "test"},
            "metrics": [{"type": "accuracy", "value": round(accuracy.test_top1, 6)}],
        }
        fields["model-index"] = [{"name": manifest.subnet, "results": [result]}]
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items() if value)


def _results(manifest: Manifest, largest: float | None, sizes: dict[str, int]) -> list[tuple[str, str]]:
    accuracy, target = manifest.accuracy, manifest.target
    told, how = told_latency(manifest.latency)
    batch, top1 = manifest.input.shape[0], accuracy.test_top1
    speed = "not measured"
    if told.ms is not None:
        which = f"p{manifest.latency.percentile}"
        rate = batch * 1e3 / told.ms
        speed = f"{which} {told.ms:.3f} ms a call of {batch}, {rate:,.0f} images a second ({how})"
    threads = f"{target.threads} thread{'s' if target.threads > 1 else ''}"
    some = manifest.precision
    dtype = (
        manifest.dtype if some is None else f"{manifest.dtype}, {len(some.blocks)} of {some.of_blocks} blocks float32"
    )
    rows = [
        ("format", f"{dtype}; `{LIBRARY}` (machine code), `model.onnx`"),
        ("device", f"{manifest.latency.conditions.get('cpu') or target.name}, {threads}"),
        ("latency", speed),
        ("accuracy", "not checked" if top1 is None else _accuracy(top1, accuracy.test_images)),
    ]
    if manifest.dtype != "float32" and accuracy.torch_test_top1 is not None and top1 is not None:
        lost = 100 * (top1 - accuracy.torch_test_top1)
        rows.append(("in float32", f"{accuracy.torch_test_top1:.2%} (this: {lost:+.2f} points)"))
    if largest is not None:
        apart = "" if top1 is None else f" (this: {100 * (top1 - largest):+.2f} points)"
        rows.append(("largest subnet", f"{largest:.2%}, as the training counted{apart}"))
    parts = f"machine code {size(sizes['library_bytes'])}, ONNX file {size(sizes['onnx_bytes'])}"
    rows.append(("size", f"{parts}; {manifest.parameters / 1e6:.2f} M parameters"))
    rows.append(("work", f"{manifest.macs / 1e6:.1f} M multiply-accumulates an image"))
    if manifest.startup is not None:
        startup = manifest.startup
        first = "with the first call" if startup.first_ms is None else f"{startup.first_ms:.2f} ms for the first call"
        how = "measured" if startup.starts == 1 else f"measured, median of {startup.starts} starts"
        rows.append(("start", f"{startup.load_ms:.2f} ms to load, {first} ({how})"))
        if startup.peak_memory_bytes is not None:
            peak = size(startup.peak_memory_bytes)
            rows.append(("memory", f"{peak} at most, of the whole program (measured)"))
    return rows


def _accuracy(top1: float, images: int) -> str:
    error = (top1 * (1 - top1) / images) ** 0.5
    return f"{top1:.2%} ± {error:.2%} (standard error) of {images:,} test images"


def _benchmarks(manifest: Manifest, largest: float | None) -> Record:
    given = assumptions()
    told, how = told_latency(manifest.latency)
    return {
        "schema_version": SCHEMA_VERSION,
        "subnet": manifest.subnet,
        "dtype": manifest.dtype,
        "precision": None if manifest.precision is None else manifest.precision.model_dump(mode="json"),
        "target": manifest.target.model_dump(mode="json"),
        "latency": {"ms": told.ms, "how": how, **manifest.latency.model_dump(mode="json")},
        "accuracy": manifest.accuracy.model_dump(mode="json"),
        "largest_subnet_top1": largest,
        "macs": manifest.macs,
        "parameters": manifest.parameters,
        "start": None if manifest.startup is None else manifest.startup.model_dump(),
        "cost": [cost.record() for cost in manifest.cost],
        "sci": {
            "standard": "ISO/IEC 21031:2024 (SCI), SCI for AI",
            "assumptions": given.record(),
            "parts": [{"part": cost.phase, **footprint(cost, given).record()} for cost in costs_of(manifest)],
        },
    }
