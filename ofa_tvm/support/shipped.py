"""Where the files that travel with the package are: target files, tuning logs, the runner, the trained supernet."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, TypeAdapter

from ofa_tvm.support.typed import read_form

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_folder(name: str) -> Path:
    """Folder ``targets``, ``tuning_logs`` or ``runtime``: beside the package in a checkout, inside it if installed."""
    checkout = _PACKAGE.parent
    is_checkout = (checkout / name).is_dir() and (checkout / "pyproject.toml").is_file()
    return checkout / name if is_checkout else _PACKAGE / "shipped" / name


def shipped_supernets() -> list[Path]:
    """Folders of the trained supernets that ship, each named as its space."""
    return sorted(path for path in (_PACKAGE / "pretrained").iterdir() if path.is_dir())


def shipped_supernet() -> Path:
    """The trained supernet that every command takes when none is named."""
    return _PACKAGE / "pretrained" / "mbv3-cifar"


def known_as(supernet: Path) -> Path:
    """A supernet as every machine knows it: by its name, if it is one that ships."""
    shipped = {path: Path(folder.name) for folder in shipped_supernets() for path in (folder, *folder.iterdir())}
    return shipped.get(supernet, supernet)


class _Manifest(BaseModel):
    schema_version: int = Field(ge=1, le=1)
    files: dict[str, str]


_MANIFEST = TypeAdapter(_Manifest)


def vouched_sha256(path: Path) -> str | None:
    """The hash of a file that the manifest beside it tells, as those that ship have one; None where none does.

    Raises:
        UserError: the manifest is damaged.
    """
    manifest = path.with_name("manifest.json")
    if not manifest.is_file():
        return None
    return read_form(manifest, "manifest", _MANIFEST, "install the package again").files.get(path.name)
