// Runs the thread blocks of CUDA code on a CPU, a thread for each of theirs, so that sanitizers can watch them.
#pragma once
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#define __global__
#define __launch_bounds__(threads)
#define __restrict__
#define __shared__ static
#define alignas(bytes) __attribute__((aligned(bytes)))  // C++ does not take alignas behind static

struct Position {
  int x = 0, y = 0;
};
struct float2 {
  float x, y;
};
struct int2 {
  int x, y;
};

inline float2 make_float2(float x, float y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }

inline thread_local Position threadIdx;
inline Position blockIdx;
inline std::barrier<> *block_barrier;

inline void __syncthreads() { block_barrier->arrive_and_wait(); }
inline float max(float a, float b) { return a > b ? a : b; }
inline float min(float a, float b) { return a < b ? a : b; }

template <class Kernel>
void launch(Position blocks, Position threads, Kernel kernel) {
  for (blockIdx.y = 0; blockIdx.y < blocks.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < blocks.x; ++blockIdx.x) {
      std::barrier<> barrier(threads.x * threads.y);
      block_barrier = &barrier;
      std::vector<std::thread> running;
      for (int y = 0; y < threads.y; ++y)
        for (int x = 0; x < threads.x; ++x)
          running.emplace_back([=] {
            threadIdx = {x, y};
            kernel();
          });
      for (auto &one : running) one.join();
    }
}

inline void read_values(const std::string &path, std::vector<float> &values) {
  std::FILE *file = std::fopen(path.c_str(), "rb");
  if (file == nullptr || std::fread(values.data(), sizeof(float), values.size(), file) != values.size()) std::abort();
  std::fclose(file);
}

inline void write_values(const std::string &path, const std::vector<float> &values) {
  std::FILE *file = std::fopen(path.c_str(), "wb");
  if (file == nullptr || std::fwrite(values.data(), sizeof(float), values.size(), file) != values.size()) std::abort();
  std::fclose(file);
}
