#include "inputs.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.h"
#include "image.h"
#include "npy.h"
#include "picture.h"

namespace ofa_tvm {
namespace {

std::string shape_text(const std::vector<size_t> &shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

std::vector<float> from_pixels(const Array &array, const std::string &path, const Model &model) {
  std::vector<size_t> shape = array.shape;
  if (shape.size() == 3) shape.insert(shape.begin(), 1);
  if (shape.size() != 4 || shape[3] != 3 || !shape[1] || !shape[2] || shape[1] > kMostSide || shape[2] > kMostSide) {
    throw bad_input(path + " has shape " + shape_text(array.shape), "uint8 images are (n, height, width, 3)");
  }
  std::vector<float> values;
  const size_t bytes = shape[1] * shape[2] * 3;
  for (size_t i = 0; i < shape[0]; ++i) {
    const std::vector<float> image = prepare(&array.data[i * bytes], static_cast<int>(shape[2]),
                                             static_cast<int>(shape[1]), 1, model.preprocess(), model.resolution);
    values.insert(values.end(), image.begin(), image.end());
  }
  return values;
}

const std::vector<float> &finite(const std::vector<float> &values, const std::string &path) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    throw bad_input(path + " holds " + std::to_string(values[i]) + " as its number " + std::to_string(i),
                    "give finite numbers");
  }
  return values;
}

std::vector<float> from_npy(const std::string &path, const Model &model) {
  const Array array = read_npy(path);
  if (!array.is_float32) return from_pixels(array, path, model);
  const size_t size = static_cast<size_t>(model.resolution);
  const std::vector<size_t> wanted = {size, size, static_cast<size_t>(model.channels)};
  const std::vector<size_t> &shape = array.shape;
  const bool fits =
      (shape.size() == 3 || shape.size() == 4) && std::equal(wanted.rbegin(), wanted.rend(), shape.rbegin());
  if (!fits) {
    throw bad_input(path + " has shape " + shape_text(shape) + ", the network takes n times " + shape_text(wanted),
                    "give normalised float32 images of this size, or uint8 images of any size");
  }
  return finite(array.floats(), path);
}

std::vector<float> from_raw(const std::string &path, const Model &model) {
  const Bytes content = read_file(path, "input");
  const size_t bytes = model.image_floats() * sizeof(float);
  if (content.empty() || content.size() % bytes) {
    throw bad_input(path + " has " + std::to_string(content.size()) + " bytes, an image of the network has " +
                        std::to_string(bytes),
                    "give normalised float32 numbers, pixel after pixel");
  }
  std::vector<float> values(content.size() / sizeof(float));
  std::memcpy(values.data(), content.data(), content.size());
  return finite(values, path);
}

std::vector<float> read_input(const std::string &path, const Model &model) {
  const std::string kind = extension(path);
  if (kind == ".npy") return from_npy(path, model);
  if (kind == ".raw" || kind == ".bin" || kind == ".f32") return from_raw(path, model);
  const Preprocess &preprocess = model.preprocess();
  const Image image = kind == ".ppm" ? read_ppm(path) : read_image(path);
  return prepare(image.pixels.data(), image.width, image.height, image.orientation, preprocess, model.resolution);
}

}  // namespace

Samples read_inputs(const std::vector<std::string> &paths, const Model &model) {
  Samples samples;
  for (const std::string &path : paths) {
    const std::vector<float> values = read_input(path, model);
    samples.values.insert(samples.values.end(), values.begin(), values.end());
    for (size_t i = 0; i < values.size() / model.image_floats(); ++i) {
      samples.files.push_back(path);
      samples.numbers.push_back(i);
    }
  }
  return samples;
}

}  // namespace ofa_tvm
