"""``python -m ofa_tvm.pack_data``: a data set as a folder to carry to a machine without network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.support.command import JsonFlag, emit, run_command


def pack_data(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    data: Annotated[
        str, typer.Option(help="cifar10, fashion-mnist or imagefolder:PATH (all take name:PATH).")
    ] = "cifar10",
    json: JsonFlag = False,
) -> None:
    """Write a data set as losslessly compressed files of a few megabytes; train there with --data pack:FOLDER."""
    from ofa_tvm.data import load_dataset
    from ofa_tvm.data.image_pack import write_pack
    from ofa_tvm.support.console import log

    dataset = load_dataset(data, log)
    write_pack(dataset, out)
    images = len(dataset.all_training) + len(dataset.test)
    size = sum(file.stat().st_size for file in out.iterdir())
    payload = {"folder": str(out), "images": images, "size_bytes": size}
    emit(payload, json, lambda: f"{images} images in {out} ({size / 2**20:.1f} MiB); train with --data pack:{out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(pack_data, argv)


if __name__ == "__main__":
    sys.exit(main())
