"""``python -m ofa_tvm.deploy``: write a subnet as a folder that runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
)
from ofa_tvm.support.ledger import total


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
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Most points that int8, bfloat16 or float16 may cost (default: 0.3; others 0.1; beyond chance). "
            "To hold it for sure, blocks of an int8 network stay float32.",
        ),
    ] = None,
    host_threads: HostThreadsOption = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Folder of a search; needs --pick.")] = None,
    pick: Annotated[int | None, typer.Option(min=1, help="Number of the pick of that search.")] = None,
    card: Annotated[
        bool,
        typer.Option("--card", help="Also write what publishing it takes: README.md, example.py, benchmarks.json."),
    ] = False,
    license: Annotated[
        str | None,
        typer.Option(help="With --card: of the weights, as hubs name it (default: that of weights that ship)."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Write a subnet as a bundle: compiled library, ONNX file, manifest, and with --card what model hubs show.

    The library is built from tuning records without further trials, and put in place only if it classifies the test
    images as the torch subnet does.
    """
    from dataclasses import replace

    from ofa_tvm.bundle.card import UNKNOWN
    from ofa_tvm.bundle.folder import check_destination
    from ofa_tvm.bundle.order import Order, known_licence, refuse_changes, tell_default_supernet, written_subnet
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.reporting.deployment_text import manifest_text
    from ofa_tvm.supernet.host_threads import use_host_threads
    from ofa_tvm.support.console import warn
    from ofa_tvm.support.errors import UserError

    if (from_ is None) != (pick is None) or [from_, subnet, arch].count(None) != 2:
        raise UserError(
            "say which subnet to deploy, in one way", "give --subnet KEY, --arch FILE, or --from FOLDER with --pick N"
        )
    check_destination(out)
    if from_ is not None and pick is not None:
        asked = {"--target": target, "--threads": threads, "--batch": batch, "--dtype": dtype, "--device": device}
        others: dict[str, object] = {
            "--data": data,
            "--logs": logs,
            "--check-images": check_images,
            "--max-accuracy-drop": max_accuracy_drop,
            "--host-threads": host_threads,
            "--card": card,
            "--license": license,
            "--out": out,
        }
        refuse_changes(from_, pick, supernet, asked, others)
        order = Order.of_search(from_, pick, supernet)
    else:
        if supernet is None:
            tell_default_supernet()
        subnet = subnet or written_subnet(arch or "", supernet)
        order = Order(subnet, supernet, load_target(target or "x86", threads, batch, device, dtype))
    if card:
        order = replace(order, licence=license or known_licence(order.supernet))
        if order.licence == UNKNOWN:
            warn("the card says that the licence of the weights is unknown; give --license NAME, e.g. apache-2.0")
    elif license is not None:
        raise UserError("--license is for a card", "give --card too")
    if max_accuracy_drop is not None:
        if order.target.dtype == "float32":
            raise UserError("--max-accuracy-drop is for int8, bfloat16 and float16", "leave it out: this is float32")
        order = replace(order, most_lost=max_accuracy_drop / 100)
    use_host_threads(host_threads)
    manifest = order.write(out, data, logs, check_images)
    cost = total("total", manifest.cost)
    payload = {"out": str(out), "manifest": manifest.record(), "cost": cost.record()}
    emit(payload, json, lambda: manifest_text(manifest, cost, out))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(deploy, argv)


if __name__ == "__main__":
    sys.exit(main())
