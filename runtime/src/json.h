// JSON (RFC 8259), as far as manifests and reports need it.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "file.h"

namespace ofa_tvm {

// What is wrong with a text, or with a value that is of another type than asked for.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Json {
 public:
  using Items = std::vector<Json>;
  using Members = std::vector<std::pair<std::string, Json>>;  // in the order in which they are written

  Json() = default;  // null
  Json(bool value) : value_(value) {}
  Json(int value) : value_(static_cast<int64_t>(value)) {}
  Json(int64_t value) : value_(value) {}
  Json(uint64_t value) : value_(static_cast<int64_t>(value)) {}
  Json(double value) : value_(value) {}
  Json(const char *value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(Items value) : value_(std::move(value)) {}
  Json(Members value) : value_(std::move(value)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }

  // The value as what it has to be. Throws JsonError: it is something else.
  const std::string &text() const;
  int64_t integer() const;
  double number() const;
  const Items &items() const;
  const Members &members() const;

  // The member of an object. Throws JsonError: it is none, or has no such member.
  const Json &at(const std::string &key) const;

  // The same; NULL where there is no such member, or this is no object.
  const Json *find(const std::string &key) const;

  // With a line for each value; bytes that are not UTF-8 become U+FFFD, numbers that are not finite null.
  std::string dump() const;

  // The same on one line, which ends.
  std::string line() const;

 private:
  void dump_to(std::string &text, size_t depth) const;

  std::variant<std::monostate, bool, int64_t, double, std::string, Items, Members> value_;
};

// Throws JsonError, which says at which byte.
Json parse_json(const Bytes &text);

}  // namespace ofa_tvm
