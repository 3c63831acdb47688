"""What the place of the stack within a page costs: every subnet called with its caller's stack at 64 places.

``python benchmarks/stack_places.py [--space NAME] [--subnets N]``: with kernels called where the caller's stack happens
to be, as systems that begin it at a random place have it, and as libraries are made (``native/stack_place.h``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from store import keep

from ofa_tvm.compiler.cpu import assembler
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import get_space
from ofa_tvm.tuner.log import TuningLog

PROGRAM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
typedef int (*window_t)(const float *, float *, double, double *);
static window_t window;
static float *image, logits[1000];

static __attribute__((noinline)) double p50_ms(size_t place, double span_ms) {
  double figures[10];
  char *room = __builtin_alloca((uintptr_t)__builtin_frame_address(0) % 4096 + place);
  __asm__ volatile("" : : "r"(room) : "memory");
  if (window(image, logits, span_ms, figures)) exit(1);
  return figures[0];
}

int main(int count, char **words) {
  void *library = dlopen(words[1], RTLD_NOW);
  if (count != 2 || !library) return 1;
  const int size = ((int (*)(void))dlsym(library, "ofa_tvm_resolution"))();
  window = (window_t)dlsym(library, "ofa_tvm_window");
  image = aligned_alloc(4096, ((size_t)size * size * 12 + 4095) / 4096 * 4096);
  for (int i = 0; i < size * size * 3; ++i) image[i] = (float)(rand() % 1000) / 250 - 2;
  const double span_ms = 40 * p50_ms(0, 5) + 1;
  double best[64];
  for (int round = 0; round < 5; ++round)
    for (int i = 0; i < 64; ++i) {
      const double ms = p50_ms(64 * i, span_ms);
      if (!round || ms < best[i]) best[i] = ms;
    }
  for (int i = 0; i < 64; ++i) printf("%s%.6f", i ? "," : "[", best[i]);
  puts("]");
  return 0;
}
"""


def by_place(program: Path, library: Path) -> list[float]:
    """Milliseconds of a call at each place."""
    done = subprocess.run([program, library], stdout=subprocess.PIPE, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def libraries(space_name: str, count: int, resolution: int | None, folder: Path, places_stack: bool) -> list[Path]:
    """The smallest subnet and random ones, compiled."""
    space, spec = get_space(space_name), load_target("x86", threads=1)
    drawn = space.with_resolutions([resolution] if resolution else None)
    configs = [drawn.smallest, *drawn.sample_configs(np.random.default_rng(0), count - 1)]
    source, winners = assembler._source, TuningLog(spec).winners
    if not places_stack:
        assembler._source = lambda *given: source(*given).replace("PLACE_STACK();", "")
    try:
        made = []
        for number, config in enumerate(configs):
            library = folder / f"{number}-{places_stack}.so"
            network = space.network(config)
            weights, linker = random_weights(network), spec.toolchain.linker
            assembler.assemble(network, weights, winners, ObjectCache(spec.attributes), library, 1, linker)
            made.append(library)
        return made
    finally:
        assembler._source = source


def main() -> None:
    """Compile, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mbv3-cifar")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--subnets", type=int, default=10)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        program = Path(name) / "places"
        command = ["gcc", "-O2", "-x", "c", "-", "-o", str(program), "-ldl"]
        subprocess.run(command, input=PROGRAM, text=True, check=True)
        for label, places_stack in (("where the caller's is", False), ("as libraries are made", True)):
            made = libraries(options.space, options.subnets, options.resolution, Path(name), places_stack)
            times = [by_place(program, library) for library in made]
            worst = [max(one) / statistics.median(one) - 1 for one in times]
            slow = [sum(ms > 1.02 * statistics.median(one) for ms in one) for one in times]
            result[label] = {"times_ms": times, "worst": worst, "slow_places": slow}
            print(
                f"kernels called {label}: slowest place {statistics.median(worst):+.1%} in the median subnet, "
                f"{max(worst):+.1%} at most; {statistics.fmean(slow) / 64:.1%} of the places are over 2 % slower"
            )
    keep(f"stack-places-{options.space}", result)


if __name__ == "__main__":
    main()
