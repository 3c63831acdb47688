#include <cstring>
#include <utility>
#include <vector>

#include "picture.h"

namespace ofa_tvm {
namespace {

constexpr uint8_t kBaseline = 0xc0, kProgressive = 0xc2, kCodeTables = 0xc4, kFirstRestart = 0xd0, kLastRestart = 0xd7,
                  kEnd = 0xd9, kScan = 0xda, kTables = 0xdb, kHeight = 0xdc, kRestartInterval = 0xdd, kApp = 0xe0,
                  kExif = 0xe1, kAdobe = 0xee, kLastApp = 0xef, kComment = 0xfe;
constexpr int kMostScans = 100;  // each takes as long as a picture, however short it is

bool is_restart(uint8_t marker) { return marker >= kFirstRestart && marker <= kLastRestart; }

struct Component {
  uint8_t id, table;
  bool is_begun = false;  // its first coefficients were read
};

class Jpeg {
 public:
  explicit Jpeg(const Bytes &file) : file_(file), cursor_(file, 2) {}

  PictureFacts check() {
    for (uint8_t marker; (marker = next_marker()) != kEnd;) read_segment(marker);
    bool is_whole = !components_.empty();
    for (const Component &component : components_) is_whole = is_whole && component.is_begun;
    if (!is_whole) throw PictureError("it ends before all its colours came");
    if (components_.size() == 4 && adobe_transform_ != 0 && adobe_transform_ != 2) {
      throw PictureError("it is CMYK without Adobe's mark, which says what its numbers mean");
    }
    return facts_;
  }

 private:
  uint8_t next_marker() {
    while (cursor_.byte() != 0xff) {  // some files have padding before their frame
      if (!components_.empty()) throw PictureError("something stands between its segments");
    }
    uint8_t marker;
    do {
      marker = cursor_.byte();
    } while (marker == 0xff);
    return marker;
  }

  void read_segment(uint8_t marker) {
    const bool is_app = marker >= kApp && marker <= kLastApp;
    const bool is_frame = marker >= kBaseline && marker <= kProgressive;
    if (marker > kProgressive && marker < 0xd0 && marker != kCodeTables) {
      throw PictureError("it is a lossless, hierarchical or arithmetic one");
    }
    if (!is_app && !is_frame && marker != kCodeTables && marker < kScan && marker != kComment) {
      throw PictureError("a marker stands where none may");
    }
    const size_t length = cursor_.word();
    if (length < 2) throw PictureError("a segment has no length");
    const size_t begin = cursor_.at();
    cursor_.skip(length - 2);
    end_ = cursor_.at();
    cursor_.move_to(begin);
    if (is_frame) {
      read_frame(marker == kProgressive);
    } else if (marker == kScan) {
      read_scan();
    } else if (marker == kTables) {
      read_tables();
    } else if (marker == kCodeTables) {
      read_code_tables();
    } else if (marker == kRestartInterval) {
      cursor_.word();
    } else if (marker == kHeight) {
      if (components_.empty() || cursor_.word() != facts_.height) throw PictureError("it has two heights");
    } else if (is_app || marker == kComment) {
      note(marker, cursor_.here(), length - 2);
      cursor_.skip(length - 2);
    } else {
      throw PictureError("a marker stands where none may");
    }
    if (cursor_.at() != end_) throw PictureError("a segment is longer or shorter than what it holds");
    if (marker == kScan) skip_codes();
  }

  void note(uint8_t marker, const uint8_t *begin, size_t bytes) {
    if (marker == kExif && bytes >= 6 && !std::memcmp(begin, "Exif\0", 6) && !has_exif_) {
      has_exif_ = true;
      facts_.orientation = exif_orientation(begin + 6, begin + bytes);
    }
    if (marker == kAdobe && bytes >= 12 && !std::memcmp(begin, "Adobe", 6)) adobe_transform_ = begin[11];
  }

  void read_tables() {
    while (cursor_.at() < end_) {
      const uint8_t kind = cursor_.byte();
      if (kind >> 4 > 1 || (kind & 15) > 3) throw PictureError("a bad table");
      cursor_.skip(kind >> 4 ? 128 : 64);
      tables_ |= 1U << (kind & 15);
    }
  }

  void read_code_tables() {
    while (cursor_.at() < end_) {
      const uint8_t kind = cursor_.byte();
      if (kind >> 4 > 1 || (kind & 15) > 3) throw PictureError("a bad code table");
      size_t codes = 0;
      for (int bits = 1; bits <= 16; ++bits) codes += cursor_.byte();
      if (codes > 256) throw PictureError("a bad code table");
      cursor_.skip(codes);
      code_tables_[kind >> 4] |= 1U << (kind & 15);
    }
  }

  void read_frame(bool is_progressive) {
    if (!components_.empty()) throw PictureError("it has two frames");
    is_progressive_ = is_progressive;
    if (cursor_.byte() != 8) throw PictureError("it has more than 8 bits a channel");
    facts_.height = cursor_.word();
    facts_.width = cursor_.word();
    check_size(facts_.width, facts_.height);
    const int count = cursor_.byte();
    if (count != 1 && count != 3 && count != 4) throw PictureError("it has " + std::to_string(count) + " colours");
    for (int i = 0; i < count; ++i) {
      const uint8_t id = cursor_.byte();
      cursor_.byte();  // sampling, which stb_image checks
      components_.push_back({id, cursor_.byte()});
    }
  }

  Component &component_of(uint8_t id) {
    for (Component &component : components_) {
      if (component.id == id) return component;
    }
    throw PictureError("a scan is of a colour that it does not have");
  }

  void read_scan() {
    if (++scans_ > kMostScans) throw PictureError("it has more than " + std::to_string(kMostScans) + " scans");
    const int count = cursor_.byte();
    std::vector<std::pair<Component *, uint8_t>> scanned;
    for (int i = 0; i < count; ++i) {
      Component &component = component_of(cursor_.byte());
      scanned.emplace_back(&component, cursor_.byte());
    }
    const uint8_t first = cursor_.byte();
    cursor_.byte();  // the last coefficient
    const uint8_t precision = cursor_.byte();
    const bool needs_dc = first == 0 && precision >> 4 == 0, needs_ac = !is_progressive_ || first;
    const auto lacks = [](unsigned tables, int number) { return number > 3 || !(tables >> number & 1); };
    for (auto &[component, codes] : scanned) {
      const bool is_short = lacks(tables_, component->table) || (needs_dc && lacks(code_tables_[0], codes >> 4)) ||
                            (needs_ac && lacks(code_tables_[1], codes & 15));
      if (is_short) throw PictureError("a scan lacks its tables");
      if (first == 0 && precision >> 4 == 0) component->is_begun = true;
      if (!component->is_begun) throw PictureError("a scan refines what has not come");
    }
  }

  // To the next marker that ends a scan.
  void skip_codes() {
    size_t at = cursor_.at();
    for (; at + 1 < file_.size(); ++at) {
      const uint8_t next = file_[at + 1];
      if (file_[at] == 0xff && next && next != 0xff && !is_restart(next)) break;
    }
    cursor_.move_to(at);
  }

  const Bytes &file_;
  Cursor cursor_;
  size_t end_ = 0;  // of the segment
  PictureFacts facts_;
  std::vector<Component> components_;
  unsigned tables_ = 0, code_tables_[2] = {};  // a bit for each that has come
  int scans_ = 0, adobe_transform_ = -1;
  bool is_progressive_ = false, has_exif_ = false;
};

}  // namespace

PictureFacts check_jpeg(const Bytes &file) { return Jpeg(file).check(); }

}  // namespace ofa_tvm
