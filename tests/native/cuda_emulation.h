// The terms of ofa_tvm/compiler/native/cuda_prelude.h on a CPU: a thread for each of a block's (a cluster's blocks at
// once, blocks one after the other), barriers for warps, blocks and clusters, and the tensor cores' product from its
// lanes' registers. Sanitizers see every access.
#pragma once
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads, blocks)
#define __restrict__
#define CLUSTER_DIMS(blocks)

using half_bits_t = unsigned short;
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct Position {
  int x = 0, y = 0, z = 0;
};

struct Warp {
  std::barrier<> barrier{32};
  unsigned a[32][4], b[32][2];
  float values[32];
};

struct Block {
  explicit Block(int threads) : barrier(threads) {
    for (int i = 0; i < threads / 32; ++i) warps.push_back(std::make_unique<Warp>());
  }
  std::barrier<> barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::mutex mutex;
  std::map<std::string, std::vector<float4>> shared;  // by the array's name; not a number until it is written
  bool flag = false;
  std::atomic<int> left = 0;
  float *array(const char *name, size_t floats) {
    const std::lock_guard<std::mutex> alone(mutex);
    auto &found = shared[name];
    if (found.empty()) found.assign((floats + 3) / 4, {NAN, NAN, NAN, NAN});
    return &found[0].x;
  }
  // With the last thread its shared memory is gone.
  void leave(int threads) {
    if (++left < threads) return;
    for (auto &[name, values] : shared) std::fill(values.begin(), values.end(), float4{NAN, NAN, NAN, NAN});
  }
};

struct Cluster {
  Cluster(int blocks, int threads) : barrier(blocks * threads) {
    for (int i = 0; i < blocks; ++i) members.push_back(std::make_unique<Block>(threads));
  }
  std::barrier<> barrier;
  std::vector<std::unique_ptr<Block>> members;
};

inline thread_local Position threadIdx, blockIdx;
inline thread_local Block *own_block;
inline thread_local Cluster *own_cluster;
inline Position gridDim;

#define SHARED(name, floats) float *const name = own_block->array(#name, floats)
inline void __syncthreads() { own_block->barrier.arrive_and_wait(); }
inline Warp &own_warp() { return *own_block->warps[threadIdx.x / 32]; }
inline void __syncwarp() { own_warp().barrier.arrive_and_wait(); }
inline void __threadfence() {}

inline void cluster_sync() { own_cluster->barrier.arrive_and_wait(); }
inline void cluster_leave() { own_cluster->barrier.arrive_and_wait(); }
// `mine` may lie in any shared array of this block.
inline float4 read_remote(const float *mine, int rank) {
  for (const auto &[name, values] : own_block->shared) {
    const float *const first = &values[0].x;
    if (mine < first || mine >= first + 4 * values.size()) continue;
    return *reinterpret_cast<const float4 *>(&own_cluster->members[rank]->shared.at(name)[0].x + (mine - first));
  }
  std::abort();
}
inline void wait_for_inputs() {}
inline void let_next_start() {}

inline float half_value(half_bits_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return value;
}
inline half_bits_t half_bits(float value) {
  const _Float16 narrow = value;
  half_bits_t bits;
  std::memcpy(&bits, &narrow, 2);
  return bits;
}
inline float low(unsigned pair) { return half_value(pair & 0xffff); }
inline float high(unsigned pair) { return half_value(pair >> 16); }
inline unsigned pack2(float first, float second) { return half_bits(first) | unsigned(half_bits(second)) << 16; }
inline unsigned multiply2(unsigned pair, unsigned by) { return pack2(low(pair) * low(by), high(pair) * high(by)); }
inline float4 four(float4 values) { return values; }
inline float4 four(uint2 pairs) { return {low(pairs.x), high(pairs.x), low(pairs.y), high(pairs.y)}; }

template <class T>
T __ldg(const T *at) {
  return *at;
}
template <class T>
T read_map(const T *at) {
  return *at;
}
inline float read_map(const half_bits_t *at) { return half_value(*at); }
inline void write_map(float *at, float value) { *at = value; }
inline void write_map(half_bits_t *at, float value) { *at = half_bits(value); }
inline void write_map(float *at, float4 values) { *reinterpret_cast<float4 *>(at) = values; }
inline void write_map(half_bits_t *at, float4 values) {
  *reinterpret_cast<uint2 *>(at) = {pack2(values.x, values.y), pack2(values.z, values.w)};
}

