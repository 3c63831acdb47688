"""Where a search's accuracies come from: a trained supernet, or OFA's published predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ofa_tvm.accuracy.doubt import doubts
from ofa_tvm.accuracy.ofa_predictor import OfaPredictor
from ofa_tvm.accuracy.samples import (
    MIN_EVALUATED,
    AccuracySamples,
    require_readable,
    samples_folder,
    weights_identity,
)
from ofa_tvm.accuracy.source import AccuracySource, EvaluatedAccuracy, PublishedAccuracy
from ofa_tvm.accuracy.uncertainty import standard_error
from ofa_tvm.data import known_classes
from ofa_tvm.nas.result import Pick
from ofa_tvm.nas.target_search import TargetSearch
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.facts import SupernetFacts, checkpoint_path, read_facts, require_same_classes
from ofa_tvm.support.console import log, warn
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file


class OpenedAccuracy(NamedTuple):
    """An accuracy source, the SHA-256 of its file, and a function that numbers a pick and tests it on test images."""

    source: AccuracySource
    sha256: str
    tested: Callable[[Pick, int], Pick]


class Evaluation(NamedTuple):
    """How a supernet's subnets are evaluated.

    Args:
        data: images, see ``supernet_images``.
        host_threads: for torch; None for the cores that are idle.
        accuracies: files of accuracies that were found on other machines.
    """

    data: str | None = None
    host_threads: int | None = None
    accuracies: Sequence[Path] = ()


class AccuracyFile(NamedTuple):
    """A supernet's or OFA's predictor's (``.npz``) file: its space, its resolutions, and the function that opens it."""

    space: SearchSpace
    resolutions: tuple[int, ...]
    open: Callable[[TargetSearch], OpenedAccuracy]


def accuracy_of(path: Path, how: Evaluation) -> AccuracyFile:
    """What is known of a supernet or predictor before torch is loaded.

    Args:
        path: folder or file of the supernet, or the predictor's file.
        how: how it is evaluated.

    Raises:
        UserError: it cannot be read, or what it is evaluated on does not belong to it.
    """
    if path.suffix == ".npz":
        return _published(path)
    checkpoint = checkpoint_path(path)
    facts = read_facts(checkpoint)
    if facts.search_space.cardinality == 1:
        raise UserError(
            f"{path} holds one network, so there is nothing to search",
            f"deploy it: deploy --supernet {path if path.is_dir() else path.parent} --subnet largest --out BUNDLE",
        )
    source, sha256 = how.data or facts.data, sha256_file(checkpoint)
    if source and (found := known_classes(source)) is not None:
        require_same_classes(found, source, facts, path)
    kept = (checkpoint.parent, samples_folder(checkpoint.parent, weights_identity(sha256)))
    require_readable(kept, how.accuracies, sha256)
    resolutions = facts.search_space.choose_resolutions(facts.resolutions)
    return AccuracyFile(
        facts.search_space, resolutions, lambda search: _evaluated(path, checkpoint, facts, how, search)
    )


def _published(path: Path) -> AccuracyFile:
    predictor = OfaPredictor.load(path)

    def opened(search: TargetSearch) -> OpenedAccuracy:
        source = PublishedAccuracy(predictor)
        warn(source.note)
        if search.target.dtype == "int8":
            warn("beware: these accuracies are float32's; what int8 costs is not known of this supernet")
        return OpenedAccuracy(source, sha256_file(path), _numbered)

    return AccuracyFile(predictor.space, predictor.space.resolutions, opened)


def _numbered(pick: Pick, number: int) -> Pick:
    return pick.model_copy(update={"number": number})


def _samples(checkpoint: Path, sha256: str, facts: SupernetFacts, dtype: DType) -> AccuracySamples:
    """What is known of a supernet's subnets in a precision; its hash is ``sha256``."""
    folder = samples_folder(checkpoint.parent, weights_identity(sha256))
    relative = _samples(checkpoint, sha256, facts, "float32") if dtype == "int8" else None
    identity = weights_identity(sha256, dtype)
    return AccuracySamples(facts.search_space, folder, identity, checkpoint.parent, facts.resolutions, relative)


class MissingAccuracies(NamedTuple):
    """What a search evaluates before it begins.

    Args:
        subnets: to evaluate until the predictor can learn.
        images: held-out images of one evaluation; None where no evaluation has told yet.
    """

    subnets: int
    images: int | None


def missing_accuracies(path: Path, how: Evaluation, dtype: DType) -> MissingAccuracies:
    """What a search in a precision evaluates before it begins; nothing is written, and torch not loaded.

    Args:
        path: folder or file of the supernet, or the predictor's file.
        how: how it is evaluated.
        dtype: the precision.

    Raises:
        UserError: a file cannot be read.
    """
    if path.suffix == ".npz":
        return MissingAccuracies(0, None)
    checkpoint = checkpoint_path(path)
    samples = _samples(checkpoint, sha256_file(checkpoint), read_facts(checkpoint), dtype)
    for file in how.accuracies:
        samples.read(file)
    told = next(iter(samples.answers.values()), None)
    return MissingAccuracies(len(samples.missing(MIN_EVALUATED)), None if told is None else len(told))


def _evaluated(named: Path, path: Path, facts: SupernetFacts, how: Evaluation, search: TargetSearch) -> OpenedAccuracy:
    from ofa_tvm.measurement.classifier import classifiers
    from ofa_tvm.supernet.checkpoint import load_supernet
    from ofa_tvm.supernet.evaluate import Evaluator, supernet_images
    from ofa_tvm.supernet.held_out import open_held_out
    from ofa_tvm.supernet.host_threads import use_host_threads

    with search.ledger.phase("open the supernet"):
        threads = use_host_threads(how.host_threads)
        supernet, _ = load_supernet(path)
        dataset = supernet_images(how.data, facts, named, log)
        # compiled code is three times as fast as torch
        library = classifiers(search.target, search.log.winners, threads)
        dtype = search.target.dtype
        # bfloat16 and float16 keep accuracies within their own error: they are float32's, and picks are tested in it.
        counted: DType = "int8" if dtype == "int8" else "float32"
        held_out = open_held_out(path.parent, supernet, facts, dataset, library, counted)
        sha256 = sha256_file(path)
        samples = _samples(path, sha256, facts, dtype)
        for file in how.accuracies:
            log(f"{samples.merge(file)} accuracies of {file} are new")

    def tested(pick: Pick, number: int) -> Pick:
        log(f"pick {number}: accuracy on {len(dataset.test)} test images ...")
        evaluator = Evaluator(dataset, dataset.test, library=library, dtype=dtype)
        top1 = evaluator.top1(supernet, SubnetConfig.parse(pick.subnet))
        test = {"test_top1": top1, "test_error": standard_error(top1, len(dataset.test))}
        return _numbered(pick, number).model_copy(update=test)

    if missing := len(samples.missing(MIN_EVALUATED)):
        log(f"{missing} more subnets are evaluated: the accuracy predictor of a search learns from {MIN_EVALUATED}")
        with search.ledger.phase("evaluate subnets"):
            samples.sample(MIN_EVALUATED, held_out.answers)
    found = doubts(samples, held_out.images, samples.report())
    for doubt in found:
        warn(f"beware: {doubt}")
    source = EvaluatedAccuracy(samples, held_out.answers, held_out.images, "; ".join(found))
    return OpenedAccuracy(source, sha256, tested)
