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

// A regular file, open for reading: whatever the name stands for later, this is the same file.
class OpenFile {
 public:
  // `what` names it in messages. Throws bad_input: it cannot be opened, or is a folder, a pipe or a device.
  OpenFile(const std::string &path, const std::string &what);
  ~OpenFile();
  OpenFile(const OpenFile &) = delete;
  OpenFile &operator=(const OpenFile &) = delete;

  // As many bytes as it had when it was opened. Throws bad_input: there are more than `most`, or fewer now.
  Bytes read(size_t most = SIZE_MAX) const;

  // A path of this very file, which goes with the object; empty where the system has none (no /proc).
  std::string descriptor_path() const;

  // Leave it open for good: its path is still in use.
  void keep() { is_kept_ = true; }

 private:
  std::string name_;
  int descriptor_;
  size_t bytes_;
  bool is_kept_ = false;
};

// The whole file. Throws bad_input, as OpenFile does.
Bytes read_file(const std::string &path, const std::string &what, size_t most = SIZE_MAX);

// The extension in lower case, with its dot; empty where there is none.
std::string extension(const std::string &path);

// Path of the running program, and the folder that it lies in.
std::string own_path();
std::string own_folder();

}  // namespace ofa_tvm
