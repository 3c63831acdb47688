#include "npy.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "error.h"

namespace ofa_tvm {
namespace {

const char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicBytes = 6;
constexpr size_t kAlignment = 64;

// What stands after `'key':` in the header, up to its comma or bracket.
std::string value_of(const std::string &header, const std::string &key, char end) {
  size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) return "";
  at += key.size() + 3;
  size_t stop = header.find(end, at);
  return stop == std::string::npos ? "" : header.substr(at, stop - at + 1);
}

std::vector<size_t> numbers_in(const std::string &text) {
  std::vector<size_t> numbers;
  for (const char *at = text.c_str(); *at;) {
    if (*at < '0' || *at > '9') {
      ++at;
      continue;
    }
    char *end;
    numbers.push_back(std::strtoull(at, &end, 10));
    at = end;
  }
  return numbers;
}

}  // namespace

std::vector<float> Array::floats() const {
  std::vector<float> numbers(data.size() / sizeof(float));
  std::memcpy(numbers.data(), data.data(), numbers.size() * sizeof(float));
  return numbers;
}

Array read_npy(const std::string &path) {
  const Error damaged = bad_input(path + " is not a whole .npy file", "write it with numpy.save");
  Bytes content = read_file(path, "input");
  if (content.size() < 12 || std::memcmp(content.data(), kMagic, kMagicBytes) != 0) throw damaged;
  size_t length = content[8] | size_t{content[9]} << 8, start = 10;
  if (content[6] > 1) length |= size_t{content[10]} << 16 | size_t{content[11]} << 24, start = 12;
  if (content.size() - start < length) throw damaged;
  std::string header(content.begin() + static_cast<std::ptrdiff_t>(start),
                     content.begin() + static_cast<std::ptrdiff_t>(start + length));

  Array array;
  std::string type = value_of(header, "descr", ',');
  array.is_float32 = type.find("'<f4'") != std::string::npos;
  if (!array.is_float32 && type.find("'|u1'") == std::string::npos) {
    throw bad_input(path + " holds numbers that are neither float32 nor uint8", "save array.astype('float32')");
  }
  if (value_of(header, "fortran_order", ',').find("False") == std::string::npos) {
    throw bad_input(path + " is in Fortran order", "save numpy.ascontiguousarray(array)");
  }
  array.shape = numbers_in(value_of(header, "shape", ')'));
  array.data.assign(content.begin() + static_cast<std::ptrdiff_t>(start + length), content.end());
  size_t bytes = array.is_float32 ? sizeof(float) : 1;
  for (size_t side : array.shape) {
    if (side && bytes > content.size() / side) throw damaged;
    bytes *= side;
  }
  if (bytes != array.data.size()) throw damaged;
  return array;
}

void write_npy(const std::string &path, const std::vector<float> &values, size_t rows, size_t columns) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " +
                       std::to_string(columns) + "), }";
  while ((kMagicBytes + 4 + header.size() + 1) % kAlignment) header += ' ';
  header += '\n';
  std::string start(kMagic, kMagicBytes);
  start += {'\1', '\0', static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  start += header;
  FILE *file = std::fopen(path.c_str(), "wb");
  bool written = file && std::fwrite(start.data(), 1, start.size(), file) == start.size() &&
                 std::fwrite(values.data(), sizeof(float), values.size(), file) == values.size();
  if ((file && std::fclose(file)) || !written) {
    throw failed("logits cannot be written to " + path + ": " + strerror(errno), "give another file after --logits");
  }
}

}  // namespace ofa_tvm
