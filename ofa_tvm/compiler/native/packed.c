/* TVM's calling convention, as far as libraries for boards use it. */
#include <string.h>
#include <tvm/ffi/c_api.h>

static const DLTensor *tensor_of(const TVMFFIAny *value) {
  if (value->type_index == kTVMFFIDLTensorPtr) return value->v_ptr;
  if (value->type_index == kTVMFFITensor) return (const DLTensor *)((char *)value->v_obj + sizeof(TVMFFIObject));
  return 0;
}

/* Return a number. */
static int finish(int64_t number, TVMFFIAny *result) {
  memset(result, 0, sizeof *result);
  result->type_index = kTVMFFIInt;
  result->v_int64 = number;
  return 0;
}
