"""Put machine code for a GPU into a library, where TVM would leave CUDA source for the device to compile.

Without a GPU's driver TVM compiles no CUDA: the library then holds source, which TVM's runtime can only use where
Python and a compiler are. The runtime loads machine code in the same place, so it is put there. All modules that a
library imports lie in one symbol: its size; the tree of modules (row starts, children); and for each its kind and, but
for the library itself, its bytes. Those of a ``cuda`` module are the form of its code, a table of functions, the code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

SYMBOL = "__tvm_ffi__library_bin"
ITSELF = b"_lib"
CUDA = b"cuda"
SOURCE, MACHINE_CODE = b"cuda", b"cubin"
_SIZE = struct.Struct("<Q")
CODE_AT = 64
_MARK = b"ofa_tvm: machine code of a GPU\0\0"


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self) -> int:
        (value,) = _SIZE.unpack_from(self.data, self.at)
        self.at += _SIZE.size
        return int(value)

    def string(self) -> bytes:
        count = self.number()
        self.at += count
        if self.at > len(self.data):
            raise ValueError("TVM packs a library's modules in another form than this version knows")
        return self.data[self.at - count : self.at]


def _string(data: bytes) -> bytes:
    return _SIZE.pack(len(data)) + data


def with_machine_code(packed: bytes, sources: list[str], compiled: Callable[[str], bytes]) -> bytes:
    """Packed modules in which each ``cuda`` module holds machine code.

    Args:
        packed: what ``runtime.ModulePackImportsToTensor`` gives.
        sources: CUDA sources of the modules.
        compiled: from source to machine code.

    Raises:
        ValueError: the form is not known.
    """
    reader = _Reader(packed)
    reader.number()
    for _ in range(2):
        count = reader.number()
        reader.at += _SIZE.size * count
    pieces = [packed[_SIZE.size : reader.at]]
    while reader.at < len(packed):
        kind = reader.string()
        pieces.append(_string(kind))
        if kind != ITSELF:
            content = reader.string()
            pieces.append(_string(_compiled_module(content, sources, compiled) if kind == CUDA else content))
    body = b"".join(pieces)
    return _SIZE.pack(len(body)) + body


def _compiled_module(content: bytes, sources: list[str], compiled: Callable[[str], bytes]) -> bytes:
    start = _string(SOURCE)
    for source in sources:
        end = _string(source.encode())
        if content.startswith(start) and content.endswith(end):
            functions = content[len(start) : len(content) - len(end)]
            return _string(MACHINE_CODE) + functions + _string(compiled(source))
    raise ValueError("TVM saves a CUDA module in another form than this version knows")


def marked_code(code: bytes) -> bytes:
    """A cubin from ``CODE_AT`` on, behind a mark and its size, by which ``machine_code`` finds it in a library."""
    return (_MARK + _SIZE.pack(len(code))).ljust(CODE_AT, b"\0") + code


def machine_code(library: Path) -> list[bytes]:
    """The cubins in a library's file (each is an ELF file of its own)."""
    data, images, at = library.read_bytes(), [], 0
    if (mark := data.find(_MARK)) >= 0:
        (size,) = _SIZE.unpack_from(data, mark + len(_MARK))
        return [data[mark + CODE_AT :][:size]]
    header = _string(CUDA)
    while (at := data.find(header, at)) >= 0:
        reader = _Reader(data)
        reader.at = at = at + len(header)
        try:
            content = reader.string()
        except (ValueError, struct.error):
            continue
        if content.startswith(_string(MACHINE_CODE)):
            # The table of functions names no ELF file, so the first one is the code.
            images.append(content[content.index(b"\x7fELF") :])
    return images


def write_packed(packed: bytes, folder: Path) -> Path:
    """Packed modules as an assembler file that any of the C compilers takes."""
    data, assembly = folder / "modules.bin", folder / "modules.s"
    data.write_bytes(packed)
    lines = [
        ".section .rodata",
        ".balign 16",
        f".globl {SYMBOL}",
        f"{SYMBOL}:",
        f'.incbin "{data}"',
        '.section .note.GNU-stack,"",%progbits',
    ]
    assembly.write_text("\n".join(lines) + "\n")
    return assembly
