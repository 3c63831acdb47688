"""The C++ runner on a real bundle: the same answers as Python's, and a clear word where there can be none."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from runner_headers import decodes_pictures, needs_stb

import ofa_tvm.deploy as deploy_command
from ofa_tvm import data
from ofa_tvm.api.bundles import load_bundle
from ofa_tvm.bundle.folder import LIBRARY, MANIFEST, ONNX, RUNNER, load_manifest
from ofa_tvm.compiler import runner_build as runner
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.compiler.runner_build import build_runner, oldest_glibc
from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SPACES
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.support.errors import OfaTvmError, UserError
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.timing.window import Timing, Window

SIZE = 12
SUBNET = f"r{SIZE}.5x4.3x2-7x4"
FACTS = {"batch": 1, "classes": 4, "resolution": SIZE, "channels": 3}
ILLEGAL = (
    "".join(f"int ofa_tvm_{name}(void) {{ return {value}; }}\n" for name, value in FACTS.items())
    + "int ofa_tvm_run(const float *images, float *logits) { __builtin_trap(); }\n"
)
QUICK = ("--benchmark", "--windows", 1, "--window-ms", 1)
MAKE_PARTS = ("resize", "npy", "ppm", "json", "file", "sha256", "stb_image", "picture", "jpeg", "png", "webp")


@pytest.fixture(scope="module")
def made(tiny_space, tiny_dataset, tmp_path_factory):
    """A bundle of the tiny space."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("runner")
    facts = SupernetFacts(tiny_space.name, tiny_dataset.name, tiny_dataset.class_names, tiny_dataset.preprocess)
    save_supernet(folder / "supernet.safetensors", Supernet(tiny_space), facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPACES, tiny_space.name, tiny_space)
        patch.setitem(data.SOURCES, tiny_dataset.name, lambda path, progress: tiny_dataset)
        options = ["--subnet", SUBNET, "--out", str(folder / "bundle"), "--logs", str(folder / "logs")]
        assert deploy_command.main([*options, "--supernet", str(folder)]) == 0
    return folder / "bundle"


