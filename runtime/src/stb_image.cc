// The decoders of stb_image, of which only these two are wanted; without its header there are none.
#include <algorithm>
#include <cstdlib>

#include "error.h"
#include "image.h"

#if __has_include(<stb/stb_image.h>) && !defined(OFA_TVM_NO_STB)

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 32768  // kMostPixels
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>

namespace ofa_tvm {

namespace {

constexpr size_t kMostBytes = 1 << 30;  // the decoder counts bytes as int

// Whether no Huffman table of a JPEG file has more than the 256 codes that there can be. Versions of stb_image before
// 2.28 count on it.
bool has_sound_tables(const Bytes &file) {
  constexpr size_t kCounts = 16, kMostCodes = 256;
  constexpr uint8_t kTables = 0xc4, kLastRestart = 0xd7, kFirstRestart = 0xd0;
  for (size_t at = 2; at + 4 <= file.size();) {
    const uint8_t marker = file[at + 1];
    const bool is_marker = file[at] == 0xff && marker != 0 && marker != 0xff;
    if (!is_marker || (marker >= kFirstRestart && marker <= kLastRestart)) {  // compressed pixels
      ++at;
      continue;
    }
    const size_t end = at + 2 + (size_t{file[at + 2]} << 8 | file[at + 3]);
    if (marker == kTables) {
      for (size_t table = at + 4; table + 1 + kCounts <= std::min(end, file.size());) {
        size_t codes = 0;
        for (size_t i = 1; i <= kCounts; ++i) codes += file[table + i];
        if (codes > kMostCodes) return false;
        table += 1 + kCounts + codes;
      }
    }
    at = std::max(end, at + 4);
  }
  return true;
}

}  // namespace

Image read_image(const std::string &path) {
  const std::string hint = "give a whole PNG or JPEG file";
  const Bytes content = read_file(path, "image");
  if (content.size() > kMostBytes) throw bad_input("image " + path + " is larger than a gigabyte", hint);
  const bool is_jpeg = content.size() > 2 && content[0] == 0xff && content[1] == 0xd8;
  if (is_jpeg && !has_sound_tables(content)) throw bad_input("image " + path + " is damaged: a bad code table", hint);
  Image image;
  int channels;
  uint8_t *pixels = stbi_load_from_memory(content.data(), static_cast<int>(content.size()), &image.width, &image.height,
                                          &channels, 3);
  if (!pixels) {
    const char *reason = stbi_failure_reason();  // it does not always say
    throw bad_input("image " + path + " cannot be decoded" + (reason ? std::string(": ") + reason : ""), hint);
  }
  image.pixels.assign(pixels, pixels + static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3);
  std::free(pixels);
  return image;
}

}  // namespace ofa_tvm

#else

namespace ofa_tvm {

Image read_image(const std::string &path) {
  throw bad_input("image " + path + " cannot be decoded: this program was built without stb_image.h",
                  "give .ppm, .npy or .raw; or deploy again after 'python -m ofa_tvm.doctor --install-headers'");
}

}  // namespace ofa_tvm

#endif
