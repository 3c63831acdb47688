"""Target files: what is wrong in one is named with its file and key, and the fingerprint says what changes speed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ofa_tvm.hardware import machine, target_files
from ofa_tvm.hardware import target as targets
from ofa_tvm.hardware.machine import mcpu_of, native_mcpu
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.hardware.target_files import load_target, target_names
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.shipped import shipped_folder

X86 = (shipped_folder("targets") / "x86.toml").read_text()
AVX2 = "fma avx2 bmi1 bmi2 f16c sse4_2 ssse3 popcnt"
AVX512 = f"{AVX2} avx512f avx512bw avx512dq avx512vl avx512cd"
SERVER = f"{AVX512} avx512_vnni avx512_vbmi2 gfni vaes"


@pytest.fixture
def write(tmp_path):
    """Writes x86.toml with replacements under another name; returns its path."""

    def write(*replacements, name="board"):
        text = X86
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return str(path)

    return write


def the_gpu_here_is(gpu, monkeypatch):
    for module in (targets, target_files):
        monkeypatch.setattr(module, "local_gpu", lambda: gpu)


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_loads(name, monkeypatch):
    monkeypatch.setattr(target_files, "process_cores", lambda: 64)
    the_gpu_here_is(machine.LocalGpu("NVIDIA Made Up", "sm_90", "580.1"), monkeypatch)
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert target.target.mcpu != "native"
    host = target.attributes.get("host", target.attributes)
    assert host["num-cores"] == target.threads
    assert re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{8}", target.fingerprint)


def test_a_target_is_a_name_or_a_file(write):
    path = write(('mcpu = "native"', 'mcpu = "haswell"\nmattr = ["+avx2"]'))
    target = load_target(path)
    assert target.name == "board"
    assert target.attributes == {"kind": "llvm", "mcpu": "haswell", "num-cores": 1, "mattr": ["+avx2"]}
    assert load_target("x86").target.mcpu == native_mcpu()


@pytest.mark.parametrize("name", ["no-such-target", "missing/file.toml"])
def test_an_unknown_target_names_the_known_ones(name):
    with pytest.raises(UserError, match=f"unknown target '{name}'\n.*x86"):
        load_target(name)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("threads = 1", "threads = 1\ncolour = 3", "unknown key 'colour'"),
        ("gap_s = 1", "gap_s = 1\nheat = 3", "unknown key 'measure.heat'"),
        ("batch = 1\n", "", "missing key 'batch'"),
        ('kind = "llvm"', "", "missing key 'target.kind'"),
        ('[toolchain]\nlinker = "g++"', "", "missing key 'toolchain'"),
        ("threads = 1", 'threads = "many"', "key 'threads': Input should be a valid integer"),
        ("threads = 1", "threads = 0", "key 'threads': Input should be greater than 0"),
        ("windows = 3", "windows = 1.5", "key 'measure.windows': Input should be a valid integer"),
        ('kind = "llvm"', 'kind = "opencl"', "key 'target.kind': Input should be 'llvm' or 'cuda'"),
        ('device = "local"', 'device = "moon"', "key 'device': Input should be 'local'"),
        ("schema = 1", "schema = 2", "key 'schema': Input should be less"),
        ("threads = 1", "threads = ", "is not valid TOML"),
        ("threads = 1", "threads = 1024", "key 'threads': 1024 threads, but this process may use"),
        ("threads = 1", "threads = 4096", "key 'threads': Input should be less than or equal to 1024, not 4096"),
        ("batch = 1\n", "batch = 9223372036854775807\n", "key 'batch': Input should be less than or equal to 4096"),
        ("windows = 3", "windows = 1000000", "key 'measure.windows': Input should be less than or equal to 1000"),
        ("gap_s = 1", "gap_s = 1e9", "key 'measure.gap_s': Input should be less than or equal to 3600"),
        ("window_ms = 60", "window_ms = 1e300", "key 'measure.window_ms': Input should be less than or equal to 60000"),
        ("window_ms = 60", "window_ms = 1e-300", "key 'measure.window_ms': Input should be greater than or equal to 1"),
        ("trials_per_kernel = 24", "trials_per_kernel = 9223372036854775807", "key 'tuning.trials_per_kernel': Input"),
        ("batch = 4", "batch = 9223372036854775807", "key 'tuning.batch': Input should be less than or equal to 10000"),
        ("timeout_s = 20", "timeout_s = 1e-9", "key 'tuning.timeout_s': Input should be greater than or equal to 0.1"),
        ("repeats = 7", "repeats = 1000000000", "key 'tuning.repeats': Input should be less than or equal to 10000"),
        ("min_repeat_ms = 4", "min_repeat_ms = 1000000000", "key 'tuning.min_repeat_ms': Input should be less than"),
        ('linker = "g++"', 'linker = ""', "key 'toolchain.linker': '' names no program"),
        ('linker = "g++"', 'linker = "-v"', "key 'toolchain.linker': '-v' names no program"),
        (
            "CPU of this machine",
            "\\u001b[31m",
            "key 'description': 'x86-64 \\x1b[31m' has letters that cannot be printed",
        ),
        ("CPU of this machine", "\\u202etxt", "key 'description': 'x86-64 \\u202etxt' has letters that cannot"),
        ("[target]", '[target]\nkeys = ["cpu", "a b"]', "key 'target.keys.1': 'a b' is no word"),
        ("[target]", '[target]\ndevice = "\\n"', "key 'target.device': '\\n' has letters that cannot be printed"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(write, old, new, problem):
    path = write((old, new))
    with pytest.raises(UserError) as caught:
        load_target(path)
    assert path in str(caught.value)
    assert problem in str(caught.value)


def test_a_batch_on_the_command_line_has_the_files_limit():
    with pytest.raises(UserError, match="key 'batch': Input should be less than or equal to 4096, not 5000"):
        load_target("x86", batch=5000)


def test_all_problems_are_named_at_once(write):
    path = write(("batch = 1\n", ""), ("gap_s = 1", "gap = 1"))
    with pytest.raises(UserError, match=r"missing key 'batch'.*missing key 'measure.gap_s'.*unknown key 'measure.gap'"):
        load_target(path)


def test_a_target_without_boards_cannot_be_emulated():
    with pytest.raises(
        UserError, match=r"cannot use device 'emulated'.*\n.*use local, pack or replay:FOLDER; .*no section \[rpc\]"
    ):
        load_target("x86", device="emulated")
    with pytest.raises(UserError, match=r"\n.*use pack, replay:FOLDER, estimate, emulated or rpc:HOST:PORT"):
        load_target("arm", device="moon")


def test_a_cpu_of_another_kind_is_not_this_machines():
    with pytest.raises(UserError, match=r"target arm is compiled for aarch64, this machine is x86_64"):
        load_target("arm", device="local")


def test_a_target_knows_the_options_that_name_it(tmp_path):
    shutil.copy(shipped_folder("targets") / "arm.toml", tmp_path / "my arm.toml")
    assert load_target("arm", device="estimate").options == "--target arm --device estimate"
    given = load_target("arm", 2, 3, "pack", "int8")
    assert given.options == "--target arm --threads 2 --batch 3 --dtype int8"
    target = load_target(str(tmp_path / "my arm.toml"), device="pack")
    assert target.options == f"--target '{tmp_path}/my arm.toml'"


@pytest.mark.parametrize("said", ["127.0.0.1:9190", "rpc:127.0.0.1:9190", "127.0.0.1:9190:a76"])
def test_the_environment_names_the_tracker(monkeypatch, said):
    monkeypatch.setenv("OFA_TVM_TRACKER", said)
    target = load_target("arm")
    assert (target.device, target.tracker) == ("rpc", "127.0.0.1:9190")


@pytest.mark.parametrize(("said", "device"), [("127.0.0.1", None), (None, "rpc:127.0.0.1"), ("rpc:9190", None)])
def test_hints_about_the_tracker_can_be_followed(monkeypatch, said, device):
    monkeypatch.delenv("OFA_TVM_TRACKER", raising=False)
    if said is not None:
        monkeypatch.setenv("OFA_TVM_TRACKER", said)
    with pytest.raises(UserError, match="does not say where the tracker is") as caught:
        load_target("arm", device=device)
    example = caught.value.hint.split()[-1]
    assert example == ("127.0.0.1:9190" if device is None else "rpc:127.0.0.1:9190")
    if device is None:
        monkeypatch.setenv("OFA_TVM_TRACKER", example)
    assert load_target("arm", device=device and example).tracker == "127.0.0.1:9190"


def test_an_emulated_target_is_another_one():
    emulated, board = load_target("arm", device="emulated"), load_target("arm", device="rpc:127.0.0.1:9190")
    assert (emulated.provenance, board.provenance) == ("emulated", "measured")
    assert emulated.fingerprint != board.fingerprint
    assert board.stored_provenance() == "measured"
    with pytest.raises(UserError, match="emulated"):
        emulated.stored_provenance()


@pytest.mark.parametrize(
    ("name", "device"),
    [("x86", "pack:x"), ("x86", "local:junk"), ("arm", "emulated:1"), ("arm", "estimate:"), ("x86", "moon:1")],
)
def test_nothing_follows_a_device_that_has_no_address(name, device):
    with pytest.raises(UserError, match=f"cannot use device '{device}'"):
        load_target(name, device=device)


@pytest.mark.parametrize(
    ("name", "device"),
    [("arm", "pack"), ("arm", "emulated"), ("arm", "rpc:127.0.0.1:9190"), ("arm", "estimate"), ("x86", "pack")],
)
def test_int8_is_for_cpus_wherever_they_are(name, device):
    levels, floats = (load_target(name, device=device, dtype=dtype) for dtype in ("int8", "float32"))
    assert levels.device == floats.device
    assert "-b1-i8-" in levels.fingerprint
    assert levels.fingerprint != floats.fingerprint


def test_int8_is_not_for_gpus():
    with pytest.raises(UserError, match="int8 is for CPUs"):
        load_target("cuda-sm80", device="pack", dtype="int8")


BOARDS = '[rpc]\ntracker_env = "T"\nkey = "k"\nsession_timeout_s = 60\ncores = {}\n\n[measure]'


def test_chosen_cores_change_the_fingerprint(write):
    some, all_cores = (
        load_target(write(("[measure]", BOARDS.format(cores))), device="rpc:127.0.0.1:9190")
        for cores in ("[4, 5]", "[]")
    )
    assert some.conditions["cores"] == [4, 5]
    assert "cores" not in all_cores.conditions
    assert some.fingerprint != all_cores.fingerprint


@pytest.mark.parametrize(
    ("cores", "problem"),
    [
        ("[-1]", "key 'rpc.cores.0': Input should be greater than or equal to 0"),
        ("[63]", "key 'rpc.cores.0': Input should be less than 63"),
        ('"4-7"', "key 'rpc.cores': Input should be a valid array"),
        ("[4, 4]", "key 'rpc.cores': 2 threads need as many cores"),
    ],
)
def test_wrong_cores_are_named(write, cores, problem):
    path = write(("[measure]", BOARDS.format(cores)))
    with pytest.raises(UserError, match=problem):
        load_target(path, threads=2, device="rpc:127.0.0.1:9190")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "board.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is no text in UTF-8"):
        load_target(str(path))


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"red\x1b[31m"])
def test_a_name_that_cannot_be_printed_is_refused(write, name):
    path = write(name=os.fsdecode(name))
    with pytest.raises(UserError, match="has control characters or is not UTF-8") as caught:
        load_target(path)
    assert caught.value.what.isprintable()


def test_fingerprint_follows_what_changes_speed(write, monkeypatch):
    monkeypatch.setattr(target_files, "process_cores", lambda: 8)
    prints = {
        load_target("x86").fingerprint,
        load_target("x86", threads=2).fingerprint,
        load_target("x86", batch=4).fingerprint,
        load_target(write(('mcpu = "native"', 'mcpu = "haswell"'))).fingerprint,
        load_target(write(('mcpu = "native"', 'mcpu = "haswell"\nmattr = ["-fma"]'))).fingerprint,
    }
    assert len(prints) == 5


def test_fingerprint_ignores_what_does_not(write):
    path = write(
        ("x86-64 CPU of this machine", "another text"), ("windows = 3", "windows = 5"), ("batch = 4", "batch = 2")
    )
    assert load_target(path).fingerprint == load_target("x86").fingerprint


def test_fingerprint_follows_cpu_and_compiler(monkeypatch):
    before = load_target("x86").fingerprint
    monkeypatch.setattr(targets, "cpu_name", lambda: "another CPU")
    other_cpu = load_target("x86").fingerprint
    monkeypatch.setattr(targets, "package_version", lambda name: "9.9")
    assert len({before, other_cpu, load_target("x86").fingerprint}) == 3


def test_fingerprint_is_equal_in_every_process():
    code = "from ofa_tvm.hardware.target_files import load_target; print(load_target('x86').fingerprint)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {load_target("x86").fingerprint}


@pytest.mark.parametrize(
    ("vendor", "flags", "mcpu"),
    [
        ("GenuineIntel", f"{SERVER} avx512_bf16 avx512_fp16 avx_vnni amx_tile amx_bf16 amx_int8", "sapphirerapids"),
        ("GenuineIntel", f"{SERVER} avx512_bf16 avx512_fp16 avx_vnni", "icelake-server"),
        ("GenuineIntel", f"{AVX512} avx512_vnni", "cascadelake"),
        ("GenuineIntel", AVX512, "skylake-avx512"),
        ("GenuineIntel", AVX2, "haswell"),
        ("GenuineIntel", AVX2.replace("fma ", ""), "x86-64-v2"),
        ("GenuineIntel", "sse2", "x86-64"),
        ("AuthenticAMD", f"{SERVER} avx512_bf16 avx512_vp2intersect movdiri avx_vnni", "znver5"),
        ("AuthenticAMD", f"{SERVER} avx512_bf16", "znver4"),
        ("AuthenticAMD", f"{AVX2} vaes sha_ni clwb", "znver3"),
        ("AuthenticAMD", f"{AVX2} sha_ni clwb", "znver2"),
        ("AuthenticAMD", AVX2, "haswell"),
    ],
)
def test_mcpu_is_what_the_visible_features_allow(vendor, flags, mcpu):
    processor = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Some CPU\nflags\t\t: {flags}\nbugs\t\t: none\n"
    assert mcpu_of(f"{processor}\n{processor}") == mcpu


def test_no_cpuinfo_is_the_common_denominator():
    assert mcpu_of("") == "x86-64"


def test_a_gpu_target_names_its_limits_and_its_machine():
    found = load_target("jetson-orin").attributes
    assert (found["kind"], found["arch"]) == ("cuda", "sm_87")
    assert found["max_shared_memory_per_block"] > 0
    assert found["max_threads_per_block"] > 0
    assert found["host"]["mtriple"] == "aarch64-linux-gnu"


def test_without_a_gpu_the_local_target_names_the_others(monkeypatch):
    the_gpu_here_is(None, monkeypatch)
    with pytest.raises(UserError, match=r"no NVIDIA GPU was found here.*\n.*cuda-sm90.*jetson-orin"):
        load_target("cuda")


def test_a_gpu_found_here_is_part_of_the_fingerprint(monkeypatch):
    the_gpu_here_is(machine.LocalGpu("NVIDIA Made Up", "sm_89", "580.1"), monkeypatch)
    target = load_target("cuda")
    assert target.attributes["arch"] == "sm_89"
    assert target.conditions["gpu"] == "NVIDIA Made Up"


def test_where_a_gpus_kernels_come_from_is_part_of_its_fingerprint(tmp_path):
    scheduled, templates = load_target("cuda-sm90"), load_target("cuda-sm90-templates")
    assert (scheduled.has_templates, templates.has_templates, load_target("x86").has_templates) == (False, True, True)
    assert "kernels" not in scheduled.conditions, "logs of earlier versions stay valid"
    assert templates.conditions == {**scheduled.conditions, "kernels": "templates"}
    assert templates.fingerprint != scheduled.fingerprint
    text = (shipped_folder("targets") / "x86.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("schema = 1", 'schema = 1\nkernels = "templates"'))
    with pytest.raises(UserError, match="'templates' is for GPUs"):
        load_target(str(path))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("NVIDIA H100 80GB HBM3, 9.0, 580.65.06\n", machine.LocalGpu("NVIDIA H100 80GB HBM3", "sm_90", "580.65.06")),
        ("No devices were found\n", None),
        ("", None),
    ],
)
def test_the_driver_is_asked_for_the_gpu(tmp_path, monkeypatch, said, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '%s' '{said}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    machine.local_gpu.cache_clear()
    try:
        assert machine.local_gpu() == expected
    finally:
        machine.local_gpu.cache_clear()


@pytest.mark.parametrize(
    "change",
    [("[target.gpu]", "[target.other]"), ('arch = "sm_90"', 'arch = "90"'), ('kind = "cuda"', 'kind = "llvm"')],
)
def test_a_gpu_target_that_is_incomplete_is_refused(tmp_path, change):
    text = (shipped_folder("targets") / "cuda-sm90.toml").read_text()
    path = tmp_path / "gpu.toml"
    path.write_text(text.replace(*change))
    with pytest.raises(UserError, match=r"gpu\.toml: .*target"):
        load_target(str(path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"sm_90"', '"sm_999"', "CUDA knows no arch 'sm_999'; it knows sm_121"),
        ('"sm_90"', '"sm_30"', "CUDA knows no arch 'sm_30'; it knows sm_50"),
        ("block = 1024", "block = 256", "key 'target.gpu.max_threads_per_block': kernels from templates keep to 1024"),
        ("block = 49152", "block = 101376", "key 'target.gpu.max_shared_memory_per_block': .*49152, not 101376"),
    ],
)
def test_gpus_that_are_none_and_limits_that_templates_do_not_heed_are_refused(tmp_path, old, new, said):
    text = (shipped_folder("targets") / "cuda-sm90-templates.toml").read_text()
    assert old in text
    (tmp_path / "gpu.toml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=said):
        load_target(str(tmp_path / "gpu.toml"))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("timeout_s = 20", "timeout_s = inf"), "timeout_s"),
        (('library_suffix = "', 'library_suffix = "/../'), "library_suffix"),
    ],
)
def test_values_that_no_work_could_be_done_with_are_refused(tmp_path, change, key):
    text = (shipped_folder("targets") / "x86.toml").read_text()
    assert change[0] in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(*change))
    with pytest.raises(UserError, match=rf"mine\.toml: .*{key}"):
        load_target(str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('mcpu = "cortex-a76"', 'mcpu = "cortex-a67"'), r"no mcpu 'cortex-a67' for aarch64; it knows .*cortex-a76"),
        (('mcpu = "cortex-a76"', 'mcpu = "haswell"'), "no mcpu 'haswell' for aarch64"),
        (('mattr = ["+neon"]', 'mattr = ["+nean"]'), r"no mattr '\+nean' for aarch64; it knows .*\+neon"),
        (('mattr = ["+neon"]', 'mattr = ["-dotprodd"]'), r"no mattr '-dotprodd' for aarch64; it knows .*-dotprod"),
        (('mattr = ["+neon"]', 'mattr = ["neon"]'), r"no mattr 'neon' for aarch64; it knows .*\+neon"),
        (
            ('mtriple = "aarch64-linux-gnu"\nmcpu = "cortex-a76"', 'mtriple = "x86_64-linux-gnu"\nmcpu = "i386"'),
            "'i386'",
        ),
        (
            (
                'mtriple = "aarch64-linux-gnu"\nmcpu = "cortex-a76"',
                'mtriple = "x86_64-linux-gnu"\nmcpu = "pentium-xyz"',
            ),
            "no mcpu 'pentium-xyz' for x86_64; it knows penryn, ",
        ),
        (
            ('mcpu = "cortex-a76"\nmattr = ["+neon"]', 'mcpu = "cortex-a76"\nmattr = ["+avx9000"]'),
            r"no mattr '\+avx9000' for aarch64; it knows \+",
        ),
        (('mtriple = "aarch64-', 'mtriple = "aarch46-'), "no architecture 'aarch46' of mtriple; it knows aarch64"),
        (('-linux-gnu"', '-linux-gun"'), "mtriple 'aarch64-linux-gun' is no system .* write aarch64-linux-gnu"),
        (('-linux-gnu"', '-linus-gnu"'), "mtriple 'aarch64-linus-gnu' is no system"),
        (('library_suffix = ".so"', 'library_suffix = "/../../x"'), "key 'library_suffix'"),
        (("threads = 1", "threads = true"), "key 'threads'"),
        (("threads = 1", "threads = 1" + "0" * 5000), "is not valid TOML: a number has thousands of digits"),
        (("clock_mhz = 2400", "clock_mhz = nan"), "key 'estimate.clock_mhz'"),
        (("threads = 1", "threads = " + "[" * 5000), "is not valid TOML: .* nest too deep"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_would_compile_other_code_is_refused_with_names_that_are_near(tmp_path, change, said):
    text = (shipped_folder("targets") / "arm.toml").read_text()
    assert change[0] in text
    (tmp_path / "board.toml").write_text(text.replace(change[0], change[1], 1))
    with pytest.raises(UserError, match=said):
        load_target(str(tmp_path / "board.toml"), device="estimate")


def test_marks_of_editors_make_no_difference_to_a_target(tmp_path):
    content = (shipped_folder("targets") / "arm.toml").read_bytes()
    (tmp_path / "arm.toml").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    marked, plain = load_target(str(tmp_path / "arm.toml"), device="estimate"), load_target("arm", device="estimate")
    assert marked.model_dump(exclude={"options"}) == plain.model_dump(exclude={"options"})


def test_boards_of_any_cpu_target_are_reached_without_a_section(write, monkeypatch):
    monkeypatch.setenv("OFA_TVM_TRACKER", "10.0.0.1:9190")
    path = write(('mcpu = "native"', 'mcpu = "znver3"'))
    for device, key, tracker in (
        ("rpc:127.0.0.1:9190", Path(path).stem, "127.0.0.1:9190"),
        ("rpc:127.0.0.1:9190:mine", "mine", "127.0.0.1:9190"),
        ("rpc", Path(path).stem, "10.0.0.1:9190"),
    ):
        target = load_target(path, device=device)
        assert target.rpc is not None
        assert (target.device, target.rpc.key, target.tracker) == ("rpc", key, tracker)
    for name, message in (("x86", "is this machine's own CPU"), ("cuda-sm90", "cannot use device")):
        with pytest.raises(UserError, match=message):
            load_target(name, device="rpc:127.0.0.1:9190")


def test_the_page_of_targets_shows_a_file_that_loads(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "targets.md").read_text()
    (tmp_path / "mine.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    shown = load_target(str(tmp_path / "mine.toml"), device="rpc:127.0.0.1:9190")
    estimated = load_target(str(tmp_path / "mine.toml"), device="estimate")
    assert shown.rpc is not None
    assert shown.rpc.cores == (4, 5)
    assert estimated.provenance == "estimated"
    known = {*TargetSpec.model_fields, "schema"} - {"schema_version", "name", "tracker", "recording", "options"}
    assert set(tomllib.loads((tmp_path / "mine.toml").read_text())) == known
