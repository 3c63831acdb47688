#include "picture.h"

#include <cstring>

namespace ofa_tvm {

void check_size(size_t width, size_t height) {
  if (!width || !height) throw PictureError("it has no pixels");
  if (width > kMostSide || height > kMostSide || width * height > kMostPixels) {
    throw PictureError("it has " + std::to_string(width) + " x " + std::to_string(height) + " pixels, more than " +
                       std::to_string(kMostPixels) + ", or than " + std::to_string(kMostSide) + " along a side");
  }
}

int exif_orientation(const uint8_t *begin, const uint8_t *end) {
  constexpr size_t kHeader = 8, kTag = 12, kOrientation = 0x112, kShort = 3;
  const size_t bytes = static_cast<size_t>(end - begin);
  const bool is_little = bytes >= kHeader && !std::memcmp(begin, "II*\0", 4);
  if (!is_little && !(bytes >= kHeader && !std::memcmp(begin, "MM\0*", 4))) return 1;
  const auto number = [&](size_t at, size_t length) {
    size_t value = 0;
    for (size_t i = 0; i < length; ++i) value = value << 8 | begin[at + (is_little ? length - 1 - i : i)];
    return value;
  };
  const size_t first = number(4, 4);
  if (first > bytes - 2) return 1;
  const size_t count = number(first, 2);
  for (size_t i = 0, at = first + 2; i < count && at + kTag <= bytes; ++i, at += kTag) {
    if (number(at, 2) != kOrientation || number(at + 2, 2) != kShort || number(at + 4, 4) != 1) continue;
    const size_t value = number(at + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace ofa_tvm
