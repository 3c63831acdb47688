"""The one header that the runner takes from the distribution: stb_image, which decodes PNG and JPEG."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ofa_tvm.support.console import log
from ofa_tvm.support.errors import OfaTvmError

HEADER = "stb/stb_image.h"
PACKAGE = "libstb-dev"
HINT = f"python -m ofa_tvm.doctor --install-headers (or install {PACKAGE}, or your system's package of {HEADER})"
MAX_WORDS = 300


def header_folder() -> Path:
    """Where the header lies that was unpacked without root: inside the virtual environment, and gone with it."""
    return Path(sys.prefix) / "share" / "ofa_tvm" / "include"


def include_flags() -> list[str]:
    """A compiler's options to find the unpacked header; the system's own header comes first."""
    return ["-idirafter", str(header_folder())] if (header_folder() / HEADER).is_file() else []


def finds_header(compiler: str) -> bool:
    """Whether a C++ compiler finds the header."""
    question = f"#if !__has_include(<{HEADER}>)\nmissing\n#endif\n"
    command = [compiler, *include_flags(), "-E", "-P", "-x", "c++", "-"]
    done = subprocess.run(command, input=question, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "missing" not in done.stdout


def install_header(compiler: str = "g++") -> None:
    """Bring the header from the distribution's packages, if the compiler does not find it.

    Root installs the package. Anybody else downloads it and unpacks the header into ``header_folder``.

    Args:
        compiler: what must find it.

    Raises:
        OfaTvmError: it cannot be installed here; says why.
    """
    if shutil.which(compiler) is None:
        raise OfaTvmError(f"{compiler} is not installed", f"apt install {compiler}")
    if finds_header(compiler):
        return
    if shutil.which("apt-get") is None:
        raise OfaTvmError(f"{compiler} does not find {HEADER}", f"install your system's package of it ({PACKAGE})")
    log(f"fetching {HEADER} from the package {PACKAGE} ...")
    if os.geteuid() == 0:
        _run(["apt-get", "-q", "update"])
        _run(["apt-get", "-q", "install", "--yes", "--no-install-recommends", PACKAGE])
    else:
        _unpack()
    if not finds_header(compiler):
        raise OfaTvmError(f"{compiler} does not find {HEADER}, though {PACKAGE} was fetched")


def _unpack() -> None:
    """Download the package with package lists of our own, and take the header out of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("lists/partial", "archives/partial", "root"):
            (folder / part).mkdir(parents=True)
        apt_folders = {
            "State::Lists": "lists",
            "Cache::Archives": "archives",
            "Cache::pkgcache": "",
            "Cache::srcpkgcache": "",
        }
        options = [f"-oDir::{key}={folder / place if place else ''}" for key, place in apt_folders.items()]
        _run(["apt-get", "-q", *options, "-oDebug::NoLocking=1", "update"])
        _run(["apt-get", "-q", *options, "-oDebug::NoLocking=1", "download", PACKAGE], folder)
        packages = sorted(map(str, folder.glob("*.deb")))
        _run(["dpkg-deb", "--extract", *packages, str(folder / "root")])
        target = header_folder() / Path(HEADER).parent
        shutil.copytree(folder / "root" / "usr" / "include" / Path(HEADER).parent, target, dirs_exist_ok=True)


def _run(command: list[str], folder: Path | None = None) -> None:
    """Run a package manager's command.

    Raises:
        OfaTvmError: it failed; quotes the end of its output.
    """
    settings = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=settings)
    except OSError as error:
        raise OfaTvmError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-MAX_WORDS:]
        raise OfaTvmError(f"'{' '.join(command[:2])} ... {command[-1]}' failed: {words}")
