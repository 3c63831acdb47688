"""The runner's library under sanitizers, and small files to damage: see ``native/fuzz_runtime.cc``."""

from __future__ import annotations

import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ofa_tvm.support.shipped import shipped_folder

NATIVE = Path(__file__).parent / "native"
FUZZER = NATIVE / "fuzz_runtime.cc"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ENVIRONMENT = {"ASAN_OPTIONS": "allocator_may_return_null=1"}
# Compiled together, as most of the time goes into the standard library's headers.
TOGETHER = (("jpeg", "stb_image"), ("report", "benchmark", "options", "c_api"))
NO_PART = ("main", "old_glibc")
STUB = """
int ofa_tvm_batch(void) { return 2; }
int ofa_tvm_classes(void) { return 3; }
int ofa_tvm_resolution(void) { return 4; }
int ofa_tvm_channels(void) { return 3; }
int ofa_tvm_run(const float *images, float *logits) {
  for (int i = 0; i < 6; ++i) logits[i] = images[i];
  return 0;
}
"""
SIZE = 4


@dataclass(frozen=True)
class SanitizedRunner:
    """The runner's library, and programs with it."""

    folder: Path
    flags: tuple[str, ...]
    objects: tuple[str, ...]

    def program(self, source: Path) -> Path:
        """Compile a program and link it with the library."""
        made = self.folder / source.stem
        subprocess.run(["g++", *self.flags, source, *self.objects, "-o", made, "-ldl", "-lpthread"], check=True)
        return made


def build(folder: Path, optimise: str = "-O0") -> SanitizedRunner:
    """The library under sanitizers."""
    runtime = shipped_folder("runtime")
    names = sorted(path.stem for path in (runtime / "src").glob("*.cc"))
    grouped = (*NO_PART, *(name for group in TOGETHER for name in group))
    groups = (*TOGETHER, tuple(name for name in names if name not in grouped))
    flags = ("-std=c++17", optimise, *SANITIZERS, f"-I{runtime / 'src'}", f"-I{runtime / 'include'}")

    def compiled(group: tuple[str, ...]) -> str:
        made = str(folder / f"{group[0]}.o")
        source = "".join(f'#include "{name}.cc"\n' for name in group)
        subprocess.run(["g++", *flags, "-x", "c++", "-c", "-", "-o", made], input=source, text=True, check=True)
        return made

    with ThreadPoolExecutor(2) as pool:
        return SanitizedRunner(folder, flags, tuple(pool.map(compiled, groups)))


def make_bundle(folder: Path) -> Path:
    """A bundle whose network answers with its first numbers."""
    folder.mkdir()
    library = folder / "model.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-s", "-x", "c", "-", "-o", library], input=STUB, text=True, check=True)
    (folder / "manifest.json").write_text(json.dumps(manifest(library.read_bytes())))
    return folder


def manifest(library: bytes) -> dict[str, object]:
    """What the runner reads of a manifest."""
    return {
        "format": "ofa_tvm.bundle",
        "schema_version": 1,
        "subnet": "r4.3x2",
        "input": {"shape": [2, SIZE, SIZE, 3]},
        "classes": 3,
        "class_names": ["ant", "b\u00e9e", "cow"],
        "preprocess": {
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.2, 0.2],
            "crop": "largest centred square",
            "stored_size": 6,
            "scale": 1 / 255,
        },
        "accuracy": {"test_top1": 0.5},
        "latency": {"measured_ms": 0.1, "timing": {"windows": [{"calibration_ms": 1.0, "calls": 9, "left_out": 1}]}},
        "target": {"threads": 1, "attributes": {"mcpu": "x86-64", "mattr": ["+sse4.2"]}},
        "files": {"model.so": {"bytes": len(library), "sha256": hashlib.sha256(library).hexdigest()}},
    }


def changed(record: Any, path: tuple[str, ...], value: object) -> Any:
    """A manifest with another value at a path of keys."""
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return record


NONSENSE: list[tuple[tuple[str, ...], object]] = [
    (("preprocess", "std"), [0, 0, 0]),
    (("preprocess", "std"), [0.2, -1, 0.2]),
    (("preprocess", "std"), [0.2, 0.2]),
    (("preprocess", "mean"), [1e300, 0, 0]),
    (("preprocess", "mean"), ["a", "b", "c"]),
    (("preprocess", "mean"), ["0.5", "0.4", "0.3"]),
    (("preprocess", "mean"), [True, 0.4, 0.3]),
    (("preprocess", "mean"), [1e999, 0, 0]),
    (("preprocess", "crop"), "all of it"),
    (("preprocess", "order"), "as it comes"),
    (("preprocess", "stored_size"), 0),
    (("preprocess", "stored_size"), 1e9),
    (("preprocess", "scale"), 1),
    (("class_names",), ["ant", "bee"]),
    (("class_names",), ["ant", "bee", 3]),
    (("class_names",), ["ant", "bee", "\x1b[31mcow"]),
    (("class_names",), ["ant", "bee", "cow\nerror: none"]),
    (("class_names",), ["ant", "bee", "cow\u2028"]),
    (("class_names",), ["ant", "bee", "cow\x9b0m"]),
    (("files", "model.so", "bytes"), -1),
    (("files", "model.so", "bytes"), 2**63),
    (("files", "model.so", "bytes"), 9.5),
    (("files", "model.so", "bytes"), "9"),
    (("files", "model.so", "sha256"), 5),
    (("files", "model.so"), []),
    (("latency", "measured_ms"), -1),
    (("accuracy", "test_top1"), 7.0),
]
"""What no reader of a manifest may take, C++ or Python; there are three classes."""


def make_corpus(folder: Path, bundle: Path) -> Path:
    """One small good file of each kind that the runner reads."""
    folder.mkdir()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8))
    picture = noise.resize((21, 17), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x112] = 6
    kinds: dict[str, dict[str, Any]] = {
        "small": {},
        "fine": {"subsampling": 0},
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_blocks": 1},
        "turned": {"exif": turned},
    }
    for name, options in kinds.items():
        picture.save(folder / f"{name}.jpg", quality=60, **options)
    for mode in ("L", "CMYK"):
        picture.convert(mode).save(folder / f"{mode}.jpg", quality=60)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        picture.convert(mode).save(folder / f"{mode}.png")
    picture.quantize(4).save(folder / "turned.png", bits=2, exif=turned)
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    picture.save(folder / "picture.ppm")
    np.save(folder / "pixels.npy", np.asarray(picture)[None])
    floats = np.random.default_rng(1).standard_normal((2, SIZE, SIZE, 3), np.float32)
    np.save(folder / "floats.npy", floats)
    floats.tofile(folder / "floats.raw")
    (folder / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
    (folder / "model.so").write_bytes((bundle / "model.so").read_bytes())
    return folder


def fuzz(folder: Path, program: Path, times: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Damage the corpus so many times; makes what is needed in ``folder``."""
    bundle, corpus, scratch = folder / "bundle", folder / "corpus", folder / f"scratch{seed}"
    if not corpus.exists():
        make_corpus(corpus, make_bundle(bundle))
    scratch.mkdir()
    command = list(map(str, (program, bundle, corpus, scratch, seed, times)))
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
