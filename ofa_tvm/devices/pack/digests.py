"""Numbers of a pack: inputs and digests of outputs that are the same on every machine and with every version of numpy.

It lies in a pack beside ``measure.py``.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np

from ofa_tvm.devices.pack.pack_files import Record

Array = Any
"""Of numpy, whose types older versions do not know."""


def random_values(seed: int, shape: list[int], scale: float) -> Array:
    """Floats in (-scale, scale), from a hash (splitmix64) of their positions and a seed."""
    count = int(np.prod(shape))
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(1 + (seed << 32))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    units = (mixed >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1
    return (units * scale).astype(np.float32).reshape(shape)


def inputs_of(entry: Record) -> list[Array]:
    """The arrays that an entry's description asks for, in its type."""
    dtype = entry.get("dtype", "float32")
    return [random_values(recipe["seed"], recipe["shape"], recipe["scale"]).astype(dtype) for recipe in entry["inputs"]]


def values_of(output: Array) -> Array:
    """An output's numbers, flat; those of bfloat16 travel as their bits."""
    if output.dtype == np.uint16:
        output = (output.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return output.ravel()


def sample(outputs: list[Array], most: int = 256) -> Record:
    """A digest of outputs that fits in a few kilobytes: values at places spread over them, and sums of magnitudes."""
    flat = np.concatenate([values_of(output) for output in outputs]).astype(np.float64)
    places = np.unique(np.linspace(0, flat.size - 1, min(most, flat.size)).astype(np.int64))
    values = base64.b64encode(flat[places].astype("<f4").tobytes()).decode()
    return {"values": values, "sum": float(np.abs(flat).sum()), "largest": float(np.abs(flat).max())}


def difference(found: Record, expected: Record) -> float:
    """How far two digests are apart: the largest difference over the largest value."""
    here, there = (np.frombuffer(base64.b64decode(one["values"]), "<f4").astype(float) for one in (found, expected))
    if len(here) != len(there) or not np.isfinite(found["sum"]):
        return float("inf")
    apart = float(np.abs(here - there).max()) / max(1e-6, expected["largest"])
    return float(max(apart, abs(found["sum"] - expected["sum"]) / max(1e-6, expected["sum"])))


def hash_of(outputs: list[Array]) -> str:
    """A hash of all values in their type, which has zero once."""
    return hashlib.sha256(b"".join((output + output.dtype.type(0)).tobytes() for output in outputs)).hexdigest()


def expectation(outputs: list[Array], is_exact: bool) -> Record:
    """What ``complaint`` needs to know of the right outputs."""
    return {"sha256": hash_of(outputs)} if is_exact else sample(outputs)


def complaint(outputs: list[Array], expected: Record, tolerance: float) -> str:
    """Why outputs are not what is expected; empty where they are. A hash allows no difference."""
    if "sha256" in expected:
        return "" if hash_of(outputs) == expected["sha256"] else "differs from the reference, which it must equal"
    apart = difference(sample(outputs), expected)
    return "" if apart < tolerance else f"differs from the reference by {apart:.2g}"