@pytest.fixture
def bundle(made, tmp_path):
    """A bundle that a test may spoil."""
    return shutil.copytree(made, tmp_path / "bundle")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The program of tests/native/runtime_parts.cc."""
    program = tmp_path_factory.mktemp("parts") / "parts"
    sources = shipped_folder("runtime") / "src"
    check = Path(__file__).parents[1] / "native" / "runtime_parts.cc"
    parts = [str(sources / f"{name}.cc") for name in MAKE_PARTS]
    command = ["g++", "-std=c++17", "-O1", f"-I{sources}", str(check), *parts, "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def call(program, *arguments, **options):
    return subprocess.run(list(map(str, (program, *arguments))), capture_output=True, text=True, check=False, **options)


def answered(program, *arguments):
    done = call(program, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(message, program, *arguments, code=2):
    done = call(program, *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert not done.stdout


def change(bundle, **changes):
    record = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**record, **changes}))


def normalised(bundle, images):
    """What the network takes of uint8 images."""
    facts = load_manifest(bundle).preprocess
    values = preprocess(to_tensor(images), Preprocess(facts.mean, facts.std), SIZE)
    return np.ascontiguousarray(values.permute(0, 2, 3, 1).numpy())


def python_logits(bundle, inputs):
    model = LoadedModel(bundle / LIBRARY)
    return np.concatenate([model(image[None]) for image in inputs])


@pytest.mark.parametrize("picture", [pytest.param("one.png", marks=needs_stb), "one.ppm"])
def test_answers_are_pythons(bundle, tiny_dataset, tmp_path, picture):
    images = tiny_dataset.test.images[:7]
    inputs = normalised(bundle, images)
    expected = python_logits(bundle, inputs)
    files = [tmp_path / name for name in ("pixels.npy", "floats.npy", "floats.raw", picture)]
    np.save(files[0], images)
    np.save(files[1], inputs)
    inputs.tofile(files[2])
    Image.fromarray(images[0]).save(files[3])
    logits = tmp_path / "logits.npy"
    found = answered(bundle / RUNNER, *files, "--top", 2, "--logits", logits)
    every = np.concatenate([expected, expected, expected, expected[:1]])
    np.testing.assert_allclose(np.load(logits), every, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.load(logits)[7:14], expected)
    np.testing.assert_array_equal(np.load(logits)[-1], np.load(logits)[0])
    assert (found["schema_version"], found["subnet"], len(found["results"])) == (1, SUBNET, 22)
    names = load_manifest(bundle).class_names
    for number, (result, scores) in enumerate(zip(found["results"], every, strict=True)):
        likeliest = np.argsort(-scores, kind="stable")[:2]
        assert [answer["class"] for answer in result["top"]] == likeliest.tolist()
        assert [answer["name"] for answer in result["top"]] == [names[i] for i in likeliest]
        shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        assert result["top"][0]["probability"] == pytest.approx(shares.max(), rel=1e-3)
        assert (result["input"], result["image"]) == (str(files[number // 7]), number % 7)


@decodes_pictures
def test_python_sees_pictures_as_the_program_does(bundle, tmp_path):
    pixels = np.random.default_rng(4).integers(0, 256, (60, 47, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture := tmp_path / "tall.png")
    (result,) = answered(bundle / RUNNER, picture, "--top", 3)["results"]
    guesses = load_bundle(bundle).classify(picture, top=3)
    assert [guess.name for guess in guesses] == [answer["name"] for answer in result["top"]]
    assert [guess.share for guess in guesses] == pytest.approx([one["probability"] for one in result["top"]], rel=1e-3)
    with pytest.raises(UserError, match="no picture that can be read"):
        load_bundle(bundle).classify(bundle / MANIFEST)
    with pytest.raises(UserError, match="pixels are uint8"):
        load_bundle(bundle).classify(np.full((9, 9, 3), np.nan))
    with pytest.raises(UserError, match="not finite"):
        load_bundle(bundle).logits(np.full((1, SIZE, SIZE, 3), np.inf, np.float32))
    (bundle / LIBRARY).write_bytes(b"damaged")
    with pytest.raises(UserError, match="is damaged"):
        load_bundle(bundle)


@decodes_pictures
def test_text_for_people_and_the_bundle_named_first(bundle, tiny_dataset, tmp_path):
    image = tmp_path / "one.jpg"
    Image.fromarray(tiny_dataset.test.images[0]).save(image, quality=95)
    done = call(bundle / RUNNER, bundle, image, "--top", 1, *QUICK)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(image)
    assert lines[1].split()[-1] in load_manifest(bundle).class_names
    told = [line.split()[0] for line in lines[2:]]
    assert [word for word in told if word != "with"] == ["one", "of", "calibration", "load", "memory", "size"]


def test_starts_by_its_name_in_its_folder_and_without_any_environment(bundle, tiny_dataset):
    np.save(bundle / "pixels.npy", tiny_dataset.test.images[0])
    done = call(f"./{RUNNER}", "pixels.npy", cwd=bundle, env={})
    assert done.returncode == 0, done.stderr


def test_batches_are_filled_up_and_threads_work(tiny_space, tmp_path):
    network = tiny_space.network(tiny_space.parse(SUBNET))
    library, given = tmp_path / "subnet.so", tmp_path / "images.npy"
    target = load_target("x86")
    cache = ObjectCache({"kind": "llvm", "mcpu": target.target.mcpu, "num-cores": 2})
    assemble(network, random_weights(network), {}, cache, library, 4, target.toolchain.linker)
    images = np.random.default_rng(0).standard_normal((6, SIZE, SIZE, 3), np.float32)
    np.save(given, images)
    logits = tmp_path / "logits.npy"
    found = answered(build_runner("g++"), library, given, "--logits", logits)
    model = LoadedModel(library)
    expected = np.concatenate([model(images[:4]), model(np.concatenate([images[4:], images[:2]]))[:2]])
    np.testing.assert_array_equal(np.load(logits), expected)
    assert found["subnet"] is None
    assert found["results"][0]["top"][0]["name"] is None

    program = build_runner("g++")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "one.png")
    refused("does not say how pixels", program, library, tmp_path / "one.png")
    version = oldest_glibc(library, program)
    assert version is not None
    assert tuple(map(int, version.split("."))) <= (2, 31)


def test_benchmark(bundle):
    times = answered(bundle / RUNNER, "--benchmark", "--windows", 4, "--window-ms", 5, "--gap-ms", 20)["benchmark"]
    windows = [Window.model_validate(one) for one in times["windows"]]
    assert len(windows) == 4
    timing = Timing(windows=tuple(windows), host="", measured_at="", usual_calibration_ms=0)
    for percentile in (50, 90, 99):
        assert times[f"p{percentile}_ms"] == pytest.approx(timing.told_ms(percentile))
    assert times["calibration_ms"] == pytest.approx(timing.calibration_ms)
    assert (times["fastest_ms"], times["slowest_ms"]) == timing.spread_ms()
    assert times["calls"] == sum(one.calls for one in windows)
    assert times["left_out"] == sum(one.left_out for one in windows)
    assert (times["batch"], times["threads"]) == (1, 1)
    assert times["load_ms"] > 0
    assert times["first_ms"] > 0
    assert times["peak_memory_bytes"] > 1 << 20
    assert times["library_bytes"] == (bundle / LIBRARY).stat().st_size
    assert times["runner_bytes"] == (bundle / RUNNER).stat().st_size


@pytest.mark.parametrize(("share", "said"), [(0.5, "slower or busier now"), (2, "faster now"), (1, None)])
def test_a_calibration_kernel_that_has_moved_is_told(bundle, share, said):
    now_ms = answered(bundle / RUNNER, *QUICK)["benchmark"]["calibration_ms"]
    manifest = load_manifest(bundle).model_dump(mode="json")
    for window in manifest["latency"]["timing"]["windows"]:
        window["calibration_ms"] = share * now_ms
    change(bundle, latency=manifest["latency"])
    done = call(bundle / RUNNER, *QUICK)
    assert done.returncode == 0, done.stderr
    if said:
        assert said in done.stdout
    else:
        assert "it took when the bundle was made" in done.stdout


def test_a_bundle_that_nobody_measured_is_timed_alone(bundle):
    latency = load_manifest(bundle).model_dump(mode="json")["latency"]
    change(bundle, latency={**latency, "timing": None})
    done = call(bundle / RUNNER, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "calibration" not in done.stdout
    change(bundle, latency={**latency, "timing": {"windows": [{}]}})
    refused("calibration_ms", bundle / RUNNER, *QUICK)


NOW_AND_THEN = (
    "#include <errno.h>\n#include <sched.h>\n#include <time.h>\n#define TASKS 1\n#define EXPORT\n"
    + "".join(f"int ofa_tvm_{name}(void) {{ return {value}; }}\n" for name, value in FACTS.items())
    + """
