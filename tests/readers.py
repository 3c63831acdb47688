"""Everything that is read back, each with a small sound sample and its reader: what the tests of readers go through.

A reader returns a value or raises ``UserError``. All numbers of a value are finite, those that are times positive. A
file with a hash (``is_sealed``) is read as what was written, or refused: other content that is accepted is a silent
change. ``seal`` makes the hash fit a changed file, so that what stands behind it is tried, too.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from ofa_tvm.accuracy.ofa_predictor import OfaPredictor
from ofa_tvm.accuracy.predictor import AccuracyPredictor
from ofa_tvm.accuracy.samples import AccuracySamples
from ofa_tvm.bundle.folder import load_manifest, write_bundle
from ofa_tvm.bundle.manifest import Accuracy, InputFacts, Latency, Manifest, Preparation, SupernetSource, TargetFacts
from ofa_tvm.cost_model.latency_data import read_latency_data
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.cost_model.ofa_block_files import OfaTimes
from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.entries import packed, read_entries
from ofa_tvm.devices.pack.reader import import_kernels, read_manifest
from ofa_tvm.devices.pack.writer import SCHEMA
from ofa_tvm.devices.replay import ReplayDevice
from ofa_tvm.hardware.recording import replayed
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.spaces import OwnModel, SubnetConfig, get_space, own_model
from ofa_tvm.spaces.architectures import read_architectures
from ofa_tvm.spaces.own_model import fixed_model
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.supernet.facts import (
    FACTS_SEAL,
    FORMAT,
    OLD_FORMAT,
    TENSORS_SEAL,
    SupernetFacts,
    digest_of_facts,
    read_facts,
)
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Ledger, estimated
from ofa_tvm.support.sealed import SEAL, digest_of
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.latency_records import LatencyRecord, append_records, read_records
from ofa_tvm.tuner.log import TuningLog, kernel_states
from ofa_tvm.tuner.measured_traces import keep_traces, kept_traces
from ofa_tvm.tuner.trial import TrialResult

SPACE = get_space("mbv3-cifar")
GPU, CPU = load_target("cuda-sm90"), load_target("arm", device="estimate")
KERNEL = "conv_8x8_16-32_k1s1_b1"
CANDIDATES = (Candidate(KERNEL, "default", {}), Candidate(KERNEL, "evolution", {"trace": [[], []]}))
FIGURES = (0.2, 0.3, 0.4, 0.2, 0.3, 0.4, 50.0, 2.0, 0.99, 0.01)


@dataclass(frozen=True)
class Reader:
    """A reader and its sample.

    Args:
        name: what is read.
        file: of the sample's folder, which is changed.
        write: writes the sample into a folder.
        read: reads the folder.
        is_sealed: whether a hash covers the file.
        seal: from a changed file to one whose hash fits.
    """

    name: str
    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    is_sealed: bool = False
    seal: Callable[[bytes], bytes] | None = None

    @property
    def is_text(self) -> bool:
        """Whether the file is text that an editor may change."""
        return not self.file.endswith((".ubj", ".npz", ".safetensors"))


# Samples ----------------------------------------------------------------------------------------------------------


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def _log(folder: Path) -> TuningLog:
    log = TuningLog(GPU, folder)
    with log.exclusive():
        log.settle_reference(0.5)
        results = [TrialResult("ok", (0.4, 0.3), is_checked=True), TrialResult("ok", (0.25,), is_checked=True)]
        pairs = list(zip(CANDIDATES, results, strict=True))
        log.commit(KERNEL, pairs)
        keep_traces(log.folder, pairs)
    append_records(log.folder, [_latency_record(config) for config in (SPACE.largest, SPACE.smallest)])
    for name in ("manifest.json", "kernels.jsonl", "trials.jsonl", "latency.jsonl", "traces.jsonl"):
        (log.folder / name).rename(folder / name)
    return log


def _latency_record(config: SubnetConfig) -> LatencyRecord:
    return LatencyRecord(
        space=SPACE.name,
        subnet=config.key,
        status="ok",
        times_ms=(0.2,),
        reference_ms=(0.5,),
        schedules="abc",
        provenance="measured",
        measured_at="2026-01-01T00:00:00+00:00",
        figures=(FIGURES,),
        host="here",
        energy_mj=12.5,
    )


def _opened(folder: Path) -> object:
    """What a log of GPU kernels tells, whose files lie in a folder."""
    log_folder = folder / "logs" / GPU.name / GPU.fingerprint
    if not log_folder.exists():
        log_folder.parent.mkdir(parents=True)
        log_folder.symlink_to(folder, target_is_directory=True)
    log = TuningLog(GPU, folder / "logs")
    return log.reference_ms, log.kernels, sorted(log.tried, key=repr)


def _replayed(folder: Path) -> object:
    device = ReplayDevice.from_log(folder)
    return vars(device)["_recorded"], vars(device)["_timings"]


def _recorded(folder: Path) -> object:
    return replayed(load_target("cuda-sm90"), folder, {}).model_dump(exclude={"recording"})


def _ledger(folder: Path) -> None:
    Ledger(folder / "ledger.jsonl").add(estimated("tune", 1.0, 2.0))


@cache
def _table() -> SubnetTable:
    return SubnetTable(SPACE)


@cache
def _fitted() -> tuple[LatencyModel, AccuracyPredictor]:
    configs = SPACE.sample_configs(np.random.default_rng(0), 12)
    work = np.asarray([float(SPACE.network(config).macs) for config in configs])
    top1 = 0.5 + 0.4 * work / work.max()
    return LatencyModel.fit(_table(), configs, 1e-7 * work), AccuracyPredictor.fit(_table(), configs, top1)


@cache
def _asked() -> np.ndarray:
    return SPACE.sample(np.random.default_rng(1), 3)


def _latency_model(folder: Path) -> object:
    model = LatencyModel.load(folder, _table())
    return model.predict(_asked()), model.model.coefficients, model.model.scores


def _accuracy_predictor(folder: Path) -> object:
    predictor = AccuracyPredictor.load(folder, _table())
    return predictor.predict(_asked()), predictor.model.matrix


def _samples(folder: Path) -> None:
    samples = AccuracySamples(SPACE, folder, "0123456789abcdef")
    samples.evaluate([SPACE.largest, SPACE.smallest], lambda config: np.arange(20) % 3 > 0, compared=True)


@cache
def _no_samples() -> AccuracySamples:
    return AccuracySamples(SPACE, Path(), "0123456789abcdef")


def _read_samples(folder: Path) -> object:
    samples = _no_samples()
    samples.top1.clear()
    samples.answers.clear()
    lines = samples.read(folder / "accuracy.jsonl")
    return samples.top1.copy(), samples.answers.copy(), lines


WINDOW = dict(zip(("p50_ms", "p90_ms", "p99_ms", "any_p50_ms", "any_p90_ms", "any_p99_ms"), FIGURES, strict=False))
WINDOW |= {"calls": 50, "left_out": 2, "on_cpu": 0.99, "calibration_ms": 0.01}
TIMING = {"windows": [WINDOW] * 3, "host": "h", "measured_at": "2026", "usual_calibration_ms": 0.01, "busy_cores": 0}
RESULT = {
    "schema_version": 1,
    "space": SPACE.name,
    "supernet": "supernet",
    "target": "x86",
    "threads": 1,
    "batch": 1,
    "dtype": "float32",
    "fingerprint": "f",
    "budgets_ms": [0.2],
    "picks": [
        {
            "number": 1,
            "subnet": SPACE.largest.key,
            "budget_ms": 0.2,
            "predicted_ms": 0.19,
            "predicted_low_ms": 0.18,
            "predicted_high_ms": 0.21,
            "measured_ms": 0.2,
            "timing": TIMING,
            "validation_top1": 0.9,
            "macs": 10,
            "parameters": 5,
            "held": True,
        }
    ],
    "front": [{"subnet": SPACE.smallest.key, "predicted_ms": 0.1, "predicted_top1": 0.8}],
    "cost": [estimated("search", 1.0, 2.0).record()],
}


def _manifest() -> Manifest:
    return Manifest(
        ofa_tvm="0",
        created_at="2026-01-01T00:00:00+00:00",
        space=SPACE.name,
        subnet=SPACE.largest.key,
        supernet=SupernetSource(file="supernet.safetensors", sha256="0", weights_sha256="1"),
        input=InputFacts(name="image", layout="NHWC", shape=(1, 32, 32, 3), dtype="float32", resolution=32),
        preprocess=Preparation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        class_names=("cat", "dog"),
        classes=2,
        macs=10,
        parameters=5,
        accuracy=Accuracy(data="tiny", how="", test_images=0, compared_images=1, max_relative_logit_difference=1e-6),
        latency=Latency(provenance="measured", measured_ms=1.0, repeats_ms=(1.0, 1.1), conditions={}),
        target=TargetFacts(name="x86", fingerprint="f", attributes={}, threads=1, tuned_kernels=1, default_kernels=0),
        versions={"tvm": "0"},
        cost=(estimated("deploy", 1.0, 2.0),),
    )


def _bundle(folder: Path) -> None:
    def fill(staged: Path) -> Manifest:
        _write(staged, "model.so", "machine code")
        _write(staged, "model.onnx", "graph")
        return _manifest()

    write_bundle(folder / "bundle", fill)


def _pack(folder: Path) -> None:
    entries = [{"id": one.digest, "candidate": packed(one)} for one in CANDIDATES]
    subnet: Record = {"id": "s", "space": SPACE.name, "classes": 10, "subnet": SPACE.largest.key, "schedules": "abc"}
    manifest = {
        "schema": SCHEMA,
        "round": "round-1",
        "target": GPU.name,
        "fingerprint": GPU.fingerprint,
        "conditions": GPU.conditions,
    }
    (folder / "pack").mkdir()
    _write(folder / "pack", "manifest.json", json.dumps(manifest))
    for entry in (*entries, subnet):
        pack_files.append_line(folder / "pack" / pack_files.ENTRIES, entry)
    results = folder / "pack" / "results.jsonl"
    pack_files.append_line(results, {"round": "round-1", "device": {"name": "GPU"}})
    for one in CANDIDATES:
        result = {"id": one.digest, "status": "ok", "times_ms": [0.3, 0.2], "is_checked": True, "at": 1e9}
        pack_files.append_line(results, {"round": "round-1", **result})
    timed = {"status": "ok", "at": 1e9, "times_ms": [0.2], "reference_ms": [0.5], "figures": [FIGURES]}
    pack_files.append_line(results, {"round": "round-1", "id": "s", "energy_mj": 12.5, **timed})


def _imported(folder: Path) -> object:
    """What the results of a pack bring into an empty log."""
    log = TuningLog(GPU, folder / "logs")
    try:
        with log.exclusive():
            done = import_kernels(folder / "pack", GPU, log)
        read = read_records(log.folder, SPACE.name)
        records = [(record.times_ms, record.reference_ms, record.energy_mj) for record in read]
        return done, log.kernels, records
    finally:
        for path in log.folder.glob("*.jsonl"):
            path.unlink()


def _sealed(content: bytes) -> bytes:
    """A file whose hash fits again."""
    try:
        value = json.loads(content)
        return json.dumps({**value, SEAL: digest_of({key: value[key] for key in value if key != SEAL})}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content


def _sealed_lines(content: bytes) -> bytes:
    """Lines whose checks fit again."""
    lines = []
    for line in content.splitlines():
        try:
            lines.append(pack_files.sealed(json.loads(line)["record"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            lines.append(line.decode(errors="replace"))
    return "\n".join([*lines, ""]).encode(errors="replace")


def _sample_facts() -> SupernetFacts:
    names = tuple(map(str, range(10)))
    return SupernetFacts(SPACE.name, "tiny", names, Preprocess((0.5,) * 3, (0.25,) * 3), {"plan": {}})


def _facts() -> dict[str, object]:
    return asdict(_sample_facts())


def _checkpoint(folder: Path, facts: Mapping[str, object] | None = None) -> None:
    from safetensors.numpy import save_file

    text = json.dumps(facts or _facts())
    header = {"format": FORMAT, "facts": text, FACTS_SEAL: digest_of_facts(text), TENSORS_SEAL: "0"}
    save_file({"weight": np.arange(6, dtype=np.float32)}, folder / "supernet.safetensors", header)


def _read_checkpoint(folder: Path) -> object:
    facts = read_facts(folder / "supernet.safetensors")
    return facts, facts.folds, facts.resolutions, facts.search_space.largest


def _facts_text(folder: Path) -> object:
    """A checkpoint with the facts in a file."""
    from safetensors.numpy import save_file

    text = (folder / "facts.json").read_bytes().decode(errors="replace")
    header = {"format": OLD_FORMAT, "facts": text}
    save_file({"weight": np.zeros(1, np.float32)}, folder / "supernet.safetensors", header)
    return _read_checkpoint(folder)


def _npz(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for layer, (inputs, outputs) in zip("0246", pairwise((128, 400, 400, 400, 1)), strict=True):
        arrays[f"{layer}.weight"] = rng.standard_normal((outputs, inputs)).astype(np.float32)
        arrays[f"{layer}.bias"] = rng.standard_normal(outputs).astype(np.float32)
    np.savez(folder / "weights.npz", **arrays)  # type: ignore[arg-type]


def _own(folder: Path) -> None:
    small = get_space("mbv3-cifar")
    _write(folder, "own.json", fixed_model("net", small.network(small.smallest)).own)


def _read_own(folder: Path) -> object:
    space: OwnModel = own_model.__wrapped__((folder / "own.json").read_bytes().decode(errors="replace"))
    return space.largest, space.network(space.largest)


def _lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def _latencies(folder: Path) -> object:
    data = read_latency_data(folder / "latencies.jsonl", SPACE)
    return data.configs, data.latency_ms


def _target(folder: Path) -> object:
    return load_target(str(folder / "board.toml"), device="estimate").model_dump()


def _board(folder: Path) -> None:
    _write(folder, "board.toml", (Path(__file__).parents[1] / "targets" / "arm.toml").read_text())


YAML = (
    "Conv-input:160x160x3-output:80x80x24:\n  count: 100\n  mean: 0.5\n  std: 0.01\n"
    "expanded_conv-input:80x80x24-output:80x80x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0:\n"
    "  count: 100\n  mean: 0.75\n  var: 0.01\n"
)
SUBNETS = (SPACE.largest, SPACE.smallest)
LATENCIES = (
    {"config": SPACE.to_ofa(SPACE.largest), "latency_ms": 1.5},
    {"subnet": SPACE.smallest.key, "latency_ms": 1},
)


def _architecture(name: str, text: str) -> Reader:
    """A file of subnets."""
    return Reader(
        f"subnets in {name}",
        name,
        lambda folder: _write(folder, name, text),
        lambda folder: read_architectures(str(folder / name), SPACE),
    )


READERS = (
    Reader("tuning log's manifest", "manifest.json", _log, _opened),
    Reader("manifest of a recording", "manifest.json", _log, _recorded),
    Reader("kernels", "kernels.jsonl", _log, kernel_states),
    Reader("trials", "trials.jsonl", _log, _opened),
    Reader("trials of a recording", "trials.jsonl", _log, _replayed),
    Reader("latency records", "latency.jsonl", _log, lambda folder: read_records(folder, SPACE.name)),
    Reader("latency records of a recording", "latency.jsonl", _log, _replayed),
    Reader("traces", "traces.jsonl", _log, kept_traces),
    Reader("ledger", "ledger.jsonl", _ledger, lambda folder: Ledger(folder / "ledger.jsonl").costs()),
    Reader("latency model", "cost_model.report.json", _fitted()[0].save, _latency_model),
    Reader("trees", "cost_model.ubj", _fitted()[0].save, _latency_model, is_sealed=True),
    Reader(
        "accuracy predictor",
        "accuracy_predictor.report.json",
        _fitted()[1].save,
        _accuracy_predictor,
    ),
    Reader("accuracy samples", "accuracy.jsonl", _samples, _read_samples),
    Reader(
        "search result",
        "result.json",
        lambda folder: _write(folder, "result.json", json.dumps(RESULT)),
        load_search_result,
    ),
    Reader("bundle's manifest", "bundle/manifest.json", _bundle, lambda folder: load_manifest(folder / "bundle")),
    Reader("pack's manifest", "pack/manifest.json", _pack, lambda folder: read_manifest(folder / "pack", GPU)),
    Reader(
        "pack's entries", "pack/entries.jsonl", _pack, lambda folder: read_entries(folder / "pack"), seal=_sealed_lines
    ),
    Reader("pack's results", "pack/results.jsonl", _pack, _imported, seal=_sealed_lines),
    Reader("checkpoint", "supernet.safetensors", _checkpoint, _read_checkpoint, is_sealed=True),
    Reader(
        "facts of a checkpoint",
        "facts.json",
        lambda folder: _write(folder, "facts.json", json.dumps(_facts())),
        _facts_text,
    ),
    Reader("OFA's predictor", "weights.npz", _npz, lambda folder: OfaPredictor.load(folder / "weights.npz").layers),
    Reader("model of one's own", "own.json", _own, _read_own),
    Reader("target", "board.toml", _board, _target),
    Reader(
        "block latencies",
        "note.yaml",
        lambda folder: _write(folder, "note.yaml", YAML),
        lambda folder: OfaTimes.read(folder / "note.yaml"),
    ),
    Reader(
        "latencies to fit",
        "latencies.jsonl",
        lambda folder: _write(folder, "latencies.jsonl", _lines(*LATENCIES)),
        _latencies,
    ),
    _architecture("subnet.json", json.dumps([SPACE.to_ofa(config) for config in SUBNETS])),
    _architecture("subnets.jsonl", _lines(*({"subnet": config.key} for config in SUBNETS))),
    _architecture("keys.txt", "".join(f"{config.key}\n" for config in SUBNETS)),
    _architecture("subnets.py", f"best = {SPACE.to_ofa(SPACE.largest)!r}\n"),
    _architecture("table.csv", "ks,e,d,r\n" + '5,4,"[2,2,2]",32\n'),
)


# Changes ----------------------------------------------------------------------------------------------------------

DEEP = 2000
NASTY = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan", "inf", "1e308", "-1e308", "1e-320", "0.0", "-0.0"),
    *("0", "-1", "1", "2", "3", "4.0", "4.9", "64", "9223372036854775807", "9223372036854775808", "1" + "0" * 400),
    *("9" * 5000, "true", "false", "null", '"7"', '""', '"abc"', '"\\ud800"', '"\\u0000"', '"../../x"', '"/dev/zero"'),
    *("[]", "{}", "[[]]", "[1]", "[true]", '{"a": 1}', "[" * DEEP, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP),
    *("1_000", "0x10", "\u0661", "\ufeff", "\u2028", "\x85", "'", '"', "\\", "#", ",", "\n", "\r\n", "\x00", "&a [*a]"),
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\w+|[][{}():,=]')


def changed(content: bytes, rng: random.Random, is_text: bool = True) -> bytes:
    """The content of a file with one or two changes: of a token or a value of text, of bits, of its length."""
    ways = (_token, _token, _token, _value, _value, _value, _bit, _cut, _bytes) if is_text else (_bit, _cut, _bytes)
    for _ in range(1 + (rng.random() < 0.3)):
        content = rng.choice(ways)(content, rng)
    return content


def _token(content: bytes, rng: random.Random) -> bytes:
    """One number, text, word or mark becomes something else; or one of the file's others."""
    text = content.decode(errors="replace")
    tokens = list(_TOKEN.finditer(text[: 1 << 16]))
    if not tokens:
        return _bytes(content, rng)
    one = rng.choice(tokens)
    other = rng.choice(NASTY) if rng.random() < 0.8 else rng.choice(tokens)[0]
    return (text[: one.start()] + other + text[one.end() :]).encode(errors="replace")


