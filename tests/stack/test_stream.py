"""The runner on folders, lists and streams of paths: each input answered once, in order, whatever others do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress

import numpy as np
import psutil
import pytest

from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.runner_build import build_runner
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target

DEADLY = 13
NETWORK = f"""
#include <stdlib.h>
int ofa_tvm_batch(void) {{ return 1; }}
int ofa_tvm_classes(void) {{ return 2; }}
int ofa_tvm_resolution(void) {{ return 1; }}
int ofa_tvm_channels(void) {{ return 3; }}
static int calls;
int ofa_tvm_run(const float *images, float *logits) {{
  if (images[0] == {DEADLY}) abort();
  logits[0] = images[0];
  logits[1] = (float)++calls;
  return 0;
}}
"""
"""A network that answers with its image's first number, and with how often it was called in this process."""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    library = tmp_path_factory.mktemp("network") / "network.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)], input=NETWORK, text=True, check=True
    )
    return library


@pytest.fixture(scope="module")
def program():
    return build_runner("g++")


@pytest.fixture
def call(network, program):
    def run(*words, **options):
        command = list(map(str, (program, network, *words)))
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return run


def write_images(folder, numbers, images=1):
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.raw" for number in numbers]
    for path, number in zip(paths, numbers, strict=True):
        np.full((images, 3), number, np.float32).tofile(path)
    return paths


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def logit(line, number=0):
    return next(entry["logit"] for entry in line["top"] if entry["class"] == number)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_thousand_images_are_answered_in_order_by_several_processes(call, tmp_path, workers):
    numbers = [number for number in range(1001) if number != DEADLY]
    paths = write_images(tmp_path / "images", numbers)
    done = call(tmp_path / "images", "--workers", workers)
    assert (done.returncode, done.stderr) == (0, "")
    found = lines(done)
    assert [line["input"] for line in found] == list(map(str, paths))
    assert [logit(line) for line in found] == numbers
    calls = [logit(line, 1) for line in found]
    assert len(calls) - len(set(calls)) == 0 if workers == 1 else sum(call == 1 for call in calls) == workers


def test_a_folder_is_read_by_name_with_the_folders_in_it(call, tmp_path):
    wanted = [*write_images(tmp_path / "in" / "a b", [2, 1]), *write_images(tmp_path / "in", [7])]
    (tmp_path / "in" / ".hidden.raw").write_bytes(b"")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    done = call(f"{tmp_path / 'in'}//", "--top", 1)
    assert {line["input"] for line in lines(done)} == set(map(str, wanted))
    assert done.returncode == 0
    assert "2 files of other kinds are left out, the first is" in done.stderr
    (tmp_path / "in" / "again").unlink()
    assert f"{tmp_path / 'in'}: 1 file of another kind is left out, the first is" in call(tmp_path / "in").stderr


def test_a_file_with_several_images_has_a_line_for_each(call, tmp_path):
    (several,) = write_images(tmp_path, [5], images=3)
    (one,) = write_images(tmp_path, [6])
    found = lines(call("--lines", several, one))
    assert [(line["input"], line["image"]) for line in found] == [(str(several), n) for n in range(3)] + [(str(one), 0)]


@pytest.mark.parametrize("by_stdin", [True, False])
def test_a_list_is_read_line_by_line_and_what_cannot_be_read_is_told_in_its_place(call, tmp_path, by_stdin):
    first, second = write_images(tmp_path, [1, 2])
    missing, strange = tmp_path / "nothing.raw", tmp_path / "what.txt"
    text = f"{first}\r\n\n{missing}\n{strange}\n{second}"
    (tmp_path / "list").write_text(text)
    done = call("-", input=text) if by_stdin else call("--list", tmp_path / "list")
    assert done.returncode == 3
    found = lines(done)
    assert [line["input"] for line in found] == [
        str(first),
        *(f"{tmp_path}/{n}" for n in ("nothing.raw", "what.txt")),
        str(second),
    ]
    assert ["error" in line for line in found] == [False, True, True, False]
    assert "No such file" in found[1]["error"]["reason"]


