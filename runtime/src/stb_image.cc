// The decoders of stb_image, of which only these two are wanted; without its header there are none.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "error.h"
#include "image.h"
#include "picture.h"

#if __has_include(<stb/stb_image.h>) && !defined(OFA_TVM_NO_STB)

namespace {

// Bytes that the decoder may have at once: compressed pixels can claim to be any number.
thread_local size_t room;

// Zeros, so that what a file leaves out is the same each time.
void *allocate(size_t bytes) { return bytes > room ? nullptr : std::calloc(1, bytes); }
void *reallocate(void *block, size_t bytes) { return bytes > room ? nullptr : std::realloc(block, bytes); }

}  // namespace

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 32768  // kMostSide
#define STBI_MALLOC allocate
#define STBI_REALLOC reallocate
#define STBI_FREE std::free
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>

namespace ofa_tvm {
namespace {

constexpr size_t kMostBytes = 1 << 30;  // the decoder counts bytes as int
// What the decoder takes for a pixel at most (16-bit RGBA), for a block that a JPEG's edge may lie in, and beside
// pixels.
constexpr size_t kPixelBytes = 8, kBlock = 32, kBeside = 1 << 20;

struct Kind {
  const char *name;
  size_t at;
  const char *magic;
};

const Kind kJpeg = {"JPEG", 0, "\xff\xd8\xff"}, kPng = {"PNG", 0, "\x89PNG\r\n\x1a\n"}, kWebp = {"WebP", 8, "WEBP"};
const Kind kOthers[] = {{"GIF", 0, "GIF8"}, {"TIFF", 0, "II*"},          {"TIFF", 0, "MM"},
                        {"BMP", 0, "BM"},   {"HEIF or AVIF", 4, "ftyp"}, {"PPM", 0, "P6"}};

bool is_kind(const Bytes &file, const Kind &kind) {
  const size_t bytes = std::strlen(kind.magic);
  return file.size() >= kind.at + bytes && !std::memcmp(&file[kind.at], kind.magic, bytes);
}

Image decode(const Bytes &file, const PictureFacts &facts) {
  room = std::max(file.size() + kBeside, kPixelBytes * (facts.width + kBlock) * (facts.height + kBlock) + kBeside);
  int width, height, channels;
  const std::unique_ptr<uint8_t, decltype(&std::free)> pixels(
      stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels, 3), std::free);
  if (!pixels) {
    const char *reason = stbi_failure_reason();  // it does not always say
    throw PictureError(reason ? reason : "it is damaged");
  }
  const size_t bytes = static_cast<size_t>(width) * static_cast<size_t>(height) * 3;
  return {width, height, facts.orientation, {pixels.get(), pixels.get() + bytes}};
}

}  // namespace

Image read_image(const std::string &path) {
  const Bytes file = read_file(path, "image", kMostBytes);
  for (const Kind &kind : kOthers) {
    if (!is_kind(file, kind)) continue;
    throw bad_input("image " + path + " is a " + kind.name + " file; this program decodes PNG, JPEG and WebP",
                    "convert it: convert '" + path + "[0]' -auto-orient '" + path + ".png'");
  }
  if (is_kind(file, kWebp) && !decodes_webp()) {
    throw bad_input("image " + path + " is a WebP file, and this system lacks libwebp.so.7, which decodes them",
                    "install it (libwebp7), or convert the file: convert '" + path + "' '" + path + ".png'");
  }
  try {
    if (is_kind(file, kWebp)) return decode_webp(file);
    if (is_kind(file, kJpeg)) return decode(file, check_jpeg(file));
    if (!is_kind(file, kPng)) throw PictureError("it is neither PNG nor JPEG nor WebP");
    Bytes essentials;
    const PictureFacts facts = check_png(file, essentials);
    return decode(essentials, facts);
  } catch (const PictureError &error) {
    throw bad_input("image " + path + " cannot be decoded: " + error.what(), "give a whole PNG, JPEG or WebP file");
  }
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
