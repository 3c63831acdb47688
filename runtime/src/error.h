// What ends the program: what is wrong and where, the next thing to try, and the exit code.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace ofa_tvm {

class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string &what, std::string hint)
      : std::runtime_error(what), exit_code(exit_code), hint(std::move(hint)) {}

  const int exit_code;
  const std::string hint;
};

// Input that cannot be used.
inline Error bad_input(const std::string &what, const std::string &hint = "") { return Error(2, what, hint); }

// Good input, and yet it did not work.
inline Error failed(const std::string &what, const std::string &hint = "") { return Error(1, what, hint); }

}  // namespace ofa_tvm
