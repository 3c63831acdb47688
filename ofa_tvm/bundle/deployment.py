"""From a supernet and a subnet's key to a verified bundle: extract, calibrate, compile, check, measure."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import onnx

from ofa_tvm.bundle.answers import MAX_TOP1_DIFFERENCE, TORCH_BATCH, AnswerCheck, LostTooMuch
from ofa_tvm.bundle.card import largest_top1, write_card
from ofa_tvm.bundle.folder import LIBRARY, ONNX, RUNNER, write_bundle
from ofa_tvm.bundle.gpu_bundle import add_gpu_program
from ofa_tvm.bundle.manifest import (
    Accuracy,
    InputFacts,
    Latency,
    Manifest,
    Precision,
    Preparation,
    SupernetSource,
    TargetFacts,
)
from ofa_tvm.bundle.precision import PrecisionByBlock, all_winners
from ofa_tvm.bundle.speed import LatencyCheck
from ofa_tvm.bundle.startup import measure_startup
from ofa_tvm.compiler.codegen import Library, codegen_of
from ofa_tvm.compiler.cuda.program import NETWORK
from ofa_tvm.compiler.loaded_model import load_anew
from ofa_tvm.compiler.runner_build import add_runner, oldest_glibc
from ofa_tvm.compiler.threads import use_threads
from ofa_tvm.compiler.tvm_api.names import tvm
from ofa_tvm.data import noise
from ofa_tvm.data.dataset import Dataset
from ofa_tvm.graph.kernel import Winners
from ofa_tvm.graph.mixed import kept_layers, network_steps
from ofa_tvm.graph.onnx_export import to_onnx
from ofa_tvm.graph.weights import Weights, digest
from ofa_tvm.hardware.machine import package_version
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.layer_times import layer_times
from ofa_tvm.nas.result import Pick
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.spaces.subnet_blocks import subnet_blocks
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.subnet import Subnet
from ofa_tvm.supernet.trained_images import require_trained_images
from ofa_tvm.support.console import log
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.ledger import Cost, Meter
from ofa_tvm.support.system_errors import naming
from ofa_tvm.support.version import VERSION
from ofa_tvm.timing.core_rates import core_rates
from ofa_tvm.timing.window import Percentile
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.job import TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tuned_space import TunedSpace

NOWHERE = {"pack": "measured elsewhere, by packs", "replay": "a recording"}


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
        most_lost: of its accuracy, as a fraction; None for what the precision may lose.
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
    most_lost: float | None = None

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
        precision = None
        if self.most_lost is not None and self._may_mix:
            weights, precision = self._mixed(subnet, weights)
        with self._phase("runner"):
            add_runner(folder / RUNNER, self.target.toolchain.linker)
        try:
            library, accuracy = self._checked(subnet, weights, folder)
        except LostTooMuch as error:
            if self.most_lost is not None or not self._may_mix:
                raise
            log(error.what)
            weights, precision = self._mixed(subnet, weights)
            library, accuracy = self._checked(subnet, weights, folder)
        with self._phase("measure"):
            latency = self._latency().run(library, folder)
        manifest = self._manifest(subnet, weights, accuracy, latency, precision)
        runs_here = self.target.device == "local"
        manifest = manifest.model_copy(
            update={
                "glibc": oldest_glibc(*folder.glob("*.so"), folder / RUNNER),
                "startup": measure_startup(folder / RUNNER, folder / LIBRARY) if runs_here else None,
                "core_rates": core_rates() if runs_here and not self.target.is_gpu else None,
            }
        )
        if self.licence is not None:
            is_whole = self.supernet.space.cardinality == 1
            write_card(folder, manifest, self.licence, largest_top1(self.checkpoint.parent), is_whole=is_whole)
        return manifest

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        log(f"{name} ...")
        meter = Meter()
        yield
        self.costs.append(meter.read(f"deploy: {name}"))

    @property
    def _may_mix(self) -> bool:
        """Whether blocks may stay float32: in int8, where the library's speed will be measured, not estimated."""
        return self.target.dtype == "int8" and self.target.is_at_hand and self.target.provenance == "measured"

    def _mixed(self, subnet: Subnet, weights: Weights) -> tuple[Weights, Precision | None]:
        require_trained_images(self.dataset, self.facts, self.checkpoint)
        with self._phase("precision"):
            choice = PrecisionByBlock(self.dataset, subnet, weights, self.target, self.log)
            most = MAX_TOP1_DIFFERENCE["int8"] if self.most_lost is None else self.most_lost
            weights, precision = choice.choose(most)
        if precision is not None:
            log(precision.words())
        return weights, precision

    def _checked(self, subnet: Subnet, weights: Weights, folder: Path) -> tuple[Library | None, Accuracy]:
        """Write the ONNX file and the library, and check that one."""
        with self._phase("export ONNX"):
            model = to_onnx(subnet.network, weights, self.target.batch)
            onnx.checker.check_model(model, full_check=True)
            with naming(folder / ONNX):
                onnx.save(model, folder / ONNX)
        with self._phase("compile"):
            self._compile(subnet, weights, folder)
        library = self._load(folder) if self.target.is_at_hand else None
        with self._phase("check"):
            return library, self._accuracy(library, subnet, weights)

    def _compile(self, subnet: Subnet, weights: Weights, folder: Path) -> None:
        codegen_of(self.target).build(subnet.network, weights, self._winners(weights), folder / self._network)
        if not self.target.has_templates:
            add_gpu_program(subnet.network, self.target, folder)

    def _winners(self, weights: Weights) -> Winners:
        return all_winners(self.log) if kept_layers(weights) else self.log.winners

    def _load(self, folder: Path) -> Library:
        if self.device is not None:
            return self.device.load(folder / LIBRARY)
        if self.target.is_this_cpu:  # a copy: an earlier library may have been loaded from this place
            return load_anew(folder / LIBRARY)
        return codegen_of(self.target).load(folder / self._network)

    @property
    def _network(self) -> str:
        """The file that computes: the library itself, or what it hands the calls to."""
        return LIBRARY if self.target.has_templates else NETWORK

    def _accuracy(self, library: Library | None, subnet: Subnet, weights: Weights) -> Accuracy:
        # The runner and a board take many images at once, and asking them takes time.
        batch = self.target.batch if self.device is None else TORCH_BATCH
        check = AnswerCheck(
            self.dataset,
            self.facts.preprocess,
            self.target.dtype,
            batch,
            self.check_images,
            self.most_lost,
            self.pick,
            self.target.is_gpu,
        )
        if library is None:
            return check.nothing(f"target {self.target.name} is {NOWHERE[self.target.device]}")
        return check.run(library, subnet, weights)

    def _latency(self) -> LatencyCheck:
        return LatencyCheck(
            subnets=TunedSubnets.of(self.supernet.space, (self.config.key,), self.log.folder),
            resolution=self.config.resolution,
            target=self.target,
            log=self.log,
            device=self.device,
            pick=self.pick,
            percentile=self.percentile,
            busy_cores=self.busy_cores,
        )

    def _manifest(
        self, subnet: Subnet, weights: Weights, accuracy: Accuracy, latency: Latency, precision: Precision | None
    ) -> Manifest:
        network, target = subnet.network, self.target
        is_noise = self.dataset.name == noise.NAME
        if precision is None:
            kernels = {kernel.key for _, kernel in codegen_of(target).steps(network)}
        else:
            kernels = {step.kernel.key for step in network_steps(network, weights)}
        tuned = len(kernels & self._winners(weights).keys())
        space = self.supernet.space
        layers = self.pick.layers if self.pick and precision is None else ()
        if not layers and latency.measured_ms is not None and precision is None:
            layers = layer_times(TunedSpace(space, target, self.log), self.config, latency.measured_ms)
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
            precision=precision,
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


def _versions() -> dict[str, str]:
    packages = {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi", "torch": "torch", "onnx": "onnx", "numpy": "numpy"}
    versions = {name: package_version(package) for name, package in packages.items()}
    return {**versions, "llvm": str(tvm.target.codegen.llvm_version_major()), "python": platform.python_version()}