def _value(content: bytes, rng: random.Random) -> bytes:
    """A value of a line of JSON becomes something else, is dropped, or written twice."""
    lines = content.splitlines()
    number = rng.randrange(len(lines)) if content.count(b"\n{") else 0
    line = lines[number] if content.count(b"\n{") else content
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return _token(content, rng)
    inner, keys = value, None
    while isinstance(inner, dict | list) and inner and (keys is None or rng.random() < 0.7):
        keys = inner
        key = rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        inner = inner[key]
    if keys is None:
        return _token(content, rng)
    what = rng.random()
    if what < 0.2:
        del keys[key]
        line = json.dumps(value).encode()
    elif what < 0.3 and isinstance(keys, dict):
        keys[f"@{key}"] = inner
        line = json.dumps(value).replace(f'"@{key}"', json.dumps(key)).encode()
    else:
        keys[key] = "@@"
        line = json.dumps(value).replace('"@@"', rng.choice(NASTY)).encode(errors="replace")
    return b"\n".join([*lines[:number], line, *lines[number + 1 :], b""]) if content.count(b"\n{") else line


def _bit(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return b"\x00"
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice((content[:start], content[start:], content[:start] + content[end:]))


def _bytes(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    some = rng.choice((rng.randbytes(rng.randrange(1, 20)), content[place : place + rng.randrange(200)], b"\x00" * 40))
    return content[:place] + some + content[place:]


# Values -----------------------------------------------------------------------------------------------------------


def parts(value: object) -> Iterable[object]:
    """The numbers and texts in a value."""
    if is_dataclass(value):
        for field in fields(value):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, BaseModel):
        yield from parts(dict(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from parts(key)
            yield from parts(item)
    elif isinstance(value, np.ndarray):
        yield from value.ravel().tolist()
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from parts(item)
    else:
        yield value


def unsound(value: object) -> list[object]:
    """The numbers in a value that cannot be meant."""
    return [
        part
        for part in parts(value)
        if isinstance(part, float | int) and not isinstance(part, bool) and not -math.inf < part < math.inf
    ]


def same(one: object, other: object) -> bool:
    """Whether two values hold the same, however arrays print."""
    return list(map(repr, parts(one))) == list(map(repr, parts(other)))


def outcome(reader: Reader, folder: Path, written: object, is_sealed: bool) -> str:
    """What a reader does: ``read``, ``refused``, or what it must not do."""
    try:
        value = reader.read(folder)
    except UserError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    if bad := unsound(value):
        return f"read {bad[:3]}"
    return "silently changed" if is_sealed and not same(value, written) else "read"


def weights_reader() -> Reader:
    """The reader of a checkpoint's weights, which needs torch."""
    import torch

    from ofa_tvm.supernet.checkpoint import load_tensors, save_tensors

    def write(folder: Path) -> None:
        tensors = {"one": torch.arange(6.0), "two": torch.ones(3, 2), "count": torch.tensor(7)}
        save_tensors(folder / "supernet.safetensors", tensors, _sample_facts())

    def read(folder: Path) -> object:
        tensors, facts = load_tensors(folder / "supernet.safetensors")
        return {name: tensor.numpy() for name, tensor in tensors.items()}, facts

    return Reader("weights", "supernet.safetensors", write, read, is_sealed=True)
