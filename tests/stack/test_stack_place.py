"""Where kernels find the stack, whatever lies on it already."""

import subprocess
from importlib.resources import files

import pytest

PROGRAM = """
static __attribute__((noinline)) uintptr_t kernel(void) {
  volatile char kept = 0;
  return (uintptr_t)&kept % PAGE + kept;
}
static __attribute__((noinline)) uintptr_t called(void) {
  PLACE_STACK();
  const volatile uintptr_t place = kernel();
  return place;
}
int main(void) {
  const uintptr_t place = called();
  for (int i = 0; i < 300; ++i) {
    volatile char *room = __builtin_alloca(112);
    room[0] = 0;
    if (called() != place) return 1;
  }
  return place % PAGE > STACK_PLACE || place % PAGE < STACK_PLACE - 256;
}
"""


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
def test_it_is_the_same_place_of_a_page_in_every_call(tmp_path, level):
    header = (files("ofa_tvm.compiler.native") / "stack_place.h").read_text()
    source = f"#include <stdint.h>\n{header}{PROGRAM}"
    command = ["gcc", level, "-x", "c", "-", "-o", str(tmp_path / "program")]
    subprocess.run(command, input=source, text=True, check=True)
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