inline void unpack(const uint4 &vector, float *values) {
  const unsigned pairs[4] = {vector.x, vector.y, vector.z, vector.w};
  for (int i = 0; i < 8; ++i) values[i] = i % 2 ? high(pairs[i / 2]) : low(pairs[i / 2]);
}
inline void unpack(const float4 &vector, float *values) { std::memcpy(values, &vector, sizeof vector); }
inline void store(uint4 *at, const float *values) {
  *at = {pack2(values[0], values[1]), pack2(values[2], values[3]), pack2(values[4], values[5]),
         pack2(values[6], values[7])};
}
inline void store(float4 *at, const float *values) { *at = {values[0], values[1], values[2], values[3]}; }

// A copy arrives when it is waited for, no earlier.
struct Copy {
  void *to;
  const void *from;
  size_t bytes;
};
inline thread_local std::vector<Copy> copies;
template <class T>
void copy_async(void *to, const T *from, bool is_there) {
  copies.push_back({to, is_there ? from : nullptr, sizeof(T)});
}
inline void await_copies() {
  for (const Copy &one : copies)
    if (one.from == nullptr)
      std::memset(one.to, 0, one.bytes);
    else
      std::memcpy(one.to, one.from, one.bytes);
  copies.clear();
}

inline float from_lane_xor(float value, int mask) {
  Warp &warp = own_warp();
  const int lane = threadIdx.x % 32;
  warp.values[lane] = value;
  warp.barrier.arrive_and_wait();
  const float found = warp.values[lane ^ mask];
  warp.barrier.arrive_and_wait();
  return found;
}

// Registers as PTX lays them out: lane = 4 * group + quarter.
inline void mma(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  const int lane = threadIdx.x % 32, group = lane / 4, quarter = lane % 4;
  Warp &warp = own_warp();
  const unsigned a[4] = {a0, a1, a2, a3}, b[2] = {b0, b1};
  std::memcpy(warp.a[lane], a, sizeof a);
  std::memcpy(warp.b[lane], b, sizeof b);
  warp.barrier.arrive_and_wait();
  for (int i = 0; i < 4; ++i) {
    const int row = group + 8 * (i / 2), column = 2 * quarter + i % 2;
    float added = 0;
    for (int k = 0; k < 16; ++k) {
      const unsigned left = warp.a[4 * (row % 8) + k % 8 / 2][row / 8 + 2 * (k / 8)];
      const unsigned right = warp.b[4 * column + k % 8 / 2][k / 8];
      added += (k % 2 ? high(left) : low(left)) * (k % 2 ? high(right) : low(right));
    }
    sum[i] += added;
  }
  warp.barrier.arrive_and_wait();
}

inline bool is_last_block(unsigned *counter, unsigned blocks) {
  own_block->barrier.arrive_and_wait();
  if (threadIdx.x == 0) {
    own_block->flag = ++*counter == blocks;
    if (own_block->flag) *counter = 0;
  }
  own_block->barrier.arrive_and_wait();
  return own_block->flag;
}

inline void launch(Position grid, int threads, int cluster, const std::function<void()> &kernel) {
  gridDim = grid;
  std::barrier<> all(cluster * threads);
  std::unique_ptr<Cluster> own;
  const auto run = [&](int rank, int thread) {
    for (int block = 0; block < grid.x * grid.y * grid.z / cluster; ++block) {
      if (rank == 0 && thread == 0) own = std::make_unique<Cluster>(cluster, threads);
      all.arrive_and_wait();
      threadIdx = {thread, 0, 0};
      blockIdx = {block % grid.x, block / grid.x % grid.y, block / (grid.x * grid.y) * cluster + rank};
      own_cluster = own.get(), own_block = own->members[rank].get();
      kernel();
      own_block->leave(threads);
      all.arrive_and_wait();
    }
  };
  std::vector<std::thread> running;
  for (int rank = 0; rank < cluster; ++rank)
    for (int thread = 0; thread < threads; ++thread) running.emplace_back(run, rank, thread);
  for (auto &one : running) one.join();
}

// The n-th type of a function's arguments, so that kernels may declare pointers of any type.
template <int n, class... T>
std::tuple_element_t<n, std::tuple<T...>> argument(void (*)(T...));

inline std::vector<uint4> read_file(const std::string &path) {
  std::FILE *file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) std::abort();
  std::fseek(file, 0, SEEK_END);
  const size_t bytes = std::ftell(file);
  std::rewind(file);
  std::vector<uint4> values((bytes + 15) / 16);
  if (std::fread(values.data(), 1, bytes, file) != bytes) std::abort();
  std::fclose(file);
  return values;
}

inline void write_file(const std::string &path, const void *values, size_t bytes) {
  std::FILE *file = std::fopen(path.c_str(), "wb");
  if (file == nullptr || std::fwrite(values, 1, bytes, file) != bytes) std::abort();
  std::fclose(file);
}
