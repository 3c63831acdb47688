// Files, and their names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ofa_tvm {

using Bytes = std::vector<uint8_t>;

bool is_folder(const std::string &path);
bool is_file(const std::string &path);
uint64_t file_bytes(const std::string &path);

// The whole file; `what` names it in the message. Throws bad_input.
Bytes read_file(const std::string &path, const std::string &what);

// The extension in lower case, with its dot; empty where there is none.
std::string extension(const std::string &path);

// Path of the running program, and the folder that it lies in.
std::string own_path();
std::string own_folder();

}  // namespace ofa_tvm