static double wall_ms, on_cpu_ms;
static int told_time(clockid_t clock, struct timespec *now) {
  double ms = clock == CLOCK_MONOTONIC ? (wall_ms += 0.001) : (on_cpu_ms += 0.001);
  now->tv_sec = (time_t)(ms / 1e3);
  now->tv_nsec = (long)(1e6 * (ms - 1e3 * now->tv_sec));
  return 0;
}
#define clock_gettime told_time
int ofa_tvm_run(const float *images, float *logits) {
  static int calls;
  wall_ms += 0.05;
  on_cpu_ms += 0.05;
  if (++calls % 20 == 0) OTHER;
  for (int i = 0; i < 4; ++i) logits[i] = images[i];
  return 0;
}
"""
    + (files("ofa_tvm.compiler.native") / "window.c").read_text()
)
WORKS, SLEEPS = "wall_ms += 3, on_cpu_ms += 3", "wall_ms += 3"


def now_and_then(folder, other):
    """Timing of a network of which one call of twenty takes 3 ms more, by clocks of its own: a test that may be
    interrupted cannot know a call that worked."""
    source = f"#define _GNU_SOURCE\n#define OTHER {other}\n{NOW_AND_THEN}"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / "odd.so")]
    subprocess.run(command, input=source, text=True, check=True)
    return answered(build_runner("g++"), folder / "odd.so", "--benchmark", "--windows", 2, "--window-ms", 25)[
        "benchmark"
    ]


def test_calls_that_work_longer_count(tmp_path):
    assert now_and_then(tmp_path, WORKS)["p99_ms"] >= 3


def test_calls_during_which_the_thread_did_not_work_are_left_out_with_the_next_ones(tmp_path):
    times = now_and_then(tmp_path, SLEEPS)
    assert times["p50_ms"] < 3
    for window in times["windows"]:
        assert window["any_p99_ms"] >= 3
        assert window["left_out"] >= 3 * (window["calls"] // 20)
        assert window["on_cpu"] < 0.9


def test_manifest_vouches_for_the_runner(bundle):
    manifest = load_manifest(bundle)
    assert os.access(bundle / RUNNER, os.X_OK)
    assert manifest.files[RUNNER].bytes == (bundle / RUNNER).stat().st_size
    assert manifest.glibc == oldest_glibc(bundle / LIBRARY, bundle / RUNNER)


def test_nothing_but_glibc_is_needed(bundle):
    for name in (RUNNER, LIBRARY):
        done = call("readelf", "--dynamic", bundle / name)
        needed = {line.partition("[")[2].partition("]")[0] for line in done.stdout.splitlines() if "(NEEDED)" in line}
        assert needed <= {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"}


def test_bundles_that_are_not_whole_are_refused(bundle, tmp_path):
    program = build_runner("g++")
    library = (bundle / LIBRARY).read_bytes()

    (bundle / LIBRARY).write_bytes(library[:-1] + bytes([library[-1] ^ 1]))
    refused("model.so is damaged", program, bundle, "--benchmark")
    done = call(program, bundle, *QUICK, "--no-verify")
    assert done.returncode == 0, done.stderr
    (bundle / LIBRARY).unlink()
    refused("model.so is missing", program, bundle, "--benchmark")
    (bundle / LIBRARY).write_bytes(library)

    (bundle / ONNX).unlink()
    assert call(program, bundle, *QUICK).returncode == 0
    (bundle / ONNX).write_bytes(b"other")
    refused("model.onnx is damaged", program, bundle, "--benchmark")
    (bundle / ONNX).unlink()

    files = load_manifest(bundle).model_dump(mode="json")["files"]
    change(bundle, files={**files, "../out": files[LIBRARY]})
    refused("no file name", program, bundle, "--benchmark")
    change(bundle, files={})
    refused("does not vouch for model.so", program, bundle, "--benchmark")
    names = load_manifest(bundle).class_names
    change(bundle, files=files, classes=5, class_names=[*names, "more"])
    refused("not the network that the manifest describes", program, bundle, "--benchmark")
    change(bundle, class_names=3)
    refused("is damaged", program, bundle, "--benchmark")
    change(bundle, schema_version=2)
    refused("has schema version 2, this program reads 1", program, bundle, "--benchmark")
    change(bundle, format="other")
    refused("is not the manifest of a bundle", program, bundle, "--benchmark")
    (bundle / MANIFEST).write_text("{")
    refused("not JSON", program, bundle, "--benchmark")


@decodes_pictures
def test_wrong_input_is_refused(bundle, tmp_path):
    def file(name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        return path

    program = bundle / RUNNER
    refused("nothing to do", program)
    refused("unknown option --fast", program, "--fast")
    file("--help.png", b"")
    assert "the file of that name is ./--help.png" in call(program, "--help.png", cwd=tmp_path).stderr
    refused("--top takes a number", program, "--top", "none", "x.png")
    refused("--logits needs a value", program, "x.png", "--logits")
    refused("cannot be read: No such file", program, "nothing.png")
    refused("cannot be decoded", program, file("broken.png", b"\x89PNG\r\n\x1a\n"))
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "black.jpg")
    picture = bytearray((tmp_path / "black.jpg").read_bytes())
    counts = picture.index(b"\xff\xc4") + 5
    picture[counts : counts + 16] = b"\xff" * 16
    refused("a bad code table", program, file("codes.jpg", bytes(picture)))
    refused("not a whole .npy file", program, file("broken.npy", b"\x93NUMPY\1\0"))
    refused("neither float32 nor uint8", program, file("double.npy", np.zeros((1, SIZE, SIZE, 3))))
    refused("has shape (2, 2, 3)", program, file("small.npy", np.zeros((2, 2, 3), np.float32)))
    refused("uint8 images are", program, file("flat.npy", np.zeros((2, 2), np.uint8)))
    refused("Fortran order", program, file("order.npy", np.asfortranarray(np.zeros((SIZE, SIZE, 3), np.float32))))
    refused("has 5 bytes", program, file("short.raw", b"12345"))
    refused(
        "cannot be written", program, file("ok.npy", np.zeros((SIZE, SIZE, 3), np.float32)), "--logits", "/", code=1
    )
    refused("there is no bundle beside this program", build_runner("g++"), "nothing.png")
    refused("is not a bundle", build_runner("g++"), tmp_path, "--benchmark")
    refused("is not a library", build_runner("g++"), file("other.so", b"text"), "--benchmark")
    assert "usage: run" in call(program, "--help").stdout


def test_libraries_that_cannot_run_here_are_refused(bundle, tmp_path):
    program = build_runner("g++")

    def library(name, source):
        subprocess.run(["gcc", "-shared", "-x", "c", "-", "-o", tmp_path / name], input=source, text=True, check=True)
        return tmp_path / name

    refused("no function ofa_tvm_run", program, library("empty.so", "int nothing;"), "--benchmark")

    illegal = library("illegal.so", ILLEGAL)
    refused("lacks an instruction", program, illegal, "--benchmark", code=1)
    shutil.copy(illegal, bundle / LIBRARY)
    refused("that the bundle for", program, bundle, "--benchmark", "--no-verify", code=1)

    foreign = bytearray(illegal.read_bytes())
    foreign[18:20] = (183).to_bytes(2, "little")
    (tmp_path / "foreign.so").write_bytes(foreign)
    refused("is for aarch64, this is x86-64", program, tmp_path / "foreign.so", "--benchmark", code=1)


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="no other CPU to run on: apt install qemu-user")
@pytest.mark.parametrize(
    ("mcpu", "cpu", "missing"),
    [("znver4", "max,-avx512f", "AVX-512"), ("haswell", "Nehalem", "AVX2"), ("x86-64-v2", "Nehalem", None)],
)
def test_a_cpu_that_lacks_what_the_target_needs_is_named(bundle, mcpu, cpu, missing):
    target = load_manifest(bundle).model_dump(mode="json")["target"]
    change(bundle, target={**target, "attributes": {"mcpu": mcpu}})
    arguments = ["-cpu", cpu, bundle / RUNNER, *QUICK, "--no-verify"]
    done = call("qemu-x86_64", *arguments)
    if missing:
        assert f"this CPU lacks {missing}, which the bundle for {mcpu} uses" in done.stderr
    else:  # nothing to ask beforehand, so it shows at the first unknown instruction, if there is one
        assert done.returncode == 0 or f"an instruction that the bundle for {mcpu} uses" in done.stderr


@pytest.mark.parametrize("count", [0, 1, 55, 56, 63, 64, 65, 119, 128, 100_000])
def test_sha256_is_hashlibs(parts, tmp_path, count):
    content = np.random.default_rng(count).bytes(count)
    (tmp_path / "file").write_bytes(content)
    assert call(parts, "sha256", tmp_path / "file").stdout.strip() == hashlib.sha256(content).hexdigest()


def resized(parts, tmp_path, what, given, size):
    done = call(parts, what, given, size, tmp_path / "out.npy")
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "out.npy").reshape(size, size, 3)


@pytest.mark.parametrize(("side", "size"), [(32, 24), (32, 32), (32, 33), (24, 48), (7, 100), (301, 12), (224, 160)])
def test_resizing_is_torchs(parts, tmp_path, side, size):
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    expected = F.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), size=(size, size), mode="bilinear", antialias=True
    )
    found = resized(parts, tmp_path, "resize", tmp_path / "image.npy", size)
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() < 1e-3


def test_what_is_missing_to_build_it_is_said(tmp_path, monkeypatch):
    with pytest.raises(OfaTvmError, match=r"no-such-g\+\+ is not installed\n.*apt install no-such-g\+\+"):
        build_runner("no-such-g++")
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho 'it is broken' >&2; exit 1\n")
    compiler.chmod(0o755)
    said: list[str] = []
    monkeypatch.setattr(runner, "warn", said.append)
    monkeypatch.setattr(runner, "log", said.append)
    with pytest.raises(OfaTvmError, match=r"cannot build it: it is broken"):
        build_runner(str(compiler))
    assert re.search(r"no \.png and \.jpg: .* does not find stb/stb_image.h; .*--install-headers", said.pop(0))
    assert "building the runner" in said.pop()
    runner.add_runner(tmp_path / RUNNER, "no-such-g++")
    assert not (tmp_path / RUNNER).exists()
    assert "gets no runner: no-such-g++ is not installed" in said[0]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed: apt install cmake")
def test_example_in_c_built_by_cmake(bundle, tiny_dataset, tmp_path):
    build, image = tmp_path / "build", tiny_dataset.test.images[0]
    quickly = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0")
    configured = call("cmake", "-S", shipped_folder("runtime").parent, "-B", build, *quickly)
    assert configured.returncode == 0, configured.stderr
    built = call("cmake", "--build", build, "--parallel", "2")
    assert built.returncode == 0, built.stdout + built.stderr
    (tmp_path / "pixels.rgb").write_bytes(image.tobytes())
    done = call(build / "embed", bundle, tmp_path / "pixels.rgb", 16, 16)
    assert done.returncode == 0, done.stderr
    logits = python_logits(bundle, normalised(bundle, image[None]))[0]
    name, score = done.stdout.split()
    assert name == load_manifest(bundle).class_names[int(logits.argmax())]
    assert float(score) == pytest.approx(float(logits.max()), rel=1e-3, abs=1e-3)
    assert answered(build / "run", bundle, *QUICK)["benchmark"]["windows"]
    lost = call(build / "embed", tmp_path, tmp_path / "pixels.rgb", 16, 16)
    assert lost.returncode == 1
    assert "is not a bundle" in lost.stderr
    installed = tmp_path / "installed"
    assert call("cmake", "--install", build, "--prefix", installed).returncode == 0
    programs = [found_by_cmake(installed, tmp_path / "user")]
    programs += [found_by_pkg_config(installed, tmp_path)] if shutil.which("pkg-config") else []
    for program in programs:
        used = call(program, bundle)
        assert used.returncode == 0, used.stderr


C_API = Path(__file__).parents[1] / "native" / "c_api.c"


def found_by_cmake(installed, folder):
    """A program of a project that asks CMake for the installed package."""
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user LANGUAGES C)\nfind_package(ofa_tvm 0.1 REQUIRED)\n"
        f"add_executable(user {C_API})\ntarget_link_libraries(user PRIVATE ofa_tvm::ofa_tvm_runtime)\n"
    )
    configured = call("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={installed}")
    assert configured.returncode == 0, configured.stderr
    built = call("cmake", "--build", folder / "build")
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build" / "user"


def found_by_pkg_config(installed, folder):
    """The same, with what pkg-config says of it."""
    (said,) = installed.rglob("ofa_tvm.pc")
    asked = ["pkg-config", "--cflags", "--libs", "ofa_tvm"]
    env = {**os.environ, "PKG_CONFIG_PATH": str(said.parent)}
    words = subprocess.run(asked, env=env, capture_output=True, text=True, check=True).stdout.split()
    built = call("gcc", C_API, *words, "-o", folder / "linked")
    assert built.returncode == 0, built.stderr
    return folder / "linked"


def in_json(parts, path, text):
    """What the runner's JSON makes of a text; None where it refuses it."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = call(parts, "json", path)
    assert done.returncode in (0, 2), done.stderr
    return done.stdout if done.returncode == 0 else None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, ascii_only=st.booleans())
