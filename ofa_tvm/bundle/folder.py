"""A bundle: one deployed subnet as a folder, with a manifest that says what it is and how its numbers were obtained.

==================  ====================================================================================
``model.so``        the compiled subnet: TVM's runtime loads it as a module, ``dlopen`` as ``ofa_tvm_run``
``model.onnx``      the same network for any other engine
``run``             classifies images and times the library, without Python (where it could be built)
``manifest.json``   ``Manifest``: what goes in, what comes out, what was measured, hashes of the files
``README.md``       where a card was asked for; its owner may edit it, so its hash need not hold
==================  ====================================================================================

A bundle appears under its name complete or not at all.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pydantic import TypeAdapter

from ofa_tvm.bundle.manifest import FORMAT, SCHEMA_VERSION, FileFacts, Manifest
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import read_json, sha256_file, write_json
from ofa_tvm.support.staging import staged, sweep
from ofa_tvm.support.text import printable
from ofa_tvm.support.typed import validated

LIBRARY = "model.so"
ONNX = "model.onnx"
RUNNER = "run"
MANIFEST = "manifest.json"
README = "README.md"
_FORM = TypeAdapter(Manifest)
MAKE_AGAIN = "copy it again from where it was made, or make it again with 'python -m ofa_tvm.deploy'"


def check_destination(out: Path) -> None:
    """Check that a bundle may be written there: nothing, an empty folder, or an older bundle.

    Raises:
        UserError: it is something else, or a bundle with files that are not its own.
    """
    hint = "choose another --out, or move it away"
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file, not a folder", hint)
    names = {path.name for path in out.iterdir()}
    if not names:
        return
    try:
        manifest = load_manifest(out)
    except UserError as error:
        raise UserError(f"{out} is not a bundle and would be overwritten", hint) from error
    if others := sorted(names - {MANIFEST, *manifest.files}):
        raise UserError(f"{out} holds {others[0]}, which is no part of the bundle there", hint)
    if README in names and sha256_file(out / README) != manifest.files[README].sha256:
        raise UserError(f"{out / README} was edited and would be overwritten", hint)


def write_bundle(out: Path, fill: Callable[[Path], Manifest]) -> Manifest:
    """Write a bundle, replacing an older one at once.

    Args:
        out: its folder.
        fill: writes the files into the folder that it is given and returns a manifest of them; when it raises, ``out``
            stays as it was.

    Returns:
        The manifest as written, with hashes.

    Raises:
        UserError: see ``check_destination``; or the folder cannot be made.
    """
    check_destination(out)
    out = out.resolve()
    with ExitStack() as stack:
        try:
            sweep(out.parent, out.name)
            folder = stack.enter_context(staged(out))
        except OSError as error:
            raise UserError(f"{out} cannot be written: {error.strerror}", "choose another --out") from error
        manifest = fill(folder)
        files = {path.name: FileFacts(bytes=path.stat().st_size, sha256=_synced(path)) for path in _files(folder)}
        manifest = manifest.model_copy(update={"files": files})
        write_json(folder / MANIFEST, manifest.record())
        check_destination(out)
        _put_in_place(folder, out)
    return manifest


def bundle_bytes(folder: Path, manifest: Manifest) -> int:
    """Size of all of a bundle's files that are there."""
    paths = [folder / name for name in (MANIFEST, *manifest.files)]
    return sum(path.stat().st_size for path in paths if path.is_file())


def load_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises:
        UserError: there is none, or it is damaged, incomplete or of another version.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise UserError(f"bundle {folder} does not exist", "make one with 'python -m ofa_tvm.deploy'")
    record = read_json(path, "manifest", MAKE_AGAIN)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of a bundle")
    if record.get("schema_version") != SCHEMA_VERSION:
        what = f"{path} has schema version {record.get('schema_version')}, this ofa_tvm reads {SCHEMA_VERSION}"
        raise UserError(what, "use the ofa_tvm version that it names, or make the bundle again")
    try:
        return validated(_FORM, record)
    except ValueError as error:
        raise UserError(f"manifest {path} is damaged: {printable(str(error))}", MAKE_AGAIN) from error


def verify_bundle(folder: Path) -> Manifest:
    """Check every file of a bundle but ``README.md`` against its hash; call it before any of them is loaded.

    Raises:
        UserError: naming the file that is missing or damaged.
    """
    manifest = load_manifest(folder)
    for name in (LIBRARY, ONNX, *manifest.files):
        path, facts = folder / name, manifest.files.get(name)
        if facts is None or re.search(r"[/\\]", name):
            raise UserError(f"manifest {folder / MANIFEST} is damaged: it does not vouch for {name}", MAKE_AGAIN)
        if name == README:
            continue
        if not path.is_file():
            raise UserError(f"{path} is missing from the bundle", MAKE_AGAIN)
        if path.stat().st_size != facts.bytes or sha256_file(path) != facts.sha256:
            raise UserError(f"{path} is damaged: it is not the file that the manifest describes", MAKE_AGAIN)
    return manifest


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != MANIFEST)


def _synced(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256_file(path)


def _put_in_place(made: Path, out: Path) -> None:
    """Make ``made`` the folder ``out``; what was there ends up at ``made``."""
    if not (out.exists() and any(out.iterdir())):
        made.rename(out)
    elif not _exchange(made, out):
        aside = made.with_name(f"{made.name}-old")
        out.rename(aside)
        try:
            made.rename(out)
        except OSError:
            aside.rename(out)
            raise
        aside.rename(made)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step (Linux's renameat2); False where the system cannot."""
    working_folder, swap = -100, 2
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(working_folder, bytes(first), working_folder, bytes(second), swap)
