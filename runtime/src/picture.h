// What is asked of a picture's file before stb_image sees it. Versions of that header before 2.28 count on sound code
// tables, and all take more for a picture than other decoders do.
#pragma once

#include <stdexcept>
#include <string>

#include "file.h"
#include "image.h"

namespace ofa_tvm {

// Why a file is no picture that can be decoded.
class PictureError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct PictureFacts {
  size_t width = 0, height = 0;
  int orientation = 1;  // EXIF's
};

constexpr size_t kMostSide = 32768;
// 8192 x 8192: more than cameras of 60 megapixels make, and 0.4 GB while most of them are decoded.
constexpr size_t kMostPixels = 1 << 26;

// Throws PictureError: a side is 0, or the picture is larger than this program decodes.
void check_size(size_t width, size_t height);

// Where the top of a picture is, from 1 (upright) to 8; 1 where a TIFF header and its tags do not say it. `end` is one
// behind the last byte.
int exif_orientation(const uint8_t *begin, const uint8_t *end);

// Walk a JPEG file as stb_image does, segment after segment. Throws PictureError at whatever stb_image would read
// beyond a segment, skip, guess, or leave uninitialised.
PictureFacts check_jpeg(const Bytes &file);

// Check a PNG file's chunks. `essentials` becomes a PNG file of what pixels need, with a palette of 256 colours. Throws
// PictureError.
PictureFacts check_png(const Bytes &file, Bytes &essentials);

// Whether this system has the library that decodes WebP files.
bool decodes_webp();

// Decode a WebP file. Throws PictureError.
Image decode_webp(const Bytes &file);

// A file as its bytes come. Throws PictureError at its end.
class Cursor {
 public:
  Cursor(const Bytes &file, size_t at) : file_(file), at_(at) {}

  size_t at() const { return at_; }
  bool is_at_end() const { return at_ == file_.size(); }
  const uint8_t *here() const { return file_.data() + at_; }

  void move_to(size_t at) { at_ = at; }

  // Go on by so many bytes.
  void skip(size_t bytes) {
    if (file_.size() - at_ < bytes) throw PictureError("it ends early");
    at_ += bytes;
  }

  uint8_t byte() {
    skip(1);
    return file_[at_ - 1];
  }

  // Of two and four bytes, the highest first.
  size_t word() {
    const size_t high = byte();
    return high << 8 | byte();
  }
  uint32_t number() {
    const size_t high = word();
    return static_cast<uint32_t>(high << 16 | word());
  }

 private:
  const Bytes &file_;
  size_t at_;
};

}  // namespace ofa_tvm
