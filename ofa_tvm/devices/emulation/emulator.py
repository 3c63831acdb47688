"""An arm64 Linux with TVM's RPC server, to be run by qemu: made once, in the user's cache.

It needs neither the running machine's root file system, nor chroot, nor registered binary formats: qemu runs the one
Python in it, which starts further ones through the same wrapper.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from ofa_tvm.devices.rpc.board_servers import BoardServers
from ofa_tvm.hardware.machine import package_version
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import OfaTvmError, UserError
from ofa_tvm.support.files import cache_folder, read_json, write_atomic, write_json

INSTALL = "python -m ofa_tvm.doctor --install-emulator"
NEEDED = ("qemu-aarch64", "mmdebstrap")
PACKAGES = "apt install qemu-user mmdebstrap"
ROOT_PACKAGES = "python3-minimal,python3,libgomp1,libstdc++6"
PINNED = ("apache-tvm", "apache-tvm-ffi")
OTHERS = ("psutil", "tornado", "cloudpickle")
NOT_NEEDED = ("libtvm_compiler.so", "libtvm_runtime_cuda.so")
BOOT_S = 300.0
_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
_WRAPPER = """#!/bin/sh
here=$(cd "$(dirname "$0")/.." && pwd)
exec qemu-aarch64 -L "$here/root" -cpu "${OFA_TVM_EMULATED_CPU:-max}" -0 "$here/bin/python" \\
  -E PYTHONHOME=/usr -E PYTHONPATH="$here/site" "$here/root/usr/bin/python3" "$@"
"""


def emulator_folder() -> Path:
    """Where the emulated system is, or would be."""
    return cache_folder() / "arm64"


def is_installed() -> bool:
    """Whether it is there, with the versions that are installed here."""
    stamp = emulator_folder() / "versions.json"
    return stamp.exists() and read_json(stamp, "versions of the emulator") == _versions()


def missing_tools() -> list[str]:
    """What must be installed before the emulator can be."""
    tools = [tool for tool in NEEDED if shutil.which(tool) is None]
    tools += [] if importlib.util.find_spec("pip") else ["pip"]
    return tools + ([] if any(path.exists() for path in _SOURCES) else [f"{_SOURCES[0]}, a list of apt sources,"])


def require_emulator() -> None:
    """Check that the emulator is there.

    Raises:
        UserError: it is not.
    """
    if not is_installed():
        raise UserError(f"the arm64 emulator is not installed in {emulator_folder()}", INSTALL)
    if shutil.which(NEEDED[0]) is None:
        raise UserError(f"{NEEDED[0]} is not installed", PACKAGES)


def install_emulator() -> None:
    """Make the emulated system, or what is missing of it; two steps, each kept when the next one fails.

    Raises:
        UserError: a tool that it takes is not installed.
        OfaTvmError: a step failed.
    """
    folder = emulator_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if is_installed():
            log(f"the emulator is installed: {folder}")
            return
        if missing := missing_tools():
            raise UserError(f"the emulator cannot be installed: {', '.join(missing)} not found", PACKAGES)
        (folder / "versions.json").unlink(missing_ok=True)
        if not (folder / "root").exists():
            log("unpacking an arm64 Debian (30 MB to fetch) ...")
            with _beside(folder / "root") as unpacked:
                _unpack_root(unpacked)
        log("fetching TVM and its packages for arm64 (115 MB to fetch) ...")
        with _beside(folder / "site") as unpacked:
            _unpack_site(unpacked, _python_version(folder / "root"))
        write_atomic(folder / "bin" / "python", _write_wrapper)
        write_json(folder / "versions.json", _versions())
        log(f"the emulator is installed: {folder}")


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder that takes another one's place when it is complete."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        staged = Path(name) / folder.name
        yield staged
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)


def _unpack_root(root: Path) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "stable").strip('"')
    sources = next(path for path in _SOURCES if path.exists())
    mode = "root" if os.geteuid() == 0 else "unshare"
    options = ["--variant=extract", f"--mode={mode}", "--architectures=arm64", f"--include={ROOT_PACKAGES}"]
    _run("mmdebstrap", ["mmdebstrap", "--quiet", *options, suite, str(root), str(sources)])


def _unpack_site(site: Path, python: str) -> None:
    pins = [f"{name}=={package_version(name)}" for name in PINNED]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--platform", "manylinux_2_28_aarch64", "--implementation", "cp", "--python-version", python]
    command += ["--only-binary=:all:", "--target", str(site), *pins, *OTHERS]
    _run("pip", command)
    for name in NOT_NEEDED:
        (site / "tvm" / "lib" / name).unlink(missing_ok=True)


def _python_version(root: Path) -> str:
    name = (root / "usr" / "bin" / "python3").readlink().name
    return name.removeprefix("python")


def _write_wrapper(path: Path) -> None:
    path.write_text(_WRAPPER)
    path.chmod(0o755)


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise OfaTvmError(f"the emulator could not be installed: {name} failed: {said[-500:]}", f"again: {INSTALL}")


def _versions() -> dict[str, str]:
    return {name: package_version(name) for name in PINNED}


def emulated_boards(count: int, key: str) -> BoardServers:
    """A tracker, and boards under emulation; see ``BoardServers``.

    Raises:
        UserError: the emulator is not installed.
    """
    require_emulator()
    return BoardServers(count, key, [str(emulator_folder() / "bin" / "python")], BOOT_S)
