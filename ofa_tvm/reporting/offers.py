"""Offer: one subnet that is offered, whether by a search or as a bundle, with all that is known of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ofa_tvm.bundle.folder import bundle_bytes
from ofa_tvm.bundle.told import bundle_inference, told_latency
from ofa_tvm.cost_model.layer_time import LayerTime
from ofa_tvm.hardware.target import Provenance
from ofa_tvm.nas.result import Pick, SearchResult
from ofa_tvm.reporting.bench_file import Startup
from ofa_tvm.reporting.source import Bundled, Searched, Source
from ofa_tvm.spaces import SPACES, SubnetConfig
from ofa_tvm.spaces.subnet_blocks import Block, subnet_blocks
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.core_rates import CoreRates
from ofa_tvm.timing.inference import Inference, Told, unknown_power
from ofa_tvm.timing.window import Percentile, Timing


@dataclass(frozen=True)
class Series:
    """A target in a precision: what has a colour on the page. ``what`` names that in which the page's series differ."""

    number: int
    target: str
    dtype: DType | None
    label: str
    what: Literal["target", "precision"] = "target"

    @property
    def slug(self) -> str:
        """The label as a part of a file's name."""
        return re.sub(r"[^\w.-]+", "-", self.label)


@dataclass(frozen=True)
class Accuracies:
    """Accuracies as fractions with their standard errors; None where not known."""

    test: float | None = None
    test_error: float | None = None
    validation: float | None = None
    validation_error: float | None = None
    predicted: float | None = None
    expected: float | None = None

    @property
    def drawn(self) -> float | None:
        """The accuracy at which a pick is drawn beside predicted ones: validated, or else predicted."""
        return self.predicted if self.validation is None else self.validation


@dataclass(frozen=True)
class Predicted:
    """A predicted latency in ms, with the ends of its interval."""

    middle_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Offer:
    """One subnet that is offered.

    Args:
        number: of the pick; None for a bundle by itself.
        series: its target and precision.
        subnet: its key.
        budget_ms: that it was searched for.
        held: whether it holds that.
        unknown_power: why it is not known what its target draws; empty where it is.
        watts: what its calls drew by the device's own counter; None where nothing counted.
        threads: of its target.
        batch: images of one call.
        provenance: how latencies were obtained.
        percentile: which percentile of single calls the latency is.
        latency_ms: measured, or estimated; None where neither.
        timing: the windows behind it.
        predicted: its predicted latency.
        accuracies: its accuracies.
        macs: multiply-accumulates of one image.
        parameters: trainable numbers.
        peak_activation_bytes: largest sum of maps alive at once.
        blocks: what it is made of; empty where not known.
        layers: where its time goes; likewise.
        objectives: values of the objectives that the search had besides.
        library_bytes: size of its compiled library.
        bundle_bytes: size of its bundle.
        startup: what a fresh process takes.
        inference: its calls, as deployed or else as searched; None where their latency is not known, or what they draw.
        deployed_ms: latency of its bundle; None where there is none, or where what it draws is not known.
        core_rates: what a core of the machine that measured it can do at most.
        next_command: what deploys it, or runs it where it is a bundle.
    """

    number: int | None
    series: Series
    subnet: str
    budget_ms: float | None
    held: bool | None
    unknown_power: str
    watts: float | None
    threads: int
    batch: int
    provenance: Provenance
    percentile: Percentile
    latency_ms: float | None
    timing: Timing | None
    predicted: Predicted | None
    accuracies: Accuracies
    macs: int
    parameters: int
    peak_activation_bytes: int | None
    blocks: tuple[Block, ...]
    layers: tuple[LayerTime, ...]
    objectives: dict[str, float]
    library_bytes: int | None
    bundle_bytes: int | None
    startup: Startup | None
    inference: Inference | None
    deployed_ms: float | None
    core_rates: CoreRates | None
    next_command: str

    @property
    def name(self) -> str:
        """What it is called on the page."""
        return "The bundle" if self.number is None else f"Pick {self.number}"

    @property
    def anchor(self) -> str:
        """Of its card."""
        return f"pick-{self.series.number}-{self.number or 0}"


def all_series(source: Source) -> tuple[Series, ...]:
    """Every target in every precision that the page shows, in order."""
    pairs: list[tuple[str, DType | None]] = []
    for searched in source.searches:
        dtypes = searched.result.fingerprints or [searched.result.dtype]
        pairs += [(searched.result.target, dtype) for dtype in dtypes]
    if not source.searches:
        pairs = [(bundled.manifest.target.name, bundled.manifest.dtype) for bundled in source.bundles]
    pairs = list(dict.fromkeys(pairs))
    several_targets = len({target for target, _ in pairs}) > 1
    several_dtypes = len({dtype for _, dtype in pairs}) > 1
    series = []
    what: Literal["target", "precision"] = "precision" if several_dtypes and not several_targets else "target"
    for number, (target, dtype) in enumerate(pairs):
        names = [target if several_targets or not several_dtypes else "", (dtype or "") if several_dtypes else ""]
        series.append(Series(number, target, dtype, " ".join(filter(None, names)), what))
    return tuple(series)


def series_of(series: tuple[Series, ...], result: SearchResult, dtype: DType | None) -> Series:
    """The series of something in a search's result, by its precision."""
    wanted = (result.target, dtype if result.fingerprints else result.dtype)
    return next((one for one in series if (one.target, one.dtype) == wanted), series[0])


def all_offers(source: Source, series: tuple[Series, ...]) -> tuple[Offer, ...]:
    """Every pick of every search, or the bundles where there is no search."""
    if source.searches:
        return tuple(offer for searched in source.searches for offer in _of_search(source, searched, series))
    return tuple(_of_bundle(source, bundled, series) for bundled in source.bundles)


