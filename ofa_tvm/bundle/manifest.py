"""Manifest: what a bundle says about itself."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ofa_tvm.cost_model.layer_time import LayerTime
from ofa_tvm.data.dataset import ClassName, Preprocess
from ofa_tvm.hardware.target import Provenance, TargetAttributes
from ofa_tvm.spaces.subnet_blocks import Block
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost
from ofa_tvm.support.text import has_controls, printable
from ofa_tvm.support.typed import Count, Finite, Fraction, Milliseconds, NotNegative, Positive, SubnetKey
from ofa_tvm.timing.core_rates import CoreRates
from ofa_tvm.timing.window import Percentile, Timing

FORMAT: Final = "ofa_tvm.bundle"
SCHEMA_VERSION: Final = 1


def _checked_text(text: str) -> str:
    if has_controls(text):
        raise ValueError(f"'{printable(text)}' has control characters")
    return text


Text = Annotated[str, AfterValidator(_checked_text)]
# The same limits as in runtime/src/manifest.cc.
Mean = Annotated[float, Field(ge=-1e3, le=1e3)]
Deviation = Annotated[float, Field(ge=1e-6, le=1e6)]
Size = Annotated[int, Field(ge=1, le=4096)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputFacts(_Part):
    """What the library takes: normalised images of this shape."""

    name: str
    layout: Literal["NHWC"]
    shape: tuple[Positive, Positive, Positive, Positive]
    dtype: Literal["float32"]
    resolution: Positive


class Preparation(_Part):
    """What turns a picture into the library's input, in this order. There is one way; other readers refuse another.

    Args:
        mean: of each channel, of numbers from 0 to 1.
        std: standard deviation of each channel.
        order: the steps.
        crop: the part of the picture that counts.
        stored_size: the crop is first resized to this size and rounded to 8 bits, as training stored it; None: it is
            not.
        resize: the filter, of both resizes: a triangle as wide as a pixel of the coarser picture.
        scale: what 8-bit numbers are multiplied by.
    """

    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    order: Literal["upright, 8-bit RGB, crop, resize, scale, normalise"] = (
        "upright, 8-bit RGB, crop, resize, scale, normalise"
    )
    crop: Literal["largest centred square"] = "largest centred square"
    stored_size: Size | None = None
    resize: Literal["bilinear, antialiased"] = "bilinear, antialiased"
    scale: Annotated[float, Field(ge=0.999 / 255, le=1.001 / 255)] = 1 / 255

    @staticmethod
    def of(preprocess: Preprocess, stored_size: int | None) -> Preparation:
        """That of a supernet whose images were stored in this size; see ``stored_size``."""
        return Preparation(mean=preprocess.mean, std=preprocess.std, stored_size=stored_size)


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
        validation_error: its standard error; None in bundles of older versions.
        predicted_top1: as the search predicted it.
    """

    data: str
    how: str
    test_images: Count
    test_top1: Fraction | None = None
    torch_test_top1: Fraction | None = None
    compared_images: Count
    max_relative_logit_difference: NotNegative | None = None
    reference: str = "the torch subnet"
    validation_top1: Fraction | None = None
    validation_error: Fraction | None = None
    predicted_top1: Finite | None = None


class Precision(_Part):
    """The precision of an int8 network's layers where some stay float32, and what that was decided by.

    Args:
        layers: the type of each layer's kernel.
        blocks: names of the blocks in float32, in the order in which they were chosen.
        of_blocks: how many blocks there are.
        images: held-out images that were counted.
        int8_lost: share of them that int8 alone loses against float32, less what it wins.
        lost: what is lost now.
        most_lost: the upper end of its 95 % interval.
        time_ratio: time of a call over that of int8 alone; None where the network does not run here.
    """

    layers: dict[Text, DType]
    blocks: tuple[Text, ...]
    of_blocks: Positive
    images: Positive
    int8_lost: Finite
    lost: Finite
    most_lost: Finite
    time_ratio: float | None = Field(default=None, gt=0)

    def words(self) -> str:
        """In one line."""
        verb = "stays" if len(self.blocks) == 1 else "stay"
        slower = "" if self.time_ratio is None else f", {self.time_ratio:.2f} times the time"
        return (
            f"int8 lost {100 * self.int8_lost:.2f} points; {len(self.blocks)} of {self.of_blocks} blocks {verb} "
            f"float32: {100 * self.lost:.2f} points{slower}"
        )


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
        budget_ms: what the search's pick was found for.
        budget_held: whether the slowest window of this measurement held it; None where there is no budget, or where
            nothing was measured or others disturbed the machine too much to say.
    """

    provenance: Provenance
    measured_ms: Milliseconds | None = None
    timing: Timing | None = None
    percentile: Percentile = 50
    estimated_ms: Milliseconds | None = None
    repeats_ms: tuple[Milliseconds, ...] = ()
    conditions: Record
    predicted_ms: Milliseconds | None = None
    predicted_low_ms: Milliseconds | None = None
    predicted_high_ms: Milliseconds | None = None
    search_measured_ms: Milliseconds | None = None
    search_estimated_ms: Milliseconds | None = None
    budget_ms: Milliseconds | None = None
    budget_held: bool | None = None


class Startup(_Part):
    """What a fresh process of the bundle's program takes, in the median of several.

    Args:
        load_ms: milliseconds to load the library.
        first_ms: milliseconds of the first inference; None where ``load_ms`` has it, as in older bundles.
        peak_memory_bytes: most memory that the process had; None where the system does not tell.
        starts: how many processes there were.
        load_range_ms: the fastest and the slowest loading; None in older bundles.
        first_range_ms: likewise of the first inference.
    """

    load_ms: NotNegative
    first_ms: NotNegative | None = None
    peak_memory_bytes: Count | None = None
    starts: Positive = 1
    load_range_ms: tuple[NotNegative, NotNegative] | None = None
    first_range_ms: tuple[NotNegative, NotNegative] | None = None


class TargetFacts(_Part):
    """What the library was compiled for, and how many of its distinct kernels had a tuning record."""

    name: str
    fingerprint: str
    attributes: TargetAttributes
    threads: Positive
    tuned_kernels: Count
    default_kernels: Count


class FileFacts(_Part):
    """One file of the bundle."""

    bytes: Count
    sha256: str


class Manifest(_Part):
    """What ``manifest.json`` says; ``files`` is filled in when the bundle is written.

    ``glibc`` is the oldest glibc that runs the bundle; None where unknown. ``dtype`` is that of maps and weights;
    images and logits are float32, and so are the layers that ``precision`` names; None where there are none.
    ``blocks`` is what the subnet is made of and ``layers`` where its time goes; empty in bundles of older versions,
    ``layers`` also where blocks of an int8 network stay float32. ``startup`` is None in older bundles, and where the
    program cannot run here; likewise ``core_rates``, what a core of the machine that measured can do at most.
    """

    format: Literal["ofa_tvm.bundle"] = FORMAT
    schema_version: int = Field(default=SCHEMA_VERSION, ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    ofa_tvm: str
    created_at: str
    space: str
    subnet: SubnetKey
    supernet: SupernetSource
    input: InputFacts
    preprocess: Preparation
    class_names: tuple[ClassName, ...]
    classes: Positive
    macs: Count
    parameters: Count
    dtype: DType = "float32"
    precision: Precision | None = None
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
    files: dict[Text, FileFacts] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_all_classes(self) -> Self:
        if len(self.class_names) != self.classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.classes} classes")
        return self

    def record(self) -> Record:
        """As a JSON object."""
        return self.model_dump(mode="json")
