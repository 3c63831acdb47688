#include <cctype>

#include "error.h"
#include "image.h"
#include "picture.h"

namespace ofa_tvm {
namespace {

// The next number of a header, behind space and comments; 0 where there is none.
size_t header_number(const Bytes &file, size_t &at) {
  while (at < file.size() && (std::isspace(file[at]) || file[at] == '#')) {
    if (file[at] == '#') {
      while (at < file.size() && file[at] != '\n') ++at;
    } else {
      ++at;
    }
  }
  size_t number = 0;
  for (; at < file.size() && std::isdigit(file[at]) && number <= kMostSide; ++at)
    number = 10 * number + (file[at] - '0');
  return number;
}

}  // namespace

Image read_ppm(const std::string &path) {
  const Error damaged = bad_input("image " + path + " is not a whole binary .ppm file (P6) of values up to 255",
                                  "write it with 'convert IMAGE -depth 8 IMAGE.ppm', or Pillow");
  constexpr size_t kMostHeader = 1 << 20;  // with its comments
  const Bytes file = read_file(path, "image", 3 * kMostPixels + kMostHeader);
  if (file.size() < 3 || file[0] != 'P' || file[1] != '6' || !(std::isspace(file[2]) || file[2] == '#')) throw damaged;
  size_t at = 2;
  const size_t width = header_number(file, at), height = header_number(file, at), most = header_number(file, at);
  if (most != 255) throw damaged;
  if (at == file.size() || !std::isspace(file[at])) throw damaged;
  ++at;
  try {
    check_size(width, height);
  } catch (const PictureError &error) {
    throw bad_input("image " + path + " cannot be decoded: " + error.what());
  }
  const size_t bytes = width * height * 3;
  if (at > file.size() || file.size() - at < bytes) throw damaged;
  const auto first = file.begin() + static_cast<std::ptrdiff_t>(at);
  return {static_cast<int>(width), static_cast<int>(height), 1, {first, first + static_cast<std::ptrdiff_t>(bytes)}};
}

}  // namespace ofa_tvm
