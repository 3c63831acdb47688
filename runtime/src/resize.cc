#include <algorithm>
#include <cmath>

#include "image.h"

namespace ofa_tvm {
namespace {

constexpr size_t kChannels = 3;

// The pixels that one pixel of the result is made of, along one axis.
struct Taps {
  size_t first;
  std::vector<float> weights;
};

// Triangles as wide as a pixel of the finer of the two pictures; cut at the edges of the whole picture, not of the
// part.
std::vector<Taps> taps_along(int length, float begin, int side, int size) {
  const float scale = static_cast<float>(side) / static_cast<float>(size);
  const float support = std::max(scale, 1.0F);
  std::vector<Taps> all;
  for (int i = 0; i < size; ++i) {
    const float centre = begin + scale * (static_cast<float>(i) + 0.5F);
    const int first = std::max(static_cast<int>(centre - support + 0.5F), 0);
    const int end = std::min(static_cast<int>(centre + support + 0.5F), length);
    Taps taps{static_cast<size_t>(first), {}};
    float sum = 0;
    for (int at = first; at < end; ++at) {
      const float distance = std::fabs((static_cast<float>(at) - centre + 0.5F) / support);
      taps.weights.push_back(std::max(0.0F, 1.0F - distance));
      sum += taps.weights.back();
    }
    for (float &weight : taps.weights) weight /= sum;
    all.push_back(taps);
  }
  return all;
}

}  // namespace

std::vector<float> resize_square(const uint8_t *pixels, int width, int height, float left, float top, int side,
                                 int size, bool in_8_bits) {
  const std::vector<Taps> columns = taps_along(width, left, side, size), rows = taps_along(height, top, side, size);
  const auto kept = [&](float value) { return in_8_bits ? std::floor(value + 0.5F) : value; };
  const size_t row_floats = static_cast<size_t>(size) * kChannels;
  const size_t begin = rows.front().first, end = rows.back().first + rows.back().weights.size();
  std::vector<float> narrow((end - begin) * row_floats);  // rows that are needed, already of the new width
  for (size_t y = begin; y < end; ++y) {
    const uint8_t *row = pixels + y * static_cast<size_t>(width) * kChannels;
    float *target = &narrow[(y - begin) * row_floats];
    for (const Taps &taps : columns) {
      for (size_t channel = 0; channel < kChannels; ++channel) {
        float sum = 0;
        for (size_t i = 0; i < taps.weights.size(); ++i) {
          sum += taps.weights[i] * static_cast<float>(row[(taps.first + i) * kChannels + channel]);
        }
        *target++ = kept(sum);
      }
    }
  }
  std::vector<float> result;
  result.reserve(static_cast<size_t>(size) * row_floats);
  for (const Taps &taps : rows) {
    for (size_t x = 0; x < row_floats; ++x) {
      float sum = 0;
      for (size_t i = 0; i < taps.weights.size(); ++i) {
        sum += taps.weights[i] * narrow[(taps.first - begin + i) * row_floats + x];
      }
      result.push_back(kept(sum));
    }
  }
  return result;
}

// A square's pixels where they belong if its top is where EXIF says.
std::vector<float> upright(const std::vector<float> &image, size_t size, int orientation) {
  const bool is_turned = orientation >= 5;  // rows are columns
  const bool from_right = is_turned ? orientation == 7 || orientation == 8 : orientation == 2 || orientation == 3;
  const bool from_bottom = is_turned ? orientation == 6 || orientation == 7 : orientation == 3 || orientation == 4;
  if (orientation == 1) return image;
  std::vector<float> turned;
  turned.reserve(image.size());
  for (size_t y = 0; y < size; ++y) {
    for (size_t x = 0; x < size; ++x) {
      size_t row = is_turned ? x : y, column = is_turned ? y : x;
      if (from_right) column = size - 1 - column;
      if (from_bottom) row = size - 1 - row;
      const float *pixel = &image[(row * size + column) * kChannels];
      turned.insert(turned.end(), pixel, pixel + kChannels);
    }
  }
  return turned;
}

std::vector<float> prepare(const uint8_t *pixels, int width, int height, int orientation, const Preprocess &preprocess,
                           int size) {
  const int side = std::min(width, height), stored = preprocess.stored_size;
  const float left = static_cast<float>(width - side) / 2, top = static_cast<float>(height - side) / 2;
  std::vector<float> image = resize_square(pixels, width, height, left, top, side, stored ? stored : size, stored);
  if (stored) {
    const Bytes rounded(image.begin(), image.end());
    image = resize_square(rounded.data(), stored, stored, 0, 0, stored, size, false);
  }
  image = upright(image, static_cast<size_t>(size), orientation);
  for (size_t i = 0; i < image.size(); ++i) {
    const size_t channel = i % kChannels;
    image[i] = (image[i] - preprocess.mean[channel] * 255) / (preprocess.std[channel] * 255);
  }
  return image;
}

}  // namespace ofa_tvm
