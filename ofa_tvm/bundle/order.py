"""What to deploy, from the command line or from a search's pick; and its deployment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ofa_tvm.bundle.card import UNKNOWN
from ofa_tvm.bundle.folder import check_destination
from ofa_tvm.bundle.manifest import Manifest
from ofa_tvm.compiler.assembly.c_compiler import require_compiler
from ofa_tvm.devices import open_device
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.nas.result import Pick, SearchResult, load_search_result
from ofa_tvm.spaces.architectures import read_architectures
from ofa_tvm.supernet.facts import checkpoint_path, read_facts, untrained
from ofa_tvm.support.console import log, warn
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.ledger import Cost, Meter
from ofa_tvm.support.shipped import known_as, shipped_supernet, shipped_supernets
from ofa_tvm.timing.window import Percentile
from ofa_tvm.tuner.log import opened_log

if TYPE_CHECKING:
    from ofa_tvm.bundle.deployment import Deployment
    from ofa_tvm.tuner.device import Device


@dataclass(frozen=True)
class Order:
    """What to deploy.

    Args:
        subnet: key of the subnet.
        supernet: checkpoint or training folder; None for the one that ships.
        target: what the library is for.
        pick: the search's pick of the subnet.
        spent: what the search has cost.
        supernet_sha256: hash that the checkpoint had in the search and must still have; None without a search.
        percentile: which percentile of single calls the search's latencies are.
        busy_cores: cores that it kept busy while measuring.
        licence: of the weights, for the bundle's card; None for no card.
        most_lost: of its accuracy, as a fraction; None for what the precision may lose.
    """

    subnet: str
    supernet: Path | None
    target: TargetSpec
    pick: Pick | None = None
    spent: tuple[Cost, ...] = ()
    supernet_sha256: str | None = None
    percentile: Percentile = 50
    busy_cores: int = 0
    licence: str | None = None
    most_lost: float | None = None

    @classmethod
    def of_search(cls, folder: Path, number: int, supernet: Path | None) -> Order:
        """A pick of a search, for the target that it was made for.

        Args:
            folder: the search's.
            number: of the pick.
            supernet: instead of the search's, where that has moved.

        Raises:
            UserError: there is no such search or pick, or its figures do not hold here.
        """
        result = load_search_result(folder)
        chosen = result.pick(number)
        return cls(
            subnet=chosen.subnet,
            supernet=supernet or result.supernet,
            target=_searched_target(result, chosen),
            pick=chosen,
            spent=result.cost,
            supernet_sha256=result.supernet_sha256,
            percentile=result.percentile,
            busy_cores=result.busy_cores,
        )

    def write(
        self, out: Path, data: str | None = None, logs: Path | None = None, check_images: int | None = None
    ) -> Manifest:
        """Write the bundle, on the target's device where there is one; see ``deployment``.

        Args:
            out: its folder.
            data: see ``deployment``.
            logs: likewise.
            check_images: likewise.

        Raises:
            UserError: it cannot be written there, or something cannot be read.
            OfaTvmError: the library does not compute what it should.
        """
        check_destination(out)
        require_compiler(self.target.toolchain.linker)
        self.target.stored_provenance()  # a bundle says how fast it is
        needs_device = self.target.is_at_hand and self.target.device != "local"
        with open_device(self.target) if needs_device else nullcontext() as device:
            return self.deployment(data, logs, check_images, device).write(out)

    def deployment(
        self, data: str | None, logs: Path | None, check_images: int | None, device: Device | None
    ) -> Deployment:
        """Load everything that the deployment needs.

        Args:
            data: images, see ``supernet_images``.
            logs: folder of tuning logs; None for the default.
            check_images: test images to check the accuracy on; None for all, or few where they run under emulation.
            device: where the library runs; see ``Deployment``.

        Raises:
            UserError: the supernet is not the one that was searched, or something cannot be read.
        """
        meter = Meter()
        # These import torch and TVM; bad input is reported before.
        from ofa_tvm.bundle.answers import COMPARED_IMAGES
        from ofa_tvm.bundle.deployment import Deployment
        from ofa_tvm.supernet.checkpoint import load_supernet
        from ofa_tvm.supernet.evaluate import supernet_images
        from ofa_tvm.supernet.trained_images import other_images

        named = self.supernet or shipped_supernet()
        checkpoint = checkpoint_path(named)
        _check_searched_supernet(checkpoint, self.supernet_sha256)
        model, facts = load_supernet(checkpoint)
        if said := untrained([model.space.parse(self.subnet).resolution], facts.resolutions):
            warn(f"beware: the supernet {said}: the subnet may be bad")
        dataset = supernet_images(data, facts, named, log)
        if "part_of" not in facts.training and (said := other_images(dataset, facts, named)):
            warn(f"beware: {said}: it may have been trained on some of the test images that the bundle is checked on")
        if not (data or facts.data):
            check_images = 0  # noise has no classes to be right about
            if self.target.dtype == "int8":
                fused_steps(model.space.network(model.space.parse(self.subnet)), "int8")  # says what it cannot do
                raise UserError("int8 takes its scales from images, and this model came without any", "give --data")
        if check_images is None:  # emulation takes a tenth of a second an image
            check_images = COMPARED_IMAGES["float32"] if self.target.provenance == "estimated" else len(dataset.test)
        return Deployment(
            supernet=model,
            facts=facts,
            checkpoint=checkpoint,
            config=model.space.parse(self.subnet),
            dataset=dataset,
            target=self.target,
            log=opened_log(self.target, logs),
            device=device,
            check_images=check_images,
            pick=self.pick,
            percentile=self.percentile,
            busy_cores=self.busy_cores,
            costs=[*self.spent, meter.read("deploy: load")],
            licence=self.licence,
            most_lost=self.most_lost,
        )


def refuse_changes(
    folder: Path, number: int, supernet: Path | None, asked: Mapping[str, object], others: Mapping[str, object]
) -> None:
    """Refuse to deploy a pick in another way than it was searched for: the search's figures would not hold.

    Args:
        folder: the search's.
        number: of the pick.
        supernet: instead of the search's, where that has moved.
        asked: what is asked for, by option; None is as in the search.
        others: other options, which the command in the hint keeps.

    Raises:
        UserError: something differs; the hint is the command that deploys the same subnet in that way.
    """
    result = load_search_result(folder)
    pick = result.pick(number)
    searched = {
        "--target": result.target_source or result.target,
        "--threads": result.threads,
        "--batch": result.batch,
        "--dtype": pick.dtype or result.dtype,
        "--device": result.device,
    }
    changed = {name: value for name, value in asked.items() if value not in (None, searched[name])}
    if not changed:
        return
    kept = {} if "--target" in changed else searched  # another target has its own threads and device
    subnet = {"--supernet": known_as(supernet or result.supernet), "--subnet": pick.subnet}
    every = {**subnet, **kept, **changed, **others}
    options = {name: value for name, value in every.items() if value is not None and value is not False}
    words = [[name] if value is True else [name, str(value)] for name, value in options.items()]
    command = f"python -m ofa_tvm.deploy {shlex.join(chain.from_iterable(words))}"
    told = "; ".join(
        f"{name} {value}, the search was for {name} {searched[name] or 'of the target'}"
        for name, value in changed.items()
    )
    raise UserError(
        f"pick {number} of {folder} cannot be deployed with {told}",
        f"deploy its subnet without the search's figures:\n{command}",
    )


def tell_default_supernet() -> None:
    """Say which supernet a command takes that names none."""
    facts = read_facts(checkpoint_path(shipped_supernet()))
    log(
        f"no --supernet is named: taking {shipped_supernet().name}, which ships ({facts.classes} classes, {facts.data})"
    )


def known_licence(supernet: Path | None) -> str:
    """The licence of a supernet's weights, as model hubs name it: of those that ship, this package's."""
    folder = checkpoint_path(supernet or shipped_supernet()).parent.resolve()
    return "apache-2.0" if folder in {shipped.resolve() for shipped in shipped_supernets()} else UNKNOWN


def written_subnet(source: str, supernet: Path | None) -> str:
    """The key of the one subnet that a file names, see ``read_architectures``.

    Raises:
        UserError: it cannot be read, is not of the supernet's space, or names several.
    """
    space = read_facts(checkpoint_path(supernet or shipped_supernet())).search_space
    configs = read_architectures(source, space)
    if len(configs) != 1:
        raise UserError(f"{source} names {len(configs)} subnets", "a bundle is one: give a file of one")
    return configs[0].key


def _searched_target(result: SearchResult, pick: Pick) -> TargetSpec:
    """The target that a search was made for, in the precision of a pick.

    Raises:
        UserError: its file is gone or changed, or this is another machine: the search's figures do not hold here.
    """
    hint = "search again here, or deploy without the search's figures: --subnet KEY with --target"
    source, dtype = result.target_source or result.target, pick.dtype or result.dtype
    is_mixed = bool(result.fingerprints) or pick.dtype is not None
    if is_mixed and (pick.dtype is None or pick.dtype not in result.fingerprints):
        raise UserError(
            f"the search's result is damaged: it has no fingerprint of the precision of pick {pick.number}",
            "run the search again",
        )
    fingerprint = result.fingerprint if pick.dtype is None else result.fingerprints[pick.dtype]
    try:
        target = load_target(source, result.threads, result.batch, result.device, dtype)
    except UserError as error:
        raise UserError(f"the target of the search, '{source}', cannot be used here: {error.what}", hint) from error
    if target.fingerprint != fingerprint:
        before, now = result.conditions.get("tvm"), target.conditions["tvm"]
        if before not in (None, now):
            raise UserError(
                f"the search was made with apache-tvm {before}, and {now} is installed",
                f"pip install apache-tvm=={before}, or {hint}",
            )
        raise UserError(
            f"the search was made on another machine or target: {fingerprint}, "
            f"but '{source}' is {target.fingerprint} here",
            hint,
        )
    return target


def _check_searched_supernet(checkpoint: Path, expected: str | None) -> None:
    """Refuse a checkpoint that is not the one that was searched.

    Raises:
        UserError: it is another one.
    """
    if expected is not None and checkpoint.exists() and sha256_file(checkpoint) != expected:
        raise UserError(
            f"{checkpoint} is not the supernet that was searched: its SHA-256 is not {expected}",
            "give the one that was searched by --supernet, search again, or give --subnet KEY instead of --from",
        )
