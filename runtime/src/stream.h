// Many inputs at full speed: each answered by one of several processes, printed in their order as JSON lines.
#pragma once

#include <string>
#include <vector>

#include "model.h"

namespace ofa_tvm {

struct StreamPlan {
  std::vector<std::string> inputs;  // files, folders, or "-" for paths on stdin
  std::string list;                 // file with a path on each line, or "-"; empty for none
  int workers = 0;                  // 0: as many as cores allow
  int top = 5;
};

// Answer every input, one JSON object a line; of one that cannot be used, its error. The network must not have run yet.
// Returns how many inputs had an error. Throws bad_input, or failed where no process can be started.
size_t stream(const StreamPlan &plan, const Model &model);

}  // namespace ofa_tvm
