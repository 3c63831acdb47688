"""From a supernet and a subnet's key to a verified bundle: extract, calibrate, compile, check, measure."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ofa_tvm.bundle.card import largest_top1, write_card
from ofa_tvm.bundle.folder import LIBRARY, ONNX, RUNNER, write_bundle
from ofa_tvm.bundle.gpu_bundle import add_gpu_program
from ofa_tvm.bundle.manifest import Accuracy, InputFacts, Latency, Manifest, Preparation, SupernetSource, TargetFacts
from ofa_tvm.bundle.startup import measure_startup
from ofa_tvm.compiler.codegen import Library, codegen_of
from ofa_tvm.compiler.cuda.program import NETWORK
from ofa_tvm.compiler.loaded_model import LoadedModel, load_anew
from ofa_tvm.compiler.runner_build import add_runner, oldest_glibc
from ofa_tvm.compiler.threads import use_threads
from ofa_tvm.compiler.tvm_api.names import tvm
from ofa_tvm.data import noise
from ofa_tvm.data.dataset import Dataset
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.onnx_export import to_onnx
from ofa_tvm.graph.parity import check_parity, relative_error
from ofa_tvm.graph.weights import Weights, digest
from ofa_tvm.hardware.host import host_identity
from ofa_tvm.hardware.machine import package_version
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.layer_times import layer_times
from ofa_tvm.nas.result import Pick
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.spaces.subnet_blocks import subnet_blocks
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.subnet import Subnet
from ofa_tvm.support.console import Task, log, warn
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.ledger import Cost, Meter
from ofa_tvm.support.system_errors import naming
from ofa_tvm.support.version import VERSION
from ofa_tvm.timing.busy_cores import busy_cores
from ofa_tvm.timing.core_rates import core_rates
from ofa_tvm.timing.patience import until_undisturbed
from ofa_tvm.timing.turns import WindowPlan, in_turn
from ofa_tvm.timing.window import Percentile, Timing, Window, usual_calibration_ms
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.job import TunedSubnets
from ofa_tvm.tuner.latency_records import every_record, windows_on
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tuned_space import TunedSpace

MAX_TOP1_DIFFERENCE: dict[DType, float] = {"float32": 0.001, "float16": 0.003, "int8": 0.003}
"""From the torch subnet in float32; int8 may lose as much before chance is taken off, see ``check_accuracy``."""
# Looser than a plain comparison of engines: the torch subnet runs its batch norms unfolded.
MAX_LOGIT_DIFFERENCE: dict[DType, float] = {"float32": 1e-3, "float16": 1e-2, "int8": 1e-5}
"""Largest difference of a subnet compiled in this precision from its reference."""
REFERENCES: dict[DType, str] = {
    "float32": "the torch subnet",
    "float16": "the torch subnet",
    "int8": "the int8 network in numpy",
}
SIGMAS = 1.96
"""Of a 95 % interval."""
NOWHERE = {"pack": "measured elsewhere, by packs", "replay": "a recording"}
COMPARED_IMAGES: dict[DType, int] = {"float32": 500, "float16": 500, "int8": 8}
TORCH_BATCH = 250

Images = NDArray[np.float32]


@dataclass
class Deployment:
    """One subnet on its way into a bundle.

    Args:
        supernet: where its weights come from.
        facts: what the checkpoint says about the supernet.
        checkpoint: the checkpoint's file.
        config: the subnet.
        dataset: images for calibration and for the check.
        target: what the library is for.
        log: the target's tuning log.
        device: where the library runs; None for this machine, or for nowhere: see ``TargetSpec.is_at_hand``.
        check_images: test images that the library must classify as the torch subnet does; 0 for none.
        pick: the search's pick of the subnet, if a search made it.
        percentile: which percentile of single calls its latency is.
        busy_cores: cores to keep busy while measuring.
        costs: what was spent before, and what each phase here costs.
        licence: of the weights; with one, the bundle gets a card.
    """

    supernet: Supernet
    facts: SupernetFacts
    checkpoint: Path
    config: SubnetConfig
    dataset: Dataset
    target: TargetSpec
    log: TuningLog
    device: Device | None
    check_images: int
    pick: Pick | None = None
    percentile: Percentile = 50
    busy_cores: int = 0
    costs: list[Cost] = field(default_factory=list)
    licence: str | None = None

    def write(self, out: Path) -> Manifest:
        """Make the bundle.

        Raises:
            OfaTvmError: the library does not compute what the torch subnet does; ``out`` stays as it was.
            UserError: ``out`` cannot be used, see ``write_bundle``.
        """
        return write_bundle(out, self._fill)

    def _fill(self, folder: Path) -> Manifest:
        use_threads(self.target.threads)
        with self._phase("extract and calibrate"):
            evaluator = Evaluator(self.dataset, self.dataset.test, dtype=self.target.dtype)
            subnet = evaluator.subnet(self.supernet, self.config)
            weights = evaluator.weights(subnet)
        with self._phase("export ONNX"):
            model = to_onnx(subnet.network, weights, self.target.batch)
            onnx.checker.check_model(model, full_check=True)
            with naming(folder / ONNX):
                onnx.save(model, folder / ONNX)
        with self._phase("compile"):
            self._compile(subnet, weights, folder)
        with self._phase("runner"):
            add_runner(folder / RUNNER, self.target.toolchain.linker)
        library = self._load(folder) if self.target.is_at_hand else None
        with self._phase("check"):
            accuracy = self._unchecked() if library is None else self._check(library, subnet, weights)
        with self._phase("measure"):
            latency = self._latency(library, folder)
        manifest = self._manifest(subnet, weights, accuracy, latency)
        runs_here = self.target.device == "local"
        manifest = manifest.model_copy(
            update={
                "glibc": oldest_glibc(*folder.glob("*.so"), folder / RUNNER),
                "startup": measure_startup(folder / RUNNER, folder / LIBRARY) if runs_here else None,
                "core_rates": core_rates() if runs_here and not self.target.is_gpu else None,
            }
        )
        if self.licence is not None:
            write_card(folder, manifest, self.licence, largest_top1(self.checkpoint.parent))
        return manifest

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        log(f"{name} ...")
        meter = Meter()
        yield
        self.costs.append(meter.read(f"deploy: {name}"))

    def _compile(self, subnet: Subnet, weights: Weights, folder: Path) -> None:
        library = folder / (NETWORK if self.target.is_gpu else LIBRARY)
        codegen_of(self.target).build(subnet.network, weights, self.log.winners, library)
        if self.target.is_gpu:
            add_gpu_program(subnet.network, self.target, folder)

    def _load(self, folder: Path) -> Library:
        if self.device is not None:
            return self.device.load(folder / LIBRARY)
        return codegen_of(self.target).load(folder / (NETWORK if self.target.is_gpu else LIBRARY))

    def _unchecked(self) -> Accuracy:
        """What is known of the accuracy where the library cannot run."""
        return Accuracy(
            data=self.dataset.name,
            how=f"nothing was run: target {self.target.name} is {NOWHERE[self.target.device]}",
            test_images=0,
            compared_images=0,
            validation_top1=self.pick.validation_top1 if self.pick else None,
            predicted_top1=self.pick.predicted_top1 if self.pick else None,
        )

    @staticmethod
    def _shown(starts: range, title: str, total: int) -> Iterator[int]:
        """Starts of batches, with progress."""
        with Task(title, total) as task:
            for start in starts:
                yield start
                task.advance(min(starts.step, total - start))

    def _check(self, library: Library, subnet: Subnet, weights: Weights) -> Accuracy:
        """Run the same images through the library, the torch subnet, and for int8 through its numpy reference."""
        test, dtype = self.dataset.test, self.target.dtype
        counted, compared = min(self.check_images, len(test)), min(COMPARED_IMAGES[dtype], len(test))
        per_call = self.target.batch
        if self.device is not None:
            per_call = TORCH_BATCH  # the runner and a board take many at once, and asking them takes time
        right = torch_right = np.empty(0, bool)
        answers, expected = [], []
        images_in_all = max(counted, compared)
        for start in self._shown(range(0, images_in_all, TORCH_BATCH), "checking images", images_in_all):
            rows = slice(start, min(start + TORCH_BATCH, images_in_all))
            images = preprocess(to_tensor(test.images[rows]), self.facts.preprocess, self.config.resolution)
            torch_logits: Images = subnet(images).numpy()
            channels_last = images.permute(0, 2, 3, 1).numpy()
            logits = run_in_batches(library, channels_last, per_call)
            labels = test.labels[rows][: max(0, counted - start)]
            right = np.append(right, logits[: len(labels)].argmax(1) == labels)
            torch_right = np.append(torch_right, torch_logits[: len(labels)].argmax(1) == labels)
            if start < compared:
                answers.append(logits[: compared - start])
                if dtype == "int8":
                    torch_logits = network_logits(subnet.network, weights, channels_last[: compared - start])
                expected.append(torch_logits[: compared - start])
        difference = relative_error(np.concatenate(answers), np.concatenate(expected))
        reference = REFERENCES[dtype]
        check_parity("the compiled library", difference, reference, MAX_LOGIT_DIFFERENCE[dtype])
        check_accuracy(right, torch_right, dtype)
        how = (
            f"{counted} test images through the bundle's library {library.where}".rstrip()
            if counted
            else "accuracy was not checked"
        )
        return Accuracy(
            data=self.dataset.name,
            how=f"{how}; logits of {compared} images compared with {reference}",
            test_images=counted,
            test_top1=float(right.mean()) if counted else None,
            torch_test_top1=float(torch_right.mean()) if counted else None,
            compared_images=compared,
            max_relative_logit_difference=difference,
            reference=reference,
            validation_top1=self.pick.validation_top1 if self.pick else None,
            predicted_top1=self.pick.predicted_top1 if self.pick else None,
        )

    def _latency(self, library: Library | None, folder: Path) -> Latency:
        timing = estimated_ms = None
        if self.device is not None and self.target.provenance == "estimated":
            space = self.supernet.space
            subnets = TunedSubnets.of(space, (self.config.key,), self.log.folder)
            (estimate,) = self.device.time_subnets(subnets, self._plan)
            estimated_ms = statistics.median(estimate.times_ms)
        elif library is not None:
            timing = self._measure(library, folder)
        pick = self.pick
        return Latency(
            provenance=self.target.stored_provenance(),
            measured_ms=None if timing is None else timing.told_ms(self.percentile),
            timing=timing,
            percentile=self.percentile,
            estimated_ms=estimated_ms,
            conditions=self.target.conditions,
            predicted_ms=pick.predicted_ms if pick else None,
            predicted_low_ms=pick.predicted_low_ms if pick else None,
            predicted_high_ms=pick.predicted_high_ms if pick else None,
            search_measured_ms=pick.measured_ms if pick else None,
            search_estimated_ms=pick.estimated_ms if pick else None,
            budget_ms=pick.budget_ms if pick else None,
            budget_held=self._holds_budget(timing, estimated_ms),
        )

    def _holds_budget(self, timing: Timing | None, estimated_ms: float | None) -> bool | None:
        """Whether the latency found here holds the budget of the search's pick; None where that cannot be said."""
        budget_ms = None if self.pick is None else self.pick.budget_ms
        slowest_ms = estimated_ms if timing is None else timing.slowest_ms(self.percentile)
        if budget_ms is None or slowest_ms is None or (timing is not None and not timing.is_sound):
            return None
        if slowest_ms > budget_ms:
            warn(f"the budget of {budget_ms:g} ms does not hold now: {slowest_ms:.4g} ms; search again, or see --load")
        return slowest_ms <= budget_ms

    @property
    def _plan(self) -> WindowPlan:
        return WindowPlan(**self.target.measure.model_dump(), busy_cores=self.busy_cores)

    def _measure(self, library: Library, folder: Path) -> Timing:
        size, plan = self.config.resolution, self._plan
        images = np.random.default_rng(0).standard_normal((self.target.batch, size, size, 3), np.float32)
        is_here = isinstance(library, LoadedModel)

        def window() -> Window:
            loaded = load_anew(folder / LIBRARY) if is_here else library
            return Window.of(loaded.window(images, plan.window_ms))

        host = host_identity() if self.target.device == "local" else ""
        before, windows = windows_on(every_record(self.log.folder), host), list[Window]()

        def timing() -> Timing:
            return Timing(
                windows=tuple(windows),
                host=host,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                usual_calibration_ms=usual_calibration_ms([*before, *windows]),
                busy_cores=plan.busy_cores,
            )

        def measure() -> int:
            with busy_cores(plan.busy_cores):
                windows.extend(in_turn([window], plan)[0])
            return 1 - timing().is_sound

        until_undisturbed(measure)
        return timing()

    def _manifest(self, subnet: Subnet, weights: Weights, accuracy: Accuracy, latency: Latency) -> Manifest:
        network, target = subnet.network, self.target
        is_noise = self.dataset.name == noise.NAME
        kernels = {kernel.key for _, kernel in codegen_of(target).steps(network)}
        tuned = len(kernels & self.log.winners.keys())
        space = self.supernet.space
        layers = self.pick.layers if self.pick else ()
        if not layers and latency.measured_ms is not None:
            layers = layer_times(TunedSpace(space, target, self.log), self.config, latency.measured_ms, None)
        return Manifest(
            ofa_tvm=VERSION,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            space=self.facts.space,
            subnet=self.config.key,
            supernet=SupernetSource(
                file=self.checkpoint.name, sha256=sha256_file(self.checkpoint), weights_sha256=digest(weights)
            ),
            input=InputFacts(
                name="image",
                layout="NHWC",
                shape=(target.batch, network.resolution, network.resolution, network.in_channels),
                dtype="float32",
                resolution=network.resolution,
            ),
            preprocess=Preparation.of(self.facts.preprocess, None if is_noise else self.dataset.test.images.shape[1]),
            class_names=self.facts.class_names,
            classes=network.classes,
            macs=network.macs,
            parameters=network.parameters,
            dtype=target.dtype,
            accuracy=accuracy,
            latency=latency,
            target=TargetFacts(
                name=target.name,
                fingerprint=target.fingerprint,
                attributes=target.attributes,
                threads=target.threads,
                tuned_kernels=tuned,
                default_kernels=len(kernels) - tuned,
            ),
            versions=_versions(),
            cost=tuple(self.costs),
            blocks=subnet_blocks(space, self.config),
            layers=layers,
        )


