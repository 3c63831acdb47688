#include "json.h"

#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

namespace ofa_tvm {
namespace {

constexpr size_t kOnOneLine = SIZE_MAX;
constexpr size_t kMostDepth = 64;
constexpr uint32_t kReplacement = 0xfffd;

// Whatever the program around has made of the locale, a point is a point.
double to_double(const std::string &digits) {
  static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
  return strtod_l(digits.c_str(), nullptr, plain);
}

// Bytes of the UTF-8 character at `at`; 0 where there is none, or it is written in more bytes than it needs.
size_t character_bytes(const char *at, const char *end) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(at[i]); };
  const size_t bytes = byte(0) < 0x80 ? 1 : byte(0) < 0xc2 ? 0 : byte(0) < 0xe0 ? 2 : byte(0) < 0xf0 ? 3 : 4;
  if (bytes == 0 || byte(0) > 0xf4 || static_cast<size_t>(end - at) < bytes) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool is_long = (byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xf0 && byte(1) < 0x90);
  const bool is_outside = (byte(0) == 0xed && byte(1) > 0x9f) || (byte(0) == 0xf4 && byte(1) > 0x8f);
  return bytes > 2 && (is_long || is_outside) ? 0 : bytes;
}

void append_character(std::string &text, uint32_t code) {
  const auto append = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) return append(code);
  if (code < 0x800) {
    append(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      append(0xe0 | code >> 12);
    } else {
      append(0xf0 | code >> 18);
      append(0x80 | (code >> 12 & 0x3f));
    }
    append(0x80 | (code >> 6 & 0x3f));
  }
  append(0x80 | (code & 0x3f));
}

class Parser {
 public:
  explicit Parser(const Bytes &text)
      : start_(reinterpret_cast<const char *>(text.data())), at_(start_), end_(start_ + text.size()) {}

  Json parse() {
    if (end_ - at_ >= 3 && std::memcmp(at_, "\xef\xbb\xbf", 3) == 0) at_ += 3;
    Json value = parse_value(0);
    skip_space();
    if (at_ != end_) fail("something stands behind the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string &what) const {
    throw JsonError(what + " (byte " + std::to_string(at_ - start_) + ")");
  }

  char peek() const { return at_ == end_ ? '\0' : *at_; }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }

  void expect(char wanted) {
    skip_space();
    if (at_ == end_ || *at_ != wanted) fail(std::string("'") + wanted + "' is missing");
    ++at_;
  }

  bool accept(char wanted) {
    skip_space();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }

  bool accept_word(const char *word) {
    const size_t length = std::strlen(word);
    if (static_cast<size_t>(end_ - at_) < length || std::memcmp(at_, word, length) != 0) return false;
    at_ += length;
    return true;
  }

  Json parse_value(size_t depth) {
    if (depth > kMostDepth) fail("it is nested too deeply");
    skip_space();
    if (peek() == '{') return parse_object(depth);
    if (peek() == '[') return parse_array(depth);
    if (peek() == '"') return parse_string();
    if (accept_word("true")) return true;
    if (accept_word("false")) return false;
    if (accept_word("null")) return Json();
    return parse_number();
  }

  Json parse_object(size_t depth) {
    Json::Members members;
    std::set<std::string> keys;
    expect('{');
    if (accept('}')) return members;
    do {
      skip_space();
      if (peek() != '"') fail("a key is missing");
      std::string key = parse_string();
      if (!keys.insert(key).second) fail("key '" + key + "' stands twice");
      expect(':');
      members.emplace_back(std::move(key), parse_value(depth + 1));
    } while (accept(','));
    expect('}');
    return members;
  }

  Json parse_array(size_t depth) {
    Json::Items items;
    expect('[');
    if (accept(']')) return items;
    do {
      items.push_back(parse_value(depth + 1));
    } while (accept(','));
    expect(']');
    return items;
  }

  std::string parse_string() {
    std::string text;
    ++at_;
    while (peek() != '"' || at_ == end_) {
      if (at_ == end_) fail("a string does not end");
      if (*at_ == '\\') {
        parse_escape(text);
        continue;
      }
      const size_t bytes = character_bytes(at_, end_);
      if (bytes == 0 || static_cast<uint8_t>(*at_) < 0x20) fail("a string has a byte that it may not have");
      text.append(at_, bytes);
      at_ += bytes;
    }
    ++at_;
    return text;
  }

  void parse_escape(std::string &text) {
    static const char kEscapes[] = "\"\\/bfnrt", kMeant[] = "\"\\/\b\f\n\r\t";
    ++at_;
    const char *known = peek() ? std::strchr(kEscapes, peek()) : nullptr;
    if (known) {
      text += kMeant[known - kEscapes];
      ++at_;
      return;
    }
    if (peek() != 'u') fail("an escape is not known");
    uint32_t code = parse_unit();
    const bool is_high = code >= 0xd800 && code < 0xdc00;
    if (is_high && accept_word("\\")) {
      const uint32_t low = peek() == 'u' ? parse_unit() : 0;
      if (low < 0xdc00 || low > 0xdfff) fail("half a character is missing");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code <= 0xdfff) {
      fail("half a character is missing");
    }
    append_character(text, code);
  }

