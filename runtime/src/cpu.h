// Whether this CPU can run a library: asked before it is loaded, and explained where it turns out later.
#pragma once

#include <string>

#include "file.h"
#include "manifest.h"

namespace ofa_tvm {

// Check that a library's bytes are whole (its loader would crash beyond their end), its architecture, and what its
// target says of the CPU; `target` is null for a lone library. Throws bad_input or failed.
void check_library(const std::string &library, const Bytes &content, const Target *target);

// From now on an unknown instruction ends the program with a message and exit code 1. For programs, not for libraries.
void explain_illegal_instructions(const std::string &mcpu);

}  // namespace ofa_tvm
