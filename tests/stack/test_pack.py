"""A pack's whole way: export, measure in its folder with nothing but its own files, import, next round."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

import ofa_tvm.tune as tune_command
from ofa_tvm.compiler.assembly.memory_plan import aligned
from ofa_tvm.compiler.cuda import build as cuda_build
from ofa_tvm.compiler.lowering import fused_kernels, layer_kernels
from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.scheduled.virtual_machine import compile_loops
from ofa_tvm.compiler.tvm_api.names import Target, tvm
from ofa_tvm.devices.local import gpu_jobs
from ofa_tvm.devices.pack import forms, pack_files
from ofa_tvm.devices.pack import jobs as pack_jobs
from ofa_tvm.devices.pack.entries import read_entries
from ofa_tvm.devices.pack.tvm_runtime import Runtime
from ofa_tvm.devices.pack.writer import KERNEL_TOLERANCE, PackWriter
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.job import KernelJob, SubnetJob, TunedSubnets
from ofa_tvm.tuner.latency_records import read_records

CPU = Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu(), "num-cores": 1})
SMALL = KernelSpec("conv", 16, 32, 6, activation="relu", bias=True)
needs_int8 = pytest.mark.skipif("avx2" not in cpu_flags(), reason="int8 needs AVX2")


@pytest.fixture(scope="module")
def target_file(tmp_path_factory):
    """The x86 target with short measurements."""
    text = (Path(__file__).parents[2] / "targets" / "x86.toml").read_text()
    short = {"min_repeat_ms = 4": "min_repeat_ms = 1", "repeats = 7": "repeats = 2", "gap_s = 1": "gap_s = 0.1"}
    for old, new in short.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path_factory.mktemp("target") / "far.toml"
    path.write_text(text)
    return path


def run_tune(capsys, target_file, logs, *options):
    common = ["--target", str(target_file), "--logs", str(logs), "--resolution", "28", "--json"]
    code = tune_command.main([*common, *map(str, options)])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code == 0 else said.err


def measure_there(pack, *options, code=0):
    """Run the pack as its device would: this package is not on the path. What it says."""
    command = [sys.executable, "measure.py", *options]
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=pack, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def entries_of(pack):
    entries, damaged = pack_files.read_lines(pack / pack_files.ENTRIES)
    assert not damaged
    return entries


def first_of_each_kind(kernels):
    kinds: dict[tuple[str, bool, bool, bool], KernelSpec] = {}
    for spec in kernels.values():
        kinds.setdefault((spec.kind, spec.scaled, spec.residual, spec.pooled), spec)
    return list(kinds.values())


def test_two_rounds_with_the_cpu_as_the_far_device(capsys, target_file, tmp_path):
    logs, first, second = tmp_path / "logs", tmp_path / "one", tmp_path / "two"
    code, made = run_tune(capsys, target_file, logs, "--export-pack", first, "--trials", 4, "--pack-batch", 2)
    assert code == 0
    assert (made["exported"]["entries"], made["exported"]["failures"]) == (4, 0)
    assert made["exported"]["size_bytes"] < 64 << 20
    assert (first / "runtime" / "libtvm_runtime.so").exists()

    assert "4 measured, 0 left" in measure_there(first)
    with (first / "results.jsonl").open("a") as file:
        file.write('{"record": {"id": "torn')
    options = ("--import-pack", first, "--export-pack", second, "--trials", 4, "--pack-batch", 2)
    code, done = run_tune(capsys, target_file, logs, *options)
    assert code == 0
    assert (done["imported"]["results"], done["imported"]["failures"], done["imported"]["damaged"]) == (4, 0, 1)
    assert done["tuned"] == 2
    ids = [{entry["id"] for entry in entries_of(pack)} for pack in (first, second)]
    assert not ids[0] & ids[1]

    code, done = run_tune(capsys, target_file, logs, "--import-pack", first)
    assert (code, done["imported"]["results"], done["imported"]["known"]) == (0, 0, 4)
    code, said = run_tune(capsys, target_file, logs, "--import-pack", second)
    assert code == 2
    assert "results.jsonl does not exist" in said
    code, said = run_tune(capsys, target_file, logs, "--export-pack", first)
    assert code == 2
    assert "is not an empty folder" in said
    code, said = run_tune(capsys, target_file, logs, "--threads", "2", "--import-pack", first)
    assert code == 2
    assert "was made for" in said


def test_every_kind_of_cpu_kernel_agrees_with_the_reference_there(target_file, tmp_path):
    target = load_target(str(target_file), device="pack")
    with PackWriter(target, tmp_path / "pack") as writer:
        for spec in first_of_each_kind(fused_kernels(MBV3_CIFAR, (28,))):
            assert not writer.add(spec, [Candidate(spec.key, "default", {})])
        writer.finish()
    measure_there(tmp_path / "pack")
    records, damaged = pack_files.read_lines(tmp_path / "pack" / "results.jsonl")
    assert damaged == 0
    assert records[0]["device"]["name"]
    assert {record["status"] for record in records[1:]} == {"ok"}
    assert all(record["is_checked"] for record in records[1:])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_functions_of_one_layer_agree_with_the_reference_there(target_file, tmp_path, monkeypatch, dtype):
    """What is built for GPUs, here for the CPU: the same functions of tensors, inputs, digests and script."""

    def for_the_cpu(spec, schedule, target, linker, library):
        assert isinstance(target, Target)
        tvm.compile(kernel_workload(spec), target=target).export_library(str(library))

    monkeypatch.setattr(pack_jobs, "build_kernel", for_the_cpu)
    target, pack = load_target(str(target_file), device="pack"), tmp_path / "pack"
    with PackWriter(target, pack) as writer:
        writer.add(SMALL, [Candidate(SMALL.key, "default", {})])
        writer.finish()
    manifest = json.loads((pack / "manifest.json").read_text())
    manifest["measure"]["tolerance"] = KERNEL_TOLERANCE[dtype]
    (pack / pack_files.ENTRIES).unlink()
    for number, spec in enumerate(first_of_each_kind(layer_kernels(MBV3_CIFAR, (28,), 1, dtype))):
        built = pack_jobs.function(KernelJob(spec, {}, target), str(number), pack)
        pack_files.append_line(pack / pack_files.ENTRIES, {"title": spec.key, **built.entry})
    (pack / "manifest.json").write_text(json.dumps(manifest))
    measure_there(pack)
    records, _ = pack_files.read_lines(pack / "results.jsonl")
    assert {record["status"] for record in records[1:]} == {"ok"}


def test_subnets_go_there_and_come_back_as_latencies(capsys, target_file, tmp_path):
    logs, pack = tmp_path / "logs", tmp_path / "pack"
    code, made = run_tune(capsys, target_file, logs, "--export-pack", pack, "--trials", 0, "--samples", 2)
    assert (code, made["exported"]["subnets"], made["exported"]["kernels"]) == (0, 2, 0)
    assert json.loads((pack / "manifest.json").read_text())["measure"]["is_gpu"] is False
    assert all(path.stat().st_size < 1 << 20 for path in pack.glob("*.z")), "weights take little room"
    measure_there(pack)
    code, done = run_tune(capsys, target_file, logs, "--import-pack", pack)
    assert (code, done["imported"]["subnets"], done["imported"]["failures"]) == (0, 2, 0)
    records = read_records(Path(done["folder"]), "mbv3-cifar")
    assert [record.status for record in records] == ["ok", "ok"]
    assert all(record.latency_ms > 0 and record.ratio > 0 for record in records)
    code, done = run_tune(capsys, target_file, logs, "--import-pack", pack)
    assert (code, done["imported"]["subnets"]) == (0, 0)
    code, made = run_tune(capsys, target_file, logs, "--export-pack", tmp_path / "next", "--trials", 0, "--samples", 1)
    subnet = entries_of(tmp_path / "next")[0]["subnet"]
    assert subnet not in {record.subnet for record in records}


@needs_int8
def test_int8_goes_there_and_comes_back(capsys, target_file, tmp_path):
    logs, pack = tmp_path / "logs", tmp_path / "pack"
    options = ("--dtype", "int8", "--export-pack", pack, "--trials", 3, "--samples", 1)
    code, made = run_tune(capsys, target_file, logs, *options)
    assert (code, made["exported"]["entries"], made["exported"]["subnets"]) == (0, 4, 1)
    assert all(path.stat().st_size < 1 << 20 for path in pack.glob("*.z")), "weights and arguments take little room"
    assert "--dtype int8 --import-pack FOLDER" in (pack / "README.txt").read_text()
    measure_there(pack)
    code, said = run_tune(capsys, target_file, logs, "--import-pack", pack)
    assert (code, "dtype that it was exported with" in said) == (2, True)
    code, done = run_tune(capsys, target_file, logs, "--dtype", "int8", "--import-pack", pack)
    assert code == 0
    assert (done["imported"]["results"], done["imported"]["subnets"], done["imported"]["failures"]) == (3, 1, 0)
    assert "-b1-i8-pack-" in done["fingerprint"]
    assert done["tuned"] >= 1


def measured_with_wrong_weights(target, pack, places, flipped):
    """Results of a kernel of each kind there, whose last one's bytes are flipped at places of its first constant."""
    spoiled = replace(SMALL, dtype=target.dtype)
    specs = [*first_of_each_kind(fused_kernels(MBV3_CIFAR, (28,), target.dtype)), spoiled]
    with PackWriter(target, pack) as writer:
        for spec in specs:
            assert not writer.add(spec, [Candidate(spec.key, "default", {})])
        writer.finish()
    path = pack / entries_of(pack)[-1]["arguments"]
    arguments, weights = bytearray(zlib.decompress(path.read_bytes())), aligned(spoiled.input_type.nbytes)
    for place in places:
        arguments[weights + place] ^= flipped
    path.write_bytes(zlib.compress(arguments))
    stored = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    damage(pack, -1, lambda entry: {"files": {**entry["files"], **stored}})
    measure_there(pack)
    (_, *records), _ = pack_files.read_lines(pack / "results.jsonl")
    assert [record["status"] for record in records] == ["ok"] * (len(specs) - 1) + ["wrong_output"]
    return records