def test_json_is_read_and_written_as_python_does(parts, tmp_path, value, ascii_only):
    written = in_json(parts, tmp_path / "value.json", json.dumps(value, ensure_ascii=ascii_only))
    assert json.loads(written) == value


BAD_JSON = (
    *(
        "",
        " ",
        "{",
        "[1,]",
        "[1 2]",
        '{"a":1,}',
        '{"a" 1}',
        "{1:2}",
        "nul",
        "truefalse",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
    ),
    *(
        "1e999",
        "0x10",
        "NaN",
        "Infinity",
        '"',
        '"\\x"',
        '"\\u12g4"',
        '"\\ud800"',
        '"\\ud800\\u0041"',
        '"\\udc00"',
        "[] []",
    ),
    *(
        '{"a":1,"a":2}',
        '"\n"',
        "[" * 100,
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xe2\x82"',
        b"\x00",
    ),
)


@pytest.mark.parametrize("text", BAD_JSON)
def test_what_is_no_json_is_refused(parts, tmp_path, text):
    assert in_json(parts, tmp_path / "value.json", text) is None


def test_a_byte_order_mark_makes_no_difference(parts, tmp_path):
    assert json.loads(in_json(parts, tmp_path / "value.json", b"\xef\xbb\xbf[1.5]")) == [1.5]