  uint32_t parse_unit() {  // at the u of an escape
    uint32_t code = 0;
    ++at_;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char digit = peek();
      const bool is_digit = digit >= '0' && digit <= '9';
      const char lower = static_cast<char>(digit | 0x20);
      if (!is_digit && !(lower >= 'a' && lower <= 'f')) fail("an escape is cut");
      code = code << 4 | static_cast<uint32_t>(is_digit ? digit - '0' : lower - 'a' + 10);
    }
    return code;
  }

  size_t skip_digits() {
    const char *first = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return static_cast<size_t>(at_ - first);
  }

  Json parse_number() {
    const char *first = at_;
    if (peek() == '-') ++at_;
    const char leading = peek();
    const size_t digits = skip_digits();
    if (digits == 0 || (digits > 1 && leading == '0')) {
      at_ = first;
      fail("a value is missing");
    }
    bool is_whole = true;
    if (peek() == '.') {
      ++at_;
      is_whole = false;
      if (skip_digits() == 0) fail("a number is cut");
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      is_whole = false;
      if (peek() == '+' || peek() == '-') ++at_;
      if (skip_digits() == 0) fail("a number is cut");
    }
    const std::string text(first, at_);
    if (is_whole && digits < 19) return static_cast<int64_t>(std::strtoll(text.c_str(), nullptr, 10));
    const double value = to_double(text);
    if (!std::isfinite(value)) fail("a number is too large");
    return value;
  }

  const char *start_, *at_, *end_;
};

void dump_string(std::string &text, const std::string &value) {
  static const char kEscapes[] = "\"\\\b\f\n\r\t", kWritten[] = "\"\\bfnrt";
  text += '"';
  for (const char *at = value.data(), *end = at + value.size(); at != end;) {
    const size_t bytes = character_bytes(at, end);
    const char *escape = *at ? std::strchr(kEscapes, *at) : nullptr;
    if (escape) {
      text += {'\\', kWritten[escape - kEscapes]};
    } else if (bytes == 0) {
      append_character(text, kReplacement);
    } else if (static_cast<uint8_t>(*at) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", *at);
      text += code;
    } else {
      text.append(at, bytes);
    }
    at += bytes ? bytes : 1;
  }
  text += '"';
}

void dump_number(std::string &text, double value) {
  if (!std::isfinite(value)) {
    text += "null";
    return;
  }
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.9g", value);
  if (to_double(digits) != value) std::snprintf(digits, sizeof digits, "%.17g", value);
  text += digits;
  if (!std::strpbrk(digits, ".e")) text += ".0";
}

}  // namespace

const std::string &Json::text() const {
  if (const auto *value = std::get_if<std::string>(&value_)) return *value;
  throw JsonError("a string is wanted");
}

int64_t Json::integer() const {
  if (const auto *value = std::get_if<int64_t>(&value_)) return *value;
  throw JsonError("a whole number is wanted");
}

double Json::number() const {
  if (const auto *value = std::get_if<int64_t>(&value_)) return static_cast<double>(*value);
  if (const auto *value = std::get_if<double>(&value_)) return *value;
  throw JsonError("a number is wanted");
}

const Json::Items &Json::items() const {
  if (const auto *value = std::get_if<Items>(&value_)) return *value;
  throw JsonError("a list is wanted");
}

const Json::Members &Json::members() const {
  if (const auto *value = std::get_if<Members>(&value_)) return *value;
  throw JsonError("an object is wanted");
}

const Json &Json::at(const std::string &key) const {
  if (const Json *value = find(key)) return *value;
  throw JsonError("it has no '" + key + "'");
}

const Json *Json::find(const std::string &key) const {
  const auto *members = std::get_if<Members>(&value_);
  if (!members) return nullptr;
  for (const auto &[name, value] : *members) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string Json::dump() const {
  std::string text;
  dump_to(text, 0);
  return text;
}

std::string Json::line() const {
  std::string text;
  dump_to(text, kOnOneLine);
  return text + "\n";
}

void Json::dump_to(std::string &text, size_t depth) const {
  const bool on_one_line = depth == kOnOneLine;
  const size_t inside = on_one_line ? depth : depth + 1;
  const auto separate = [&](bool is_first, size_t indent) {
    text += is_first ? "" : on_one_line ? ", " : ",";
    if (!on_one_line) text += "\n" + std::string(indent, ' ');
  };
  if (const auto *truth = std::get_if<bool>(&value_)) {
    text += *truth ? "true" : "false";
  } else if (const auto *whole = std::get_if<int64_t>(&value_)) {
    text += std::to_string(*whole);
  } else if (const auto *number = std::get_if<double>(&value_)) {
    dump_number(text, *number);
  } else if (const auto *string = std::get_if<std::string>(&value_)) {
    dump_string(text, *string);
  } else if (const auto *items = std::get_if<Items>(&value_)) {
    text += '[';
    for (size_t i = 0; i < items->size(); ++i) {
      separate(i == 0, inside);
      (*items)[i].dump_to(text, inside);
    }
    if (!items->empty()) separate(true, depth);
    text += ']';
  } else if (const auto *members = std::get_if<Members>(&value_)) {
    text += '{';
    for (size_t i = 0; i < members->size(); ++i) {
      separate(i == 0, inside);
      dump_string(text, (*members)[i].first);
      text += ": ";
      (*members)[i].second.dump_to(text, inside);
    }
    if (!members->empty()) separate(true, depth);
    text += '}';
  } else {
    text += "null";
  }
}

Json parse_json(const Bytes &text) { return Parser(text).parse(); }

}  // namespace ofa_tvm