@needs_int8
def test_every_kind_of_int8_kernel_equals_the_reference_there_but_not_with_a_wrong_weight(target_file, tmp_path):
    target = load_target(str(target_file), device="pack", dtype="int8")
    records = measured_with_wrong_weights(target, tmp_path / "pack", [0], 0x40)
    assert "must equal" in records[-1]["error"]


@pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="this machine lacks AVX512_BF16")
def test_bfloat16_kernels_are_compared_there_but_not_with_wrong_weights(target_file, tmp_path):
    target, signs = load_target(str(target_file), device="pack", dtype="bfloat16"), 0x80
    records = measured_with_wrong_weights(target, tmp_path / "pack", range(1, 201, 2), signs)
    assert "differs from the reference" in records[-1]["error"]


def test_finalists_of_a_search_go_into_a_pack_without_candidates(capsys, target_file, tmp_path):
    wanted = ["r28.3x2-3x2.3x2-3x2.3x2-3x2", "r28.3x2-3x2.3x2-3x2.3x2-3x3"]
    search = {"schema_version": 1, "space": "mbv3-cifar", "supernet": "s", "target": "mine", "threads": 1}
    search |= {"fingerprint": "f", "picks": [], "unmeasured": wanted}
    (tmp_path / "result.json").write_text(json.dumps(search))
    options = ("--export-pack", tmp_path / "pack", "--subnets-of", tmp_path)
    code, made = run_tune(capsys, target_file, tmp_path / "logs", *options)
    assert (code, made["exported"]["subnets"], made["exported"]["kernels"]) == (0, 2, 0)
    assert [entry["subnet"] for entry in entries_of(tmp_path / "pack")] == wanted
    code, said = run_tune(capsys, target_file, tmp_path / "logs", "--subnets-of", tmp_path)
    assert code == 2
    assert "--export-pack" in said


