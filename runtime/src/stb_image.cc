// The decoders of stb_image, of which only these two are wanted.
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 32768
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>

#include <cstdlib>

#include "error.h"
#include "image.h"

namespace ofa_tvm {

constexpr size_t kMostBytes = 1 << 30;  // the decoder counts bytes as int

Image read_image(const std::string &path) {
  const std::string hint = "give a whole PNG or JPEG file";
  const Bytes content = read_file(path, "image");
  if (content.size() > kMostBytes) throw bad_input("image " + path + " is larger than a gigabyte", hint);
  Image image;
  int channels;
  uint8_t *pixels = stbi_load_from_memory(content.data(), static_cast<int>(content.size()), &image.width, &image.height,
                                          &channels, 3);
  if (!pixels) throw bad_input("image " + path + " cannot be decoded: " + stbi_failure_reason(), hint);
  image.pixels.assign(pixels, pixels + static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3);
  std::free(pixels);
  return image;
}

}  // namespace ofa_tvm
