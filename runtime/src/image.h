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
  int stored_size = 0;  // the square is first resized to this size, in 8 bits, as training stored it; 0: it is not
};

// RGB, 8 bits a channel, rows without gaps. `orientation` is EXIF's: where the top is, from 1 (upright) to 8.
struct Image {
  int width = 0, height = 0, orientation = 1;
  Bytes pixels;
};

// Decode a PNG or JPEG file, or a WebP file where the system has libwebp. Transparency is dropped, grey becomes RGB, of
// 16 bits the upper 8 count. Throws bad_input; always, if this program was built without stb_image.
Image read_image(const std::string &path);

// Read a binary .ppm file. Throws bad_input.
Image read_ppm(const std::string &path);

// The square of `side` pixels that begins at (left, top), resized to (size, size, 3): bilinear, antialiased. In float32
// without rounding, as torch's `F.interpolate(mode="bilinear", antialias=True)`; or in 8 bits, rounded after the width
// and after the height, as Pillow does. A square may begin between two pixels.
std::vector<float> resize_square(const uint8_t *pixels, int width, int height, float left, float top, int side,
                                 int size, bool in_8_bits);

// What the network takes of a picture: the largest square in its centre, turned upright, resized and normalised.
// Training on a folder of images does the same (ofa_tvm/data/photograph.py).
std::vector<float> prepare(const uint8_t *pixels, int width, int height, int orientation, const Preprocess &preprocess,
                           int size);

}  // namespace ofa_tvm