@pytest.fixture
def gpu_is_the_cpu(monkeypatch):
    """What is built and run for a GPU, in the same way for this CPU."""

    def kernel(spec, schedule, target, linker, library):
        tvm.compile(kernel_workload(spec), target=CPU).export_library(str(library))

    def network(network, weights, winners, target, linker, library, batch, dtype="float32"):
        compile_loops(network, weights, CPU, library, batch, dtype)

    monkeypatch.setattr(pack_jobs, "build_kernel", kernel)
    monkeypatch.setattr(cuda_build, "build_network", network)
    monkeypatch.setattr(gpu_jobs.GpuJobs, "runtime", lambda own: Runtime((), "cpu"))


TWO_WINDOWS = WindowPlan(windows=2, window_ms=1, gap_s=0)


def test_jobs_of_a_local_gpu_run_and_check(gpu_is_the_cpu):
    result = gpu_jobs.GpuJobs().trial(KernelJob(SMALL, {}, load_target("cuda-sm90").with_repeats(2)))
    assert (result.status, result.is_checked, len(result.times_ms)) == ("ok", True, 2)


@pytest.mark.parametrize(("batch", "dtype"), [(1, "float32"), (2, "float32"), (2, "float16")])
def test_subnets_of_a_local_gpu_run_in_the_virtual_machine(gpu_is_the_cpu, tmp_path, batch, dtype):
    target = load_target("cuda-sm90").model_copy(update={"batch": batch, "dtype": dtype})
    subnets = TunedSubnets("mbv3-cifar", 10, (MBV3_CIFAR.smallest.key,), tmp_path)
    (timing,) = gpu_jobs.GpuJobs().time_subnets(SubnetJob(subnets, target, TWO_WINDOWS)).timings
    assert (timing.status, timing.error) == ("ok", "")
    assert len(timing.times_ms) == len(timing.reference_ms) == len(timing.figures) == 2


