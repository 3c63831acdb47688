"""A library in the place of NVIDIA's driver library: it tells counters that lie in files."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = """
#include <stdio.h>
#include <string.h>

static char asked[256];

int nvmlInit_v2(void) { return 0; }

int nvmlDeviceGetHandleByUUID(const char *name, void **handle) {
  snprintf(asked, sizeof asked, "FOLDER/%s", name);
  *handle = asked;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int number, void **handle) {
  char name[32];
  snprintf(name, sizeof name, "%u", number);
  return nvmlDeviceGetHandleByUUID(name, handle);
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *count) {
  FILE *file = strcmp(handle, "FOLDER/") ? fopen(handle, "r") : NULL;
  if (!file) return 6;
  int read = fscanf(file, "%llu", count);
  fclose(file);
  return read == 1 ? 0 : 999;
}
"""


class FakeNvml:
    """The library and its counters, in millijoules, by a GPU's number or name.

    Args:
        folder: for its files.
        counts: what the counters say first.
    """

    def __init__(self, folder: Path, counts: Mapping[str, int]) -> None:
        self._folder = folder
        self.library = folder / "libnvidia-ml.so.1"
        source = folder / "nvml.c"
        source.write_text(SOURCE.replace("FOLDER", str(folder)))
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.library, source], check=True)
        for gpu, count in counts.items():
            self.set(gpu, count)

    def set(self, gpu: str, count: int) -> None:
        """Let a counter say something else."""
        (self._folder / gpu).write_text(str(count))

    def remove(self, gpu: str) -> None:
        """Take a GPU away."""
        (self._folder / gpu).unlink()
