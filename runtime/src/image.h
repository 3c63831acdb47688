// Pictures: decoding, and what turns them into the network's input.
#pragma once

#include <string>
#include <vector>

#include "file.h"

namespace ofa_tvm {

// How pixels of 0..255 become the network's input.
struct Preprocess {
  float mean[3];
  float std[3];
};

// RGB, 8 bits a channel, rows without gaps.
struct Image {
  int width = 0, height = 0;
  Bytes pixels;
};

constexpr size_t kMostPixels = 32768;  // along a side

// Decode a PNG or JPEG file. Transparency is dropped, grey becomes RGB. Throws bad_input; always, if this program was
// built without stb_image.
Image read_image(const std::string &path);

// Read a binary .ppm file. Throws bad_input.
Image read_ppm(const std::string &path);

// The square of `side` pixels that begins at (left, top), resized to (size, size, 3): bilinear, antialiased, in float32
// without rounding, as torch's `F.interpolate(mode="bilinear", antialias=True)`. A square may begin between two pixels.
std::vector<float> resize_square(const uint8_t *pixels, int width, int height, float left, float top, int side,
                                 int size);

// What the network takes of a picture: the largest square in its centre, resized and normalised. That is what training
// on a folder of images does (ofa_tvm/data/image_folder.py), with one resizing instead of two.
std::vector<float> prepare(const uint8_t *pixels, int width, int height, const Preprocess &preprocess, int size);

}  // namespace ofa_tvm
