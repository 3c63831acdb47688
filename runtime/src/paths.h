// Where the paths of many inputs come from.
#pragma once

#include <deque>
#include <string>
#include <vector>

namespace ofa_tvm {

// Paths of files, in order: named ones, those in folders (by name, folders in them too), and lines of a list.
class Paths {
 public:
  // Throws bad_input: a folder or list cannot be read.
  Paths(const std::vector<std::string> &inputs, const std::string &list);
  ~Paths();
  Paths(const Paths &) = delete;
  Paths &operator=(const Paths &) = delete;

  // The next path, if one is known now.
  bool next(std::string *path);

  // What more paths can be read from when it is ready; -1 for nothing.
  int source() const { return descriptor_; }

  // Read what is there. Throws bad_input.
  void read_more();

 private:
  void add_folder(std::string folder);
  void open_list(const std::string &list);

  std::deque<std::string> known_;
  std::string part_;  // of a line that has no end yet
  int descriptor_ = -1;
};

}  // namespace ofa_tvm
