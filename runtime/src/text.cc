#include "text.h"

#include <cstdint>

namespace ofa_tvm {
namespace {

// Bytes of the control character at `at`; 0 where there is none. Those of Unicode: C0, DEL, C1, U+2028 and U+2029.
size_t control_bytes(const std::string &text, size_t at) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : 0xff; };
  if (byte(0) < 0x20 || byte(0) == 0x7f) return 1;
  if (byte(0) == 0xc2 && byte(1) >= 0x80 && byte(1) < 0xa0) return 2;
  return byte(0) == 0xe2 && byte(1) == 0x80 && (byte(2) == 0xa8 || byte(2) == 0xa9) ? 3 : 0;
}

}  // namespace

bool has_controls(const std::string &text) { return printable(text) != text; }

std::string printable(const std::string &text) {
  std::string shown;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = control_bytes(text, at);
    shown += bytes ? '?' : text[at];
    at += bytes ? bytes : 1;
  }
  return shown;
}

}  // namespace ofa_tvm