def test_portable_pixmaps(parts, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8)
    path = tmp_path / "image.ppm"
    path.write_bytes(b"P6\n# a comment\n9 9\n255\n" + image.tobytes())
    np.testing.assert_allclose(resized(parts, tmp_path, "ppm", path, 9), image)
    whole = path.read_bytes()
    for content in (
        b"",
        b"P6",
        b"P3 1 1 255 1 2 3",
        whole[:-1],
        b"P6 9 9 65535\n",
        b"P6 9 9 255",
        b"P612 9\n255\n" + bytes(999),
        b"P6 9 9 255#c\n" + bytes(999),
    ):
        path.write_bytes(content)
        done = call(parts, "ppm", path, 9, tmp_path / "out.npy")
        assert done.returncode == 2
        assert "is not a whole binary .ppm file" in done.stderr


def test_without_stb_image_it_reads_what_it_can_and_says_what_it_cannot(bundle, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "finds_header", lambda compiler: False)
    monkeypatch.setattr(runner, "COMPILE", (*runner.COMPILE, "-O0"))
    program = build_runner("g++")
    Image.fromarray(tiny_dataset.test.images[0]).save(tmp_path / "one.ppm")
    Image.fromarray(tiny_dataset.test.images[0]).save(tmp_path / "one.png")
    assert len(answered(program, bundle, tmp_path / "one.ppm")["results"]) == 1
    refused("built without stb_image.h\n  give .ppm, .npy or .raw", program, bundle, tmp_path / "one.png")
