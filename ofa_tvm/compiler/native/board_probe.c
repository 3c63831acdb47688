/* What a board's RPC server lacks: reading a system file, and choosing cores. What comes before this: packed.c. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

/* read(path, text): two tensors of bytes, the path with a closing zero. Returns the bytes read, or minus an error
 * number. */
__attribute__((visibility("default"))) int __tvm_ffi_read(void *self, const TVMFFIAny *args, int32_t count,
                                                          TVMFFIAny *result) {
  const DLTensor *path = count == 2 ? tensor_of(&args[0]) : 0, *text = count == 2 ? tensor_of(&args[1]) : 0;
  if (!path || !text) return finish(-EINVAL, result);
  int file = open(path->data, O_RDONLY);
  if (file < 0) return finish(-errno, result);
  int64_t total = 0, got = 1;
  while (got > 0 && total < text->shape[0]) {
    got = read(file, (char *)text->data + total, text->shape[0] - total);
    if (got > 0) total += got;
  }
  int error = errno;
  close(file);
  return finish(got < 0 ? -error : total, result);
}

/* set_cores(mask): this process and what it starts stay on these cores. Returns 0, or an error number. */
__attribute__((visibility("default"))) int __tvm_ffi_set_cores(void *self, const TVMFFIAny *args, int32_t count,
                                                               TVMFFIAny *result) {
  if (count != 1) return finish(EINVAL, result);
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  for (int core = 0; core < 63; ++core)
    if (args[0].v_int64 >> core & 1) CPU_SET(core, &chosen);
  return finish(sched_setaffinity(0, sizeof chosen, &chosen) ? errno : 0, result);
}
