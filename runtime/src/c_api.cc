// The functions of ofa_tvm.h: no exception leaves them.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "error.h"
#include "image.h"
#include "model.h"
#include "ofa_tvm.h"
#include "picture.h"
#include "text.h"

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
    std::snprintf(last_error, sizeof last_error, "%s%s%s", ofa_tvm::printable(error.what()).c_str(), between,
                  ofa_tvm::printable(error.hint).c_str());
  } catch (const std::exception &error) {
    std::snprintf(last_error, sizeof last_error, "%s", error.what());
  }
  return false;
}

void require(const void *given, const char *name) {
  if (!given) throw ofa_tvm::bad_input(std::string(name) + " is NULL", "");
}

void require_count(const char *name, size_t given, size_t needed, const char *hint = "count numbers, not bytes") {
  if (given == needed) return;
  throw ofa_tvm::bad_input(
      std::string(name) + " has room for " + std::to_string(given) + ", not " + std::to_string(needed), hint);
}

int fact(const ofa_tvm_model *model, int ofa_tvm::Model::*which) { return model ? model->model.*which : 0; }

}  // namespace

const char *ofa_tvm_version(void) { return OFA_TVM_VERSION; }
int ofa_tvm_abi(void) { return OFA_TVM_ABI; }

ofa_tvm_model *ofa_tvm_model_open(const char *path, int flags) {
  ofa_tvm_model *opened = nullptr;
  guarded([&] {
    require(path, "the path");
    opened = new ofa_tvm_model{{path, !(flags & OFA_TVM_NO_VERIFY)}};
  });
  return opened;
}

void ofa_tvm_model_close(ofa_tvm_model *model) { delete model; }

const char *ofa_tvm_last_error(void) { return last_error; }

int ofa_tvm_model_batch(const ofa_tvm_model *model) { return fact(model, &ofa_tvm::Model::batch); }
int ofa_tvm_model_classes(const ofa_tvm_model *model) { return fact(model, &ofa_tvm::Model::classes); }
int ofa_tvm_model_resolution(const ofa_tvm_model *model) { return fact(model, &ofa_tvm::Model::resolution); }
int ofa_tvm_model_channels(const ofa_tvm_model *model) { return fact(model, &ofa_tvm::Model::channels); }

const char *ofa_tvm_model_class_name(const ofa_tvm_model *model, int number) {
  if (!model || !model->model.manifest || number < 0) return nullptr;
  const auto &names = model->model.manifest->class_names;
  return static_cast<size_t>(number) < names.size() ? names[static_cast<size_t>(number)].c_str() : nullptr;
}

int ofa_tvm_model_run(ofa_tvm_model *model, const float *images, size_t image_count, float *logits,
                      size_t logit_count) {
  const bool done = guarded([&] {
    require(model, "the model");
    require(images, "images");
    require(logits, "logits");
    const ofa_tvm::Model &loaded = model->model;
    const size_t batch = static_cast<size_t>(loaded.batch);
    require_count("images", image_count, batch * loaded.image_floats());
    require_count("logits", logit_count, batch * static_cast<size_t>(loaded.classes));
    loaded.run(images, logits);
  });
  return done ? 0 : -1;
}

int ofa_tvm_model_run_rgb(ofa_tvm_model *model, const uint8_t *pixels, size_t pixel_bytes, int width, int height,
                          float *logits, size_t logit_count) {
  const bool done = guarded([&] {
    require(model, "the model");
    require(pixels, "pixels");
    require(logits, "logits");
    if (width < 1 || height < 1) throw ofa_tvm::bad_input("an image of no pixels");
    if (std::max(width, height) > static_cast<int>(ofa_tvm::kMostSide))
      throw ofa_tvm::bad_input("an image of more than 32768 pixels along a side", "make it smaller");
    require_count("pixels", pixel_bytes, 3 * static_cast<size_t>(width) * static_cast<size_t>(height),
                  "three bytes each");
    const ofa_tvm::Model &loaded = model->model;
    require_count("logits", logit_count, static_cast<size_t>(loaded.classes));
    const auto image = ofa_tvm::prepare(pixels, width, height, 1, loaded.preprocess(), loaded.resolution);
    const std::vector<float> found = loaded.run_all(image);
    std::copy(found.begin(), found.end(), logits);
  });
  return done ? 0 : -1;
}