def check_accuracy(right: NDArray[np.bool_], torch_right: NDArray[np.bool_], dtype: DType) -> None:
    """Compare a library's answers to the same images with the torch subnet's.

    Raises:
        OfaTvmError: they differ by more than the precision may; for int8, by a loss that chance does not explain.
    """
    count, most = len(right), MAX_TOP1_DIFFERENCE[dtype]
    lost, won = int((torch_right & ~right).sum()), int((right & ~torch_right).sum())
    if dtype != "int8":
        if abs(lost - won) > most * count:
            raise OfaTvmError(
                f"the compiled library is right on {right.sum()} of {count} images, the torch subnet on "
                f"{torch_right.sum()}",
                "no bundle was written; please report the subnet's key, the target and the versions",
            )
        return
    certain = lost - won - SIGMAS * (lost + won) ** 0.5
    if certain > most * count:
        raise OfaTvmError(
            f"int8 costs this subnet {100 * (lost - won) / count:.2f} points on {count} images, more than "
            f"{100 * most:g}: right on {right.sum()}, in float32 on {torch_right.sum()}",
            "no bundle was written; deploy it with --dtype float32, or another subnet",
        )


def run_in_batches(library: Callable[[Images], Images], images: Images, batch: int) -> Images:
    """Logits (n, classes) of any number of images (n, resolution, resolution, channels), ``batch`` a call."""
    count = len(images)
    padded = np.concatenate([images, np.zeros((-count % batch, *images.shape[1:]), np.float32)])
    calls = [library(np.ascontiguousarray(padded[start : start + batch])) for start in range(0, count, batch)]
    return np.concatenate(calls)[:count]


def _versions() -> dict[str, str]:
    packages = {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi", "torch": "torch", "onnx": "onnx", "numpy": "numpy"}
    versions = {name: package_version(package) for name, package in packages.items()}
    return {**versions, "llvm": str(tvm.target.codegen.llvm_version_major()), "python": platform.python_version()}
