"""``python -m ofa_tvm.deploy``: write a subnet as a folder that runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.support.command import (
    SUPERNET,
    BatchOption,
    DeviceOption,
    DTypeOption,
    HostThreadsOption,
    JsonFlag,
    LogsOption,
    emit,
    run_command,
    table,
)
from ofa_tvm.support.ledger import Cost, total

if TYPE_CHECKING:
    from ofa_tvm.bundle.manifest import Latency, Manifest


def deploy(
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced.")],
    subnet: Annotated[str | None, typer.Option(help="Key of the subnet, or largest, or smallest.")] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="File of the subnet instead, as of OFA (see predict --arch)."),
    ] = None,
    supernet: Annotated[Path | None, typer.Option(help=f"{SUPERNET} (default: mbv3-cifar).")] = None,
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
    host_threads: HostThreadsOption = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Folder of a search; needs --pick.")] = None,
    pick: Annotated[int | None, typer.Option(min=1, help="Number of the pick of that search.")] = None,
    json: JsonFlag = False,
) -> None:
    """Write a subnet as a bundle: compiled library, ONNX file and manifest.

    The library is built from tuning records without further trials, and put in place only if it classifies the test
    images as the torch subnet does.
    """
    from ofa_tvm.bundle.folder import check_destination
    from ofa_tvm.bundle.order import Order, written_subnet
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.supernet.host_threads import use_host_threads
    from ofa_tvm.support.errors import UserError

    if (from_ is None) != (pick is None) or [from_, subnet, arch].count(None) != 2:
        raise UserError(
            "say which subnet to deploy, in one way", "give --subnet KEY, --arch FILE, or --from FOLDER with --pick N"
        )
    check_destination(out)
    if from_ is not None and pick is not None:
        if any(option is not None for option in (target, threads, batch, dtype, device)):
            raise UserError(
                "--target, --threads, --batch, --dtype and --device are the search's",
                "for another target give --subnet KEY",
            )
        order = Order.of_search(from_, pick, supernet)
    else:
        subnet = subnet or written_subnet(arch or "", supernet)
        order = Order(subnet, supernet, load_target(target or "x86", threads, batch, device, dtype))
    use_host_threads(host_threads)
    manifest = order.write(out, data, logs, check_images)
    cost = total("total", manifest.cost)
    payload = {"out": str(out), "manifest": manifest.record(), "cost": cost.record()}
    emit(payload, json, lambda: _text(manifest, cost, out))


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
        return ["measured", f"{latency.measured_ms:.3f} ms{_windows(latency)}"]
    if latency.estimated_ms is not None:
        return ["estimated", f"{latency.estimated_ms:.3f} ms, no measurement"]
    if latency.provenance == "replayed":
        known = latency.search_estimated_ms
        return ["replayed", "not looked up" if known is None else f"{known:.3f} ms, as the recording has it"]
    known = latency.search_measured_ms
    return ["measured", "not here" if known is None else f"{known:.3f} ms, as the search knows it from the device"]


def _windows(latency: Latency) -> str:
    """What stands behind a measured latency."""
    timing = latency.timing
    if timing is None:
        return ""
    low, high = timing.spread_ms(latency.percentile)
    which = "" if latency.percentile == 50 else f", p{latency.percentile}"
    disturbed = "" if timing.is_sound else "; disturbed by other work"
    return f"{which} ({low:.3f} to {high:.3f} in {len(timing.windows)} windows of single calls{disturbed})"


def _sizes(manifest: Manifest) -> str:
    files = manifest.files
    each = ", ".join(f"{name} {facts.bytes / 1e6:.2f}" for name, facts in files.items())
    return f"{sum(facts.bytes for facts in files.values()) / 1e6:.2f} MB ({each})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(deploy, argv)


if __name__ == "__main__":
    sys.exit(main())
