// The command line.
#pragma once

#include <string>
#include <vector>

namespace ofa_tvm {

struct Options {
  std::string bundle;  // a folder or a library
  std::vector<std::string> inputs;
  std::string logits;  // file to write; empty for none
  int top = 5;
  int repeats = 100;
  double min_repeat_ms = 10;
  bool json = false, benchmark = false, verify = true, help = false;
};

extern const char kUsage[];

// Throws bad_input.
Options parse_options(const std::vector<std::string> &arguments);

}  // namespace ofa_tvm
