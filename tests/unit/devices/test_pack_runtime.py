"""TVM's runtime in a pack."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ofa_tvm.devices.pack.runtime import copy_runtime
from ofa_tvm.hardware.target_files import load_target


def test_a_full_disk_is_told_with_the_packs_file(tmp_path, monkeypatch):
    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", is_full)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_runtime(load_target("x86", device="pack"), tmp_path / "pack")
    assert caught.value.filename.startswith(str(tmp_path / "pack" / "runtime"))
