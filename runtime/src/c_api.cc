// The functions of ofa_tvm.h: no exception leaves them.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <vector>

#include "error.h"
#include "image.h"
#include "model.h"
#include "ofa_tvm.h"

struct ofa_tvm_model {
  ofa_tvm::Model model;
};

namespace {

thread_local char last_error[2048];

// Do it; returns whether it went well.
template <typename Work>
bool guarded(Work work) {
  try {
    work();
    return true;
  } catch (const ofa_tvm::Error &error) {
    const char *between = error.hint.empty() ? "" : "\n  ";
    std::snprintf(last_error, sizeof last_error, "%s%s%s", error.what(), between, error.hint.c_str());
  } catch (const std::exception &error) {
    std::snprintf(last_error, sizeof last_error, "%s", error.what());
  }
  return false;
}

}  // namespace

ofa_tvm_model *ofa_tvm_model_open(const char *path, int flags) {
  ofa_tvm_model *opened = nullptr;
  guarded([&] { opened = new ofa_tvm_model{{path, !(flags & OFA_TVM_NO_VERIFY)}}; });
  return opened;
}

void ofa_tvm_model_close(ofa_tvm_model *model) { delete model; }

const char *ofa_tvm_last_error(void) { return last_error; }

int ofa_tvm_model_batch(const ofa_tvm_model *model) { return model->model.batch; }
int ofa_tvm_model_classes(const ofa_tvm_model *model) { return model->model.classes; }
int ofa_tvm_model_resolution(const ofa_tvm_model *model) { return model->model.resolution; }
int ofa_tvm_model_channels(const ofa_tvm_model *model) { return model->model.channels; }

const char *ofa_tvm_model_class_name(const ofa_tvm_model *model, int number) {
  if (!model->model.manifest || number < 0) return nullptr;
  const auto &names = model->model.manifest->class_names;
  return static_cast<size_t>(number) < names.size() ? names[static_cast<size_t>(number)].c_str() : nullptr;
}

int ofa_tvm_model_run(ofa_tvm_model *model, const float *images, float *logits) {
  return guarded([&] { model->model.run(images, logits); }) ? 0 : -1;
}

int ofa_tvm_model_run_rgb(ofa_tvm_model *model, const uint8_t *pixels, int width, int height, float *logits) {
  const bool done = guarded([&] {
    if (width < 1 || height < 1) throw ofa_tvm::bad_input("an image of no pixels");
    const auto &loaded = model->model;
    const auto image = ofa_tvm::prepare(pixels, width, height, loaded.preprocess(), loaded.resolution);
    const std::vector<float> found = loaded.run_all(image);
    std::copy(found.begin(), found.end(), logits);
  });
  return done ? 0 : -1;
}
