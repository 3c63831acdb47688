/* The terms in which CUDA kernels are written (compiler/cuda/emit). It needs no header, so NVRTC alone compiles it.
   tests/native/cuda_emulation.h has the same terms for a CPU. Maps are float (VALUE float) or bits of float16. */
typedef unsigned short half_bits_t;

#define SHARED(name, floats) __shared__ __align__(16) float name[floats]
#if __CUDA_ARCH__ >= 900
#define CLUSTER_DIMS(blocks) __cluster_dims__(1, 1, blocks)
#else
#define CLUSTER_DIMS(blocks)
#endif

/* float16 as bits: no header is needed, and a register holds two. */
__device__ __forceinline__ float half_value(half_bits_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ __forceinline__ half_bits_t half_bits(float value) {
  half_bits_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ float low(unsigned pair) { return half_value((half_bits_t)(pair & 0xffff)); }
__device__ __forceinline__ float high(unsigned pair) { return half_value((half_bits_t)(pair >> 16)); }
__device__ __forceinline__ unsigned pack2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
__device__ __forceinline__ unsigned multiply2(unsigned pair, unsigned by) {
  unsigned product;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(pair), "r"(by));
  return product;
}
/* Four values of a map, as it holds them and as numbers. */
__device__ __forceinline__ float4 four(float4 values) { return values; }
__device__ __forceinline__ float4 four(uint2 pairs) {
  return {low(pairs.x), high(pairs.x), low(pairs.y), high(pairs.y)};
}

/* sum (16, 8) += a (16, 16) b (16, 8) of a warp, in float16 with float32 sums. Lane = 4 * group + quarter; see PTX. */
__device__ __forceinline__ void mma(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                    unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* Reads of what an earlier kernel wrote: not through the read-only cache, which the compiler takes for const pointers,
   because under programmatic dependent launch maps still change while the kernel runs. Constants are read by __ldg. */
__device__ __forceinline__ uint4 read_map(const uint4 *at) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(at));
  return value;
}
__device__ __forceinline__ float4 read_map(const float4 *at) {
  float4 value;
  asm volatile("ld.global.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "l"(at));
  return value;
}
__device__ __forceinline__ uint2 read_map(const uint2 *at) {
  uint2 value;
  asm volatile("ld.global.v2.u32 {%0,%1}, [%2];" : "=r"(value.x), "=r"(value.y) : "l"(at));
  return value;
}
__device__ __forceinline__ unsigned read_map(const unsigned *at) {
  unsigned value;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(value) : "l"(at));
  return value;
}
__device__ __forceinline__ float read_map(const float *at) {
  float value;
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(value) : "l"(at));
  return value;
}
__device__ __forceinline__ float read_map(const half_bits_t *at) {
  half_bits_t bits;
  asm volatile("ld.global.u16 %0, [%1];" : "=h"(bits) : "l"(at));
  return half_value(bits);
}
__device__ __forceinline__ void write_map(float *at, float value) { *at = value; }
__device__ __forceinline__ void write_map(half_bits_t *at, float value) { *at = half_bits(value); }
__device__ __forceinline__ void write_map(float *at, float4 values) { *(float4 *)at = values; }
__device__ __forceinline__ void write_map(half_bits_t *at, float4 values) {
  *(uint2 *)at = {pack2(values.x, values.y), pack2(values.z, values.w)};
}

/* 16 bytes of a map as numbers, and back; of shared memory, too. */
__device__ __forceinline__ void unpack(const uint4 &vector, float *values) {
  values[0] = low(vector.x), values[1] = high(vector.x), values[2] = low(vector.y), values[3] = high(vector.y);
  values[4] = low(vector.z), values[5] = high(vector.z), values[6] = low(vector.w), values[7] = high(vector.w);
}
__device__ __forceinline__ void unpack(const float4 &vector, float *values) {
  values[0] = vector.x, values[1] = vector.y, values[2] = vector.z, values[3] = vector.w;
}
__device__ __forceinline__ void store(uint4 *at, const float *values) {
  const uint4 vector = {pack2(values[0], values[1]), pack2(values[2], values[3]), pack2(values[4], values[5]),
                        pack2(values[6], values[7])};
  *at = vector;
}
__device__ __forceinline__ void store(float4 *at, const float *values) {
  const float4 vector = {values[0], values[1], values[2], values[3]};
  *at = vector;
}

/* Copies of 16 or 4 bytes into shared memory, all at once and without registers; zeros where nothing is there.
   `await_copies`: those of this thread have arrived; a barrier tells the others. */
#if __CUDA_ARCH__ >= 800
template <class T>
__device__ __forceinline__ void copy_async(void *to, const T *from, bool is_there) {
  const unsigned at = (unsigned)__cvta_generic_to_shared(to), bytes = is_there ? sizeof(T) : 0;
  if (sizeof(T) == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#else
template <class T>
__device__ __forceinline__ void copy_async(void *to, const T *from, bool is_there) {
  const T none = {};
  *(T *)to = is_there ? read_map(from) : none;
}
__device__ __forceinline__ void await_copies() {}
#endif

/* Lanes of a warp whose numbers differ in the bits of `mask` exchange their values. */
__device__ __forceinline__ float from_lane_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

/* Programmatic dependent launch: wait for the kernel before, whole; allow the next one to start. */
#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void wait_for_inputs() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void let_next_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
#else
__device__ __forceinline__ void wait_for_inputs() {}
__device__ __forceinline__ void let_next_start() {}
#endif

/* Blocks of a cluster. `cluster_leave` hands nothing over: nobody leaves while another reads its shared memory. */
#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_leave() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
}
__device__ __forceinline__ float4 read_remote(const float *mine, int rank) {
  unsigned there;
  float4 value;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"((unsigned)__cvta_generic_to_shared(mine)), "r"(rank));
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(there)
               : "memory");
  return value;
}
#else
__device__ __forceinline__ void cluster_sync() { __syncthreads(); }
__device__ __forceinline__ void cluster_leave() {}
__device__ __forceinline__ float4 read_remote(const float *mine, int) { return *(const float4 *)mine; }
#endif

/* Whether this block is the last of `blocks` that come here; then it sees what the others wrote before. All threads
   call it. The counter is 0 before and after. */
__device__ __forceinline__ bool is_last_block(unsigned *counter, unsigned blocks) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicInc(counter, blocks - 1) == blocks - 1;
  __syncthreads();
  __threadfence();
  return is_last;
}
