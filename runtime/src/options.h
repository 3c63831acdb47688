// The command line.
#pragma once

#include <string>
#include <vector>

#include "benchmark.h"

namespace ofa_tvm {

struct Options {
  std::string bundle;  // a folder or a library
  std::vector<std::string> inputs;
  std::string logits;  // file to write; empty for none
  std::string list;    // file of paths; empty for none
  int top = 5;
  int workers = 0;  // of a stream; 0: as many as cores allow
  WindowPlan timing;
  bool json = false, benchmark = false, verify = true, help = false;
  bool stream = false;  // many inputs, answered as JSON lines
};

extern const char kUsage[];

// Throws bad_input.
Options parse_options(const std::vector<std::string> &arguments);

}  // namespace ofa_tvm