def _of_search(source: Source, searched: Searched, series: tuple[Series, ...]) -> Iterator[Offer]:
    for pick in searched.result.picks:
        own = series_of(series, searched.result, pick.dtype)
        name = f"-{own.slug}" if len(series) > 1 else ""
        yield _of_pick(source, searched, pick, own, f"bundle{name}-{pick.number}")


def _of_pick(source: Source, searched: Searched, pick: Pick, series: Series, out: str) -> Offer:
    result = searched.result
    fingerprint = result.fingerprint if pick.dtype is None else result.fingerprints.get(pick.dtype, "")
    bundled = next(
        (
            one
            for one in source.bundles
            if (one.manifest.subnet, one.manifest.target.fingerprint) == (pick.subnet, fingerprint)
        ),
        None,
    )
    told = Told(pick.verified_ms, pick.measured_ms is not None, pick.timing, result.percentile)
    attributes = result.conditions.get("target") or {}
    searched_calls, _ = Inference.of(told, (result.threads, result.batch or 1), pick.watts, attributes)
    deployed = None if bundled is None else bundle_inference(bundled.manifest)[0]
    command = f"python -m ofa_tvm.deploy --from {quoted(searched.folder)} --pick {pick.number}"
    return Offer(
        number=pick.number,
        series=series,
        subnet=pick.subnet,
        budget_ms=pick.budget_ms,
        held=pick.held,
        unknown_power="" if pick.watts else unknown_power(attributes),
        watts=pick.watts,
        threads=result.threads,
        batch=result.batch or 1,
        provenance=result.provenance,
        percentile=result.percentile,
        latency_ms=pick.verified_ms,
        timing=pick.timing,
        predicted=Predicted(pick.predicted_ms, pick.predicted_low_ms, pick.predicted_high_ms),
        accuracies=Accuracies(
            pick.test_top1,
            pick.test_error,
            pick.validation_top1,
            pick.validation_error,
            pick.predicted_top1,
            pick.expected_top1,
        ),
        macs=pick.macs,
        parameters=pick.parameters,
        peak_activation_bytes=pick.peak_activation_bytes,
        blocks=pick.blocks or _blocks(result.space, pick.subnet),
        layers=pick.layers,
        objectives=pick.objectives,
        library_bytes=None if bundled is None else bundled.manifest.files["model.so"].bytes,
        bundle_bytes=None if bundled is None else bundle_bytes(bundled.folder, bundled.manifest),
        startup=_startup(source, pick.subnet, bundled),
        inference=deployed or searched_calls,
        deployed_ms=None if deployed is None else deployed.ms[0],
        core_rates=result.core_rates,
        next_command=f"{command} --out {out}",
    )


def _of_bundle(source: Source, bundled: Bundled, all_of: tuple[Series, ...]) -> Offer:
    manifest = bundled.manifest
    latency, accuracy = manifest.latency, manifest.accuracy
    predicted = None
    if latency.predicted_ms is not None:
        low, high = latency.predicted_low_ms, latency.predicted_high_ms
        predicted = Predicted(latency.predicted_ms, low or latency.predicted_ms, high or latency.predicted_ms)
    top1, images = accuracy.test_top1, accuracy.test_images
    error = None if top1 is None or not images else (top1 * (1 - top1) / images) ** 0.5
    wanted = (manifest.target.name, manifest.dtype)
    return Offer(
        number=None,
        series=next(series for series in all_of if (series.target, series.dtype) == wanted),
        subnet=manifest.subnet,
        budget_ms=latency.budget_ms,
        held=latency.budget_held,
        unknown_power=unknown_power(manifest.target.attributes),
        watts=None,
        threads=manifest.target.threads,
        batch=manifest.input.shape[0],
        provenance=latency.provenance,
        percentile=latency.percentile,
        latency_ms=told_latency(latency)[0].ms,
        timing=latency.timing,
        predicted=predicted,
        accuracies=Accuracies(
            top1, error, accuracy.validation_top1, accuracy.validation_error, accuracy.predicted_top1
        ),
        macs=manifest.macs,
        parameters=manifest.parameters,
        peak_activation_bytes=None,
        blocks=manifest.blocks or _blocks(manifest.space, manifest.subnet),
        layers=manifest.layers,
        objectives={},
        library_bytes=manifest.files["model.so"].bytes if "model.so" in manifest.files else None,
        bundle_bytes=bundle_bytes(bundled.folder, manifest),
        startup=_startup(source, manifest.subnet, bundled),
        inference=bundle_inference(manifest)[0],
        deployed_ms=None,
        core_rates=manifest.core_rates,
        next_command=f"{quoted(bundled.folder / 'run')} IMAGE",
    )


def _startup(source: Source, subnet: str, bundled: Bundled | None) -> Startup | None:
    """What a fresh process takes: from a file of the bundle's program, or as deploy measured it."""
    for run in source.runs:
        if run.subnet == subnet:
            return run.benchmark
    known = None if bundled is None else bundled.manifest.startup
    if known is None:
        return None
    return Startup(**known.model_dump(exclude_none=True))


def _blocks(space: str, subnet: str) -> tuple[Block, ...]:
    """The blocks of a subnet of a space that comes with the package, for results that do not hold them."""
    if space not in SPACES:
        return ()
    try:
        return subnet_blocks(SPACES[space], SPACES[space].validate(SubnetConfig.parse(subnet)))
    except UserError:
        return ()


def quoted(path: Path) -> str:
    """A path as a shell reads it, from the user's home if it is there: who reads a page need not know where that is."""
    home = Path.home()
    inside = path.is_relative_to(home) and home != Path("/")
    return f"~/{shlex.quote(str(path.relative_to(home)))}" if inside else shlex.quote(str(path))
