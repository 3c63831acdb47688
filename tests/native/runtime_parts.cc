// Parts of the runtime on their own, for tests:
// sha256 FILE | json FILE | resize ARRAY.npy SIZE OUT.npy [STORED] | image FILE SIZE OUT.npy [STORED] |
// ppm FILE SIZE OUT.npy [STORED]: what the network takes of a picture, as levels from 0 to 255
#include <cstdio>
#include <cstdlib>
#include <string>

#include "error.h"
#include "image.h"
#include "json.h"
#include "npy.h"
#include "sha256.h"

int main(int count, char **arguments) try {
  using namespace ofa_tvm;
  const std::string what = arguments[1], path = arguments[2];
  if (what == "sha256") return std::puts(sha256(read_file(path, "file")).c_str()) < 0;
  if (what == "json") return std::puts(parse_json(read_file(path, "file")).dump().c_str()) < 0;
  Image image;
  if (what == "image") {
    image = read_image(path);
  } else if (what == "ppm") {
    image = read_ppm(path);
  } else {
    const Array array = read_npy(path);
    image = {static_cast<int>(array.shape[1]), static_cast<int>(array.shape[0]), 1, array.data};
  }
  const int size = std::atoi(arguments[3]), stored = count > 5 ? std::atoi(arguments[5]) : 0;
  const float level = 1.0F / 255;
  const Preprocess levels = {{0, 0, 0}, {level, level, level}, stored};
  const auto values = prepare(image.pixels.data(), image.width, image.height, image.orientation, levels, size);
  write_npy(arguments[4], values, static_cast<size_t>(size), static_cast<size_t>(size) * 3);
  return 0;
} catch (const ofa_tvm::JsonError &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
} catch (const ofa_tvm::Error &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code;
}
