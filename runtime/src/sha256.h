// SHA-256 (FIPS 180-4): no header-only library of a usual system has it.
#pragma once

#include <string>

#include "file.h"

namespace ofa_tvm {

// The digest in hexadecimal.
std::string sha256(const Bytes &content);

}  // namespace ofa_tvm
