// WebP files, decoded by the system's libwebp where there is one: so the program itself depends on none.
#include <dlfcn.h>

#include <cstring>

#include "image.h"
#include "old_glibc.h"
#include "picture.h"

OFA_TVM_FIRST_VERSION(dlopen, dlopen);
OFA_TVM_FIRST_VERSION(dlsym, dlsym);

namespace ofa_tvm {
namespace {

using WebpInfo = int (*)(const uint8_t *, size_t, int *, int *);
using WebpDecode = uint8_t *(*)(const uint8_t *, size_t, uint8_t *, size_t, int);

constexpr size_t kRiffHeader = 12, kChunkHeader = 8, kWebpFlags = 20;
constexpr uint8_t kWebpMoves = 2;

struct WebpLibrary {
  WebpInfo info = nullptr;
  WebpDecode decode = nullptr;
};

const WebpLibrary &webp_library() {
  static const WebpLibrary found = [] {
    WebpLibrary it;
    if (void *loaded = dlopen("libwebp.so.7", RTLD_NOW | RTLD_LOCAL)) {
      it.info = reinterpret_cast<WebpInfo>(dlsym(loaded, "WebPGetInfo"));
      it.decode = reinterpret_cast<WebpDecode>(dlsym(loaded, "WebPDecodeRGBInto"));
    }
    return it;
  }();
  return found;
}

size_t riff_number(const uint8_t *bytes) {
  return bytes[0] | static_cast<size_t>(bytes[1]) << 8 | static_cast<size_t>(bytes[2]) << 16 |
         static_cast<size_t>(bytes[3]) << 24;
}

int webp_orientation(const Bytes &file) {
  for (size_t at = kRiffHeader; file.size() - at >= kChunkHeader;) {
    const size_t bytes = riff_number(&file[at + 4]), left = file.size() - at - kChunkHeader;
    if (bytes > left) return 1;
    const uint8_t *begin = file.data() + at + kChunkHeader;
    if (!std::memcmp(&file[at], "EXIF", 4)) {
      static const char prefix[] = "Exif\0";  // a JPEG's, which some writers put here, too
      const bool has_prefix = bytes >= sizeof prefix && !std::memcmp(begin, prefix, sizeof prefix);
      return exif_orientation(begin + (has_prefix ? sizeof prefix : 0), begin + bytes);
    }
    if (left - bytes < bytes % 2) return 1;
    at += kChunkHeader + bytes + bytes % 2;
  }
  return 1;
}

}  // namespace

bool decodes_webp() { return webp_library().info && webp_library().decode; }

Image decode_webp(const Bytes &file) {
  if (file.size() > kWebpFlags && !std::memcmp(&file[kRiffHeader], "VP8X", 4) && (file[kWebpFlags] & kWebpMoves)) {
    throw PictureError("it moves");
  }
  int width = 0, height = 0;
  if (!webp_library().info(file.data(), file.size(), &width, &height)) throw PictureError("it is damaged");
  check_size(static_cast<size_t>(width), static_cast<size_t>(height));
  Bytes pixels(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  if (!webp_library().decode(file.data(), file.size(), pixels.data(), pixels.size(), width * 3)) {
    throw PictureError("it is damaged");
  }
  return {width, height, webp_orientation(file), pixels};
}

}  // namespace ofa_tvm