def test_an_input_that_ends_its_process_costs_that_input_alone(call, tmp_path):
    numbers = [1, 2, DEADLY, *range(20, 40), DEADLY, 50]
    paths = [write_images(tmp_path, [number])[0] for number in numbers]
    done = call("--lines", "--workers", 2, *paths)
    assert done.returncode == 3
    found = lines(done)
    assert [line["input"] for line in found] == list(map(str, paths))
    for line, number in zip(found, numbers, strict=True):
        if number == DEADLY:
            assert "was ended by a signal: Aborted" in line["error"]["reason"]
        else:
            assert logit(line) == number


def test_a_stream_is_answered_while_it_is_open(network, program, tmp_path):
    paths = write_images(tmp_path, [3, 4, 5])
    command = [str(program), str(network), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for path, number in zip(paths, (3, 4, 5), strict=True):
            running.stdin.write(f"{path}\n")
            running.stdin.flush()
            assert logit(json.loads(running.stdout.readline())) == number
        running.stdin.close()
        assert running.wait() == 0


def alive(group):
    """Processes of a group that have not ended."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.parametrize("stop", ["reader", "user"])
def test_no_process_stays_when_the_reader_goes_or_the_user_interrupts(network, program, tmp_path, stop):
    paths = write_images(tmp_path, range(20, 25))
    command = [str(program), str(network), "-", "--workers", "3"]
    running = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("".join(f"{path}\n" for path in paths))
    running.stdin.flush()
    for _ in paths:
        running.stdout.readline()
    assert len(alive(running.pid)) == 4
    if stop == "user":
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.stdout.close()
        running.stdin.write(f"{paths[0]}\n")
        running.stdin.flush()
    assert running.wait() == -(signal.SIGINT if stop == "user" else signal.SIGPIPE)
    psutil.wait_procs(alive(running.pid), timeout=20)
    assert not alive(running.pid)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{empty}",), "holds no input"),
        (("--list", "/nothing/list"), "list /nothing/list cannot be read: No such file"),
        (("-", "--list", "{one}"), "there are two lists of paths"),
        (("{folder}", "--benchmark"), "are not for folders, lists and --lines"),
        (("{one}", "--lines", "--logits", "x.npy"), "are not for folders, lists and --lines"),
        (("{folder}", "--workers", "0"), "--workers takes a number from 1"),
    ],
)
def test_what_cannot_be_streamed_is_refused(call, tmp_path, words, message):
    (one,) = write_images(tmp_path / "folder", [1])
    (tmp_path / "empty").mkdir()
    places = {"folder": tmp_path / "folder", "one": one, "empty": tmp_path / "empty"}
    done = call(*(str(word).format(**places) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_networks_with_threads_compute_the_same_beside_each_other(tiny_space, program, tmp_path):
    network, target = tiny_space.network(tiny_space.largest), load_target("x86")
    size, library = network.resolution, tmp_path / "subnet.so"
    cache = ObjectCache({"kind": "llvm", "mcpu": target.target.mcpu, "num-cores": 2})
    assemble(network, random_weights(network), {}, cache, library, 1, target.toolchain.linker)
    images = np.random.default_rng(0).standard_normal((40, size, size, 3), np.float32)
    (tmp_path / "in").mkdir()
    for number, image in enumerate(images):
        image.tofile(tmp_path / "in" / f"{number:02}.raw")
    np.save(tmp_path / "images.npy", images)

    def answers(*words):
        done = subprocess.run(list(map(str, (program, library, *words))), capture_output=True, text=True, check=True)
        return done.stdout

    together = [json.loads(line)["top"] for line in answers(tmp_path / "in", "--workers", 2).splitlines()]
    alone = [result["top"] for result in json.loads(answers(tmp_path / "images.npy", "--json"))["results"]]
    assert together == alone
