// Text from files, on its way to a terminal.
#pragma once

#include <string>

namespace ofa_tvm {

// Whether UTF-8 text has a control character or the end of a line in it: terminals obey these.
bool has_controls(const std::string &text);

// The text with a question mark for each of them.
std::string printable(const std::string &text);

}  // namespace ofa_tvm
