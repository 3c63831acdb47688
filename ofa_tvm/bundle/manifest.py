"""Manifest: what a bundle says about itself."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ofa_tvm.cost_model.layer_time import LayerTime
from ofa_tvm.hardware.target import Provenance, TargetAttributes
from ofa_tvm.spaces.subnet_blocks import Block
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost
from ofa_tvm.timing.core_rates import CoreRates
from ofa_tvm.timing.window import Percentile, Timing

FORMAT: Final = "ofa_tvm.bundle"
SCHEMA_VERSION: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFacts(_Part):
    """What the library takes: normalised images of this shape."""

    name: str
    layout: Literal["NHWC"]
    shape: tuple[int, ...]
    dtype: Literal["float32"]
    resolution: int


class SupernetSource(_Part):
    """Where the weights come from: the checkpoint file, and the digest of the subnet's folded weights."""

    file: str
    sha256: str
    weights_sha256: str


class Accuracy(_Part):
    """How often the network is right, as fractions; None where not evaluated.

    Args:
        data: name of the data set.
        how: in words, how the figures were obtained.
        test_images: test images that ``test_top1`` and ``torch_test_top1`` count.
        test_top1: the bundle's library.
        torch_test_top1: the torch subnet it was made from.
        compared_images: images that ``max_relative_logit_difference`` covers.
        max_relative_logit_difference: largest difference to the reference over the largest logit; None where the
            library could not run.
        reference: what logits were compared with.
        validation_top1: on held-out training images, as the search found it.
        predicted_top1: as the search predicted it.
    """

    data: str
    how: str
    test_images: int
    test_top1: float | None = None
    torch_test_top1: float | None = None
    compared_images: int
    max_relative_logit_difference: float | None = None
    reference: str = "the torch subnet"
    validation_top1: float | None = None
    predicted_top1: float | None = None


class Latency(_Part):
    """Milliseconds of one call.

    Args:
        provenance: how the latency was obtained.
        measured_ms: told latency of the bundle's library, see ``timing``; None where it was not measured.
        timing: the windows behind it.
        percentile: which percentile of single calls ``measured_ms`` is.
        estimated_ms: the estimate where there is no device; None where it was measured.
        repeats_ms: raw repeats, in bundles of older versions.
        conditions: what changes speed, see ``TargetSpec.conditions``.
        predicted_ms: what the search predicted, with its interval.
        search_measured_ms: what the search measured.
        search_estimated_ms: what the search estimated, without a device.
    """

    provenance: Provenance
    measured_ms: float | None = None
    timing: Timing | None = None
    percentile: Percentile = 50
    estimated_ms: float | None = None
    repeats_ms: tuple[float, ...] = ()
    conditions: Record
    predicted_ms: float | None = None
    predicted_low_ms: float | None = None
    predicted_high_ms: float | None = None
    search_measured_ms: float | None = None
    search_estimated_ms: float | None = None


class Startup(_Part):
    """What a fresh process of the bundle's program takes.

    Args:
        load_ms: milliseconds to load the library and run it once.
        peak_memory_bytes: most memory that the process had; None where the system does not tell.
    """

    load_ms: float
    peak_memory_bytes: int | None = None


class TargetFacts(_Part):
    """What the library was compiled for, and how many of its distinct kernels had a tuning record."""

    name: str
    fingerprint: str
    attributes: TargetAttributes
    threads: int
    tuned_kernels: int
    default_kernels: int


class FileFacts(_Part):
    """One file of the bundle."""

    bytes: int
    sha256: str


class Manifest(_Part):
    """What ``manifest.json`` says; ``files`` is filled in when the bundle is written.

    ``glibc`` is the oldest glibc that runs the bundle; None where unknown. ``dtype`` is that of all layers' maps and
    weights; images and logits are float32. ``blocks`` is what the subnet is made of and ``layers`` where its time goes;
    empty in bundles of older versions. ``startup`` is None there, and where the program cannot run here; likewise
    ``core_rates``, what a core of the machine that measured can do at most.
    """

    format: Literal["ofa_tvm.bundle"] = FORMAT
    schema_version: Literal[1] = SCHEMA_VERSION
    ofa_tvm: str
    created_at: str
    space: str
    subnet: str
    supernet: SupernetSource
    input: InputFacts
    preprocess: Record
    class_names: tuple[str, ...]
    classes: int
    macs: int
    parameters: int
    dtype: DType = "float32"
    accuracy: Accuracy
    latency: Latency
    target: TargetFacts
    versions: dict[str, str]
    glibc: str | None = None
    cost: tuple[Cost, ...]
    blocks: tuple[Block, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    startup: Startup | None = None
    core_rates: CoreRates | None = None
    files: dict[str, FileFacts] = Field(default_factory=dict)

    def record(self) -> Record:
        """As a JSON object."""
        return self.model_dump(mode="json")
