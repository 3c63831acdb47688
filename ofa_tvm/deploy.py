"""``python -m ofa_tvm.deploy``: write a subnet as a folder that runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_tvm.support.command import (
    BatchOption,
    DeviceOption,
    DTypeOption,
    JsonFlag,
    LogsOption,
    emit,
    run_command,
    table,
)
from ofa_tvm.support.ledger import Cost, Meter, total

if TYPE_CHECKING:
    from ofa_tvm.bundle.deployment import Deployment
    from ofa_tvm.bundle.manifest import Latency, Manifest
    from ofa_tvm.hardware.target import TargetSpec
    from ofa_tvm.nas.result import Pick, SearchResult


@dataclass(frozen=True)
class Order:
    """What is to be deployed: as said on the command line, or as a search picked it.

    Args:
        subnet: key of the subnet.
        supernet: checkpoint or training folder; None for the one that ships.
        target: what the library is for.
        pick: what the search said of the subnet.
        spent: what the search has cost.
        supernet_sha256: what the search's checkpoint must still be; None where no search says so.
    """

    subnet: str
    supernet: Path | None
    target: TargetSpec
    pick: Pick | None = None
    spent: tuple[Cost, ...] = ()
    supernet_sha256: str | None = None


def deploy(
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced.")],
    subnet: Annotated[str | None, typer.Option(help="Key of the subnet, or largest, or smallest.")] = None,
    supernet: Annotated[Path | None, typer.Option(help="Checkpoint or training folder (default: shipped).")] = None,
    target: Annotated[str | None, typer.Option(help="Target: a name in targets/, or a .toml file (x86).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    batch: BatchOption = None,
    dtype: DTypeOption = None,
    device: DeviceOption = None,
    data: Annotated[
        str | None, typer.Option(help="Images, name or name:PATH (default: what the supernet was trained on).")
    ] = None,
    logs: LogsOption = None,
    check_images: Annotated[
        int | None,
        typer.Option(min=0, help="Test images to check the accuracy on; 0 for none (default: all, or 500 emulated)."),
    ] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Folder of a search; needs --pick.")] = None,
    pick: Annotated[int | None, typer.Option(min=1, help="Number of the pick of that search.")] = None,
    json: JsonFlag = False,
) -> None:
    """Write a subnet as a bundle: compiled library, ONNX file and manifest.

    The library is built from tuning records without further trials, and put in place only if it classifies the test
    images as the torch subnet does.
    """
    from ofa_tvm.bundle.folder import check_destination
    from ofa_tvm.devices import open_device
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.nas.result import load_search_result
    from ofa_tvm.support.errors import UserError

    if (from_ is None) != (pick is None) or (from_ is None) == (subnet is None):
        raise UserError("say which subnet to deploy, in one way", "give --subnet KEY, or --from FOLDER with --pick N")
    check_destination(out)
    if from_ is not None and pick is not None:
        if any(option is not None for option in (target, threads, batch, dtype, device)):
            raise UserError(
                "--target, --threads, --batch, --dtype and --device are the search's",
                "for another target give --subnet KEY",
            )
        result = load_search_result(from_)
        chosen = result.pick(pick)
        order = Order(
            subnet=chosen.subnet,
            supernet=supernet or result.supernet,
            target=_searched_target(result),
            pick=chosen,
            spent=result.cost,
            supernet_sha256=result.supernet_sha256,
        )
    else:
        order = Order(subnet or "", supernet, load_target(target or "x86", threads, batch, device, dtype))
    order.target.stored_provenance()  # a bundle says how fast it is
    needs_device = order.target.is_at_hand and order.target.device != "local"
    with open_device(order.target) if needs_device else nullcontext() as opened:
        manifest = _deployment(order, data, logs, check_images, opened).write(out)
    cost = total("total", manifest.cost)
    payload = {"out": str(out), "manifest": manifest.record(), "cost": cost.record()}
    emit(payload, json, lambda: _text(manifest, cost, out))


def _searched_target(result: SearchResult) -> TargetSpec:
    """The target that a search was made for.

    Raises:
        UserError: its file is gone or changed, or this is another machine: the search's figures do not hold here.
    """
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.support.errors import UserError

    hint = "search again here, or deploy without the search's figures: --subnet KEY with --target"
    source = result.target_source or result.target
    try:
        target = load_target(source, result.threads, result.batch, result.device, result.dtype)
    except UserError as error:
        raise UserError(f"the target of the search, '{source}', cannot be used here: {error.what}", hint) from error
    if target.fingerprint != result.fingerprint:
        raise UserError(
            f"the search was made on another machine or target: {result.fingerprint}, "
            f"but '{source}' is {target.fingerprint} here",
            hint,
        )
    return target


def _check_searched_supernet(checkpoint: Path, expected: str | None) -> None:
    """Refuse a checkpoint that is not the one that was searched.

    Raises:
        UserError: it is another one.
    """
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.files import sha256_file

    if expected is not None and checkpoint.exists() and sha256_file(checkpoint) != expected:
        raise UserError(
            f"{checkpoint} is not the supernet that was searched: its SHA-256 is not {expected}",
            "give the one that was searched by --supernet, search again, or give --subnet KEY instead of --from",
        )


def _deployment(order: Order, data: str | None, logs: Path | None, check_images: int | None, device: Any) -> Deployment:
    target = order.target
    meter = Meter()
    from ofa_tvm.bundle.deployment import COMPARED_IMAGES, Deployment
    from ofa_tvm.supernet.checkpoint import load_supernet
    from ofa_tvm.supernet.evaluate import supernet_images
    from ofa_tvm.supernet.facts import checkpoint_path
    from ofa_tvm.support.console import log
    from ofa_tvm.support.shipped import shipped_supernet
    from ofa_tvm.tuner.log import TuningLog

    checkpoint = checkpoint_path(order.supernet or shipped_supernet())
    _check_searched_supernet(checkpoint, order.supernet_sha256)
    model, facts = load_supernet(checkpoint)
    config = model.space.parse(order.subnet)
    dataset = supernet_images(data, facts, checkpoint, log)
    if check_images is None:  # emulation takes a tenth of a second an image
        check_images = COMPARED_IMAGES if target.provenance == "estimated" else len(dataset.test)
    return Deployment(
        supernet=model,
        facts=facts,
        checkpoint=checkpoint,
        config=config,
        dataset=dataset,
        target=target,
        log=TuningLog(target, logs),
        device=device,
        check_images=check_images,
        pick=order.pick,
        costs=[*order.spent, meter.read("deploy: load")],
    )


def _text(manifest: Manifest, cost: Cost, out: Path) -> str:
    """What a person reads of a manifest."""
    accuracy, latency, target = manifest.accuracy, manifest.latency, manifest.target
    rows = [
        ["subnet", manifest.subnet],
        ["input", f"{manifest.input.name} {manifest.input.shape} {manifest.input.layout} {manifest.input.dtype}"],
        ["size", f"{manifest.macs / 1e6:.1f} M MACs, {manifest.parameters / 1e6:.2f} M parameters"],
        ["bundle", _sizes(manifest)],
        ["needs", f"glibc {manifest.glibc} or newer" if manifest.glibc else "unknown: no readelf to ask for its glibc"],
        ["target", f"{target.name}, {target.threads} threads ({target.fingerprint})"],
        ["kernels", f"{target.tuned_kernels} tuned, {target.default_kernels} by default schedule, 0 trials"],
        _speed(latency),
    ]
    if latency.predicted_ms is not None:
        interval = ""
        if latency.predicted_low_ms is not None and latency.predicted_high_ms is not None:
            interval = f" ({latency.predicted_low_ms:.3f} to {latency.predicted_high_ms:.3f})"
        rows.append(["predicted", f"{latency.predicted_ms:.3f} ms{interval}"])
    top1 = "not checked" if accuracy.test_top1 is None else f"{accuracy.test_top1:.2%} of {accuracy.test_images} images"
    rows.append(["test top-1", top1])
    apart = accuracy.max_relative_logit_difference
    rows.append(["logits", accuracy.how if apart is None else f"within {apart:.1e} of the torch subnet's"])
    costs = [
        [part.phase, f"{part.wall_s:.1f}", f"{part.cpu_s:.1f}", f"{1e3 * part.energy_kwh:.3g}"]
        for part in (*manifest.cost, cost)
    ]
    return "\n".join(
        [
            *(f"{name:<12}{value}" for name, value in rows),
            "",
            "what this deployment cost",
            table(["phase", "wall s", "CPU s", "Wh"], costs),
            f"energy: {cost.method}",
            f"wrote {out}",
        ]
    )


def _speed(latency: Latency) -> list[str]:
    if latency.measured_ms is not None:
        return ["measured", f"{latency.measured_ms:.3f} ms, median of {len(latency.repeats_ms)}"]
    if latency.estimated_ms is not None:
        return ["estimated", f"{latency.estimated_ms:.3f} ms, no measurement"]
    if latency.provenance == "replayed":
        known = latency.search_estimated_ms
        return ["replayed", "not looked up" if known is None else f"{known:.3f} ms, as the recording has it"]
    known = latency.search_measured_ms
    return ["measured", "not here" if known is None else f"{known:.3f} ms, as the search knows it from the device"]


def _sizes(manifest: Manifest) -> str:
    files = manifest.files
    each = ", ".join(f"{name} {facts.bytes / 1e6:.2f}" for name, facts in files.items())
    return f"{sum(facts.bytes for facts in files.values()) / 1e6:.2f} MB ({each})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(deploy, argv)


if __name__ == "__main__":
    sys.exit(main())
