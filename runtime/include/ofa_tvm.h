/* Run a bundle, or a lone model.so, in a program of your own: C, or anything that calls C.

   Link with libofa_tvm_runtime.a (CMake: find_package(ofa_tvm), target ofa_tvm::ofa_tvm_runtime; pkg-config: ofa_tvm),
   or compile the files of runtime/src except main.cc and old_glibc.cc into your program. Several threads may use one
   model: their calls wait for each other. What is given as NULL where a thing is needed is refused. */
#ifndef OFA_TVM_H_
#define OFA_TVM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OFA_TVM_VERSION "0.1.0"
/* Changes whenever a program must be compiled, or changed, anew. */
#define OFA_TVM_ABI 2

/* Those of the library that a program is linked with. */
const char *ofa_tvm_version(void);
int ofa_tvm_abi(void);

typedef struct ofa_tvm_model ofa_tvm_model;

enum { OFA_TVM_VERIFY = 0, OFA_TVM_NO_VERIFY = 1 };

/* Open a bundle's folder (its manifest and the hashes of its files are checked unless `flags` is OFA_TVM_NO_VERIFY), or
   a lone library. Returns NULL where it cannot be used; ofa_tvm_last_error() says why. */
ofa_tvm_model *ofa_tvm_model_open(const char *path, int flags);

/* Close it; NULL is allowed. */
void ofa_tvm_model_close(ofa_tvm_model *model);

/* What went wrong last in this thread, and the next thing to try on a second line. */
const char *ofa_tvm_last_error(void);

/* Images per call, number of classes, height and width of an image, numbers per pixel; 0 for NULL. */
int ofa_tvm_model_batch(const ofa_tvm_model *model);
int ofa_tvm_model_classes(const ofa_tvm_model *model);
int ofa_tvm_model_resolution(const ofa_tvm_model *model);
int ofa_tvm_model_channels(const ofa_tvm_model *model);

/* Name of a class; NULL for NULL, a lone library, or a number that is none of a class. Lives as long as the model. */
const char *ofa_tvm_model_class_name(const ofa_tvm_model *model, int number);

/* From normalised images (batch, resolution, resolution, channels) to logits (batch, classes). The counts are those of
   the numbers that `images` and `logits` have room for, and must be right. Returns 0, or -1. */
int ofa_tvm_model_run(ofa_tvm_model *model, const float *images, size_t image_count, float *logits, size_t logit_count);

/* From one RGB image of up to 32768 pixels a side, 8 bits a channel and rows without gaps, to its logits (classes). The
   largest square in its centre is resized to the network's resolution and normalised as the manifest says, so it takes
   a bundle. `pixel_bytes` is 3 * width * height, `logit_count` the number of classes. Returns 0, or -1. */
int ofa_tvm_model_run_rgb(ofa_tvm_model *model, const uint8_t *pixels, size_t pixel_bytes, int width, int height,
                          float *logits, size_t logit_count);

#ifdef __cplusplus
}
#endif

#endif /* OFA_TVM_H_ */
