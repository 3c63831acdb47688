#include <array>
#include <cstring>

#include "picture.h"

namespace ofa_tvm {
namespace {

constexpr size_t kSignature = 8, kHeader = 13, kColours = 256;
constexpr uint8_t kPalette = 3;

uint32_t crc32(const uint8_t *at, const uint8_t *end) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < made.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xedb88320 ^ value >> 1 : value >> 1;
      made[i] = value;
    }
    return made;
  }();
  uint32_t crc = 0xffffffff;
  for (; at != end; ++at) crc = table[(crc ^ *at) & 255] ^ crc >> 8;
  return ~crc;
}

void append_number(Bytes &file, size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) file.push_back(static_cast<uint8_t>(value >> shift));
}

// stb_image does not look at a chunk's checksum.
void append_chunk(Bytes &file, const char *name, const Bytes &content) {
  append_number(file, content.size());
  file.insert(file.end(), name, name + 4);
  file.insert(file.end(), content.begin(), content.end());
  append_number(file, 0);
}

PictureFacts read_header(const Bytes &header) {
  Cursor cursor(header, 0);
  PictureFacts facts;
  facts.width = cursor.number();
  facts.height = cursor.number();
  check_size(facts.width, facts.height);
  const uint8_t depth = cursor.byte(), colour = cursor.byte();
  const bool is_deep = depth == 8 || depth == 16, is_shallow = depth == 1 || depth == 2 || depth == 4;
  const bool is_known = colour == 0          ? is_deep || is_shallow
                        : colour == kPalette ? depth == 8 || is_shallow
                                             : (colour == 2 || colour == 4 || colour == 6) && is_deep;
  const uint8_t compression = cursor.byte(), filter = cursor.byte(), interlace = cursor.byte();
  if (!is_known || compression || filter || interlace > 1) throw PictureError("it is of an unknown kind");
  return facts;
}

}  // namespace

PictureFacts check_png(const Bytes &file, Bytes &essentials) {
  Cursor cursor(file, kSignature);
  PictureFacts facts;
  Bytes header, palette, pixels;
  std::string before;
  for (std::string name; name != "IEND"; before = name) {
    const size_t bytes = cursor.number();
    const uint8_t *begin = cursor.here();
    cursor.skip(4);
    const uint8_t *content = cursor.here();
    cursor.skip(bytes);
    const uint8_t *end = cursor.here();
    if (cursor.number() != crc32(begin, end)) throw PictureError("a chunk's checksum is wrong");
    name.assign(begin, content);
    if ((name == "IHDR") != header.empty()) throw PictureError("it does not begin with its one header");
    if (name == "IHDR") {
      header.assign(content, end);
      if (bytes != kHeader) throw PictureError("its header is of another length");
      facts = read_header(header);
    } else if (name == "PLTE") {
      if (!palette.empty() || !bytes || bytes % 3 || bytes > 3 * kColours) throw PictureError("a bad palette");
      palette.assign(content, end);
    } else if (name == "IDAT") {
      if (!pixels.empty() && before != name) throw PictureError("its pixels come in parts");
      if (header[9] == kPalette && palette.empty()) throw PictureError("it has no palette");
      pixels.insert(pixels.end(), content, end);
    } else if (name == "eXIf") {
      facts.orientation = exif_orientation(content, end);
    } else if (name == "acTL") {
      throw PictureError("it moves: only still pictures are read");
    } else if (name != "IEND" && name[0] >= 'A' && name[0] <= 'Z') {
      throw PictureError("it has a part that is not known");
    }
  }
  if (pixels.empty()) throw PictureError("it has no pixels");
  palette.resize(3 * kColours);
  essentials.assign(file.begin(), file.begin() + kSignature);
  append_chunk(essentials, "IHDR", header);
  if (header[9] == kPalette) append_chunk(essentials, "PLTE", palette);
  append_chunk(essentials, "IDAT", pixels);
  append_chunk(essentials, "IEND", {});
  return facts;
}

}  // namespace ofa_tvm