@pytest.mark.parametrize("target", ["cuda-sm90", "x86"], ids=["virtual machine", "complete library"])
def test_calls_of_a_local_gpu_are_metered(gpu_is_the_cpu, tmp_path, monkeypatch, target):
    """With a counter of 100 W, so that a call draws 100 mJ in each millisecond."""
    monkeypatch.setattr(forms, "ENERGY_S", 0.1)
    monkeypatch.setattr(forms, "gpu_millijoules", lambda: 100e3 * (time.monotonic() // 0.02) * 0.02)
    subnets = TunedSubnets("mbv3-cifar", 10, (MBV3_CIFAR.smallest.key,), tmp_path)
    (timing,) = gpu_jobs.GpuJobs().time_subnets(SubnetJob(subnets, load_target(target), TWO_WINDOWS)).timings
    assert timing.error == ""
    assert timing.energy_mj is not None
    assert 50 * min(timing.times_ms) < timing.energy_mj < 2000 * max(timing.times_ms)


def damage(pack, number, change):
    """Replace an entry."""
    entries = entries_of(pack)
    entries[number] |= change(entries[number])
    (pack / pack_files.ENTRIES).unlink()
    for entry in entries:
        pack_files.append_line(pack / pack_files.ENTRIES, entry)


def replace_library(pack, number, body, folder):
    """Put a library into the pack that does something as soon as it is loaded."""
    source, library = folder / "bad.c", folder / "bad.so"
    source.write_text(f"#include <stdlib.h>\n__attribute__((constructor)) static void start(void) {{ {body} }}\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    name = entries_of(pack)[number]["library"].removesuffix(".so.z")
    stored = pack_jobs.store(library, name, pack)["files"]
    damage(pack, number, lambda entry: {"files": {**entry["files"], **stored}})


def test_a_crash_a_hang_and_a_wrong_output_cost_one_result_each(target_file, tmp_path):
    target, pack = load_target(str(target_file), device="pack"), tmp_path / "pack"
    target = target.model_copy(update={"tuning": target.tuning.model_copy(update={"timeout_s": 5})})
    specs = [SMALL, *(KernelSpec("conv", 16, 16, size, bias=True) for size in (4, 5, 7, 8))]
    with PackWriter(target, pack) as writer:
        for spec in specs:
            writer.add(spec, [Candidate(spec.key, "default", {})])
        writer.finish()
    damage(pack, 0, lambda entry: {"form": "function", "inputs": [], "dtype": "float32"})  # it has no function main
    damage(pack, 1, lambda entry: {"expected": {**entry["expected"], "sum": 2 * entry["expected"]["sum"]}})
    replace_library(pack, 2, "abort();", tmp_path)
    replace_library(pack, 3, "for (;;) ;", tmp_path)
    measure_there(pack)
    records, _ = pack_files.read_lines(pack / "results.jsonl")
    assert [record["status"] for record in records[1:]] == ["failed", "wrong_output", "crashed", "timed_out", "ok"]
    assert "differs from the reference" in records[2]["error"]


def test_a_pack_whose_making_is_interrupted_can_be_measured(target_file, tmp_path, capsys):
    target, pack = load_target(str(target_file), device="pack"), tmp_path / "pack"
    with pytest.raises(KeyboardInterrupt), PackWriter(target, pack) as writer:
        writer.add(SMALL, [Candidate(SMALL.key, "default", {})])
        raise KeyboardInterrupt
    assert "holds 1 entries so far, and can be measured as it is" in capsys.readouterr().err
    with (pack / pack_files.ENTRIES).open("a") as file:
        file.write('{"record": {"id": "to')
    assert "1 measured, 0 left" in measure_there(pack)
    (entry,) = read_entries(pack)
    assert entry.candidate == Candidate(SMALL.key, "default", {})


def test_a_machine_on_which_nothing_works_keeps_no_results(target_file, tmp_path):
    target, pack = load_target(str(target_file), device="pack"), tmp_path / "pack"
    with PackWriter(target, pack) as writer:
        writer.add(SMALL, [Candidate(SMALL.key, "default", {})])
        writer.finish()
    manifest = pack / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(whole), "machine": "riscv64"}))
    assert "the pack is for riscv64" in measure_there(pack, code=2)
    manifest.write_text(whole)
    damage(pack, 0, lambda entry: {"form": "function", "inputs": []})
    assert "none of them works on this machine" in measure_there(pack, code=1)
    assert not (pack / "results.jsonl").exists()
    damage(pack, 0, lambda entry: {"form": "program"})
    assert "1 measured, 0 left" in measure_there(pack)


def test_a_candidate_that_cannot_be_built_is_told(target_file, tmp_path):
    target = load_target(str(target_file), device="pack")
    with PackWriter(target, tmp_path / "pack") as writer:
        ((_, result),) = writer.add(SMALL, [Candidate(SMALL.key, "template", {"template": "moon", "parameters": {}})])
        assert result.status == "failed"
        with pytest.raises(UserError, match="nothing to measure"):
            writer.finish()
    assert not (tmp_path / "pack").exists()


def test_a_target_that_is_measured_elsewhere_says_how(capsys):
    assert tune_command.main(["--target", "cuda-sm90", "--resolution", "28", "--trials", "1"]) == 2
    assert "--export-pack FOLDER" in capsys.readouterr().err
