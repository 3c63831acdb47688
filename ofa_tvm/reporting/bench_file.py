"""Files that ``bench --json`` and a bundle's ``run --benchmark --json`` wrote, as typed values."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import read_json

OURS = "ofa_tvm"
HINT = "give a file of 'bench --json > FILE' or of 'BUNDLE/run --benchmark --json > FILE'"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class EngineTime(_Part):
    """Milliseconds of single runs of one engine: the median window's median, the fastest's and the slowest's."""

    median_ms: float = Field(gt=0)
    low_ms: float = Field(gt=0)
    high_ms: float = Field(gt=0)
    p90_ms: float | None = None
    p99_ms: float | None = None


class EngineFacts(_Part):
    """What an engine is."""

    version: str | None = None
    settings: str = ""
    precision: str = ""


class BenchedSubnet(_Part):
    """One subnet on several engines.

    Args:
        subnet: its key.
        protocols: timings by protocol and engine.
        blocks: milliseconds by engine and block (see ``spaces.subnet_blocks``), where each engine's layers were timed.
    """

    subnet: str
    protocols: dict[str, dict[str, EngineTime]]
    blocks: dict[str, dict[str, float]] = {}


class Stability(_Part):
    """Whether windows agreed, and what to do where they did not."""

    verdict: str
    apart: float
    most_apart: float
    remedies: tuple[str, ...] = ()


class EngineStart(_Part):
    """What an engine takes in a fresh process, and the size of its file; memory is None where it is not told."""

    load_ms: float
    first_ms: float
    peak_mb: float | None = None
    file_mb: float


class Bench(_Part):
    """A comparison of engines. ``starts`` is of the first subnet, by engine."""

    space: str
    threads: int
    machine: str = ""
    target: str = ""
    seed: int | None = None
    protocols: dict[str, str] = {}
    engines: dict[str, EngineFacts]
    subnets: tuple[BenchedSubnet, ...]
    stability: Stability | None = None
    starts: dict[str, EngineStart] = {}

    @property
    def is_unstable(self) -> bool:
        """Whether its windows are too far apart to trust its ratios."""
        return self.stability is not None and self.stability.verdict == "unstable"


class Startup(_Part):
    """What a fresh process takes: milliseconds to load a library, of its first inference, and its memory at most.

    ``starts`` is how many there were, of which this is the median.
    """

    load_ms: float = Field(gt=0)
    first_ms: float | None = Field(default=None, gt=0)
    peak_memory_bytes: int | None = None
    library_bytes: int | None = None
    starts: int = 1


class RunnerBenchmark(_Part):
    """What a bundle's own program measured of it."""

    subnet: str | None = None
    benchmark: Startup


def read_bench(path: Path) -> Bench | RunnerBenchmark:
    """Read such a file.

    Raises:
        UserError: it is missing, damaged, or none of them; names the key.
    """
    record = read_json(path, "benchmark")
    kind: type[Bench | RunnerBenchmark] = Bench
    if isinstance(record, dict) and "benchmark" in record:
        kind = RunnerBenchmark
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise UserError(f"{path} is no benchmark: '{where}': {first['msg']}", HINT) from error
