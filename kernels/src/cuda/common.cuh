// What every kernel file begins with. NVRTC finds no headers on a learner's machine, so nothing is included: the few
// helpers are here. Letters as in the crate's glossary: b batch, l token, d channel, n slot, h head, p channel of a head,
// g group, e width of the residual stream.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

#define FULL_WARP 0xffffffffu

// The upper half of a float.
struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// Two floats rounded to bf16, the first in the lower half.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

#define LOG2E 1.4426950408889634f

// 2^x by the special-function unit: relative error below 2^-22; a result below 2^-126 is zero.
__device__ __forceinline__ float exp2_unit(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 2^x by the multiply-add units: relative error below 2e-7; at most 2^-126 below -126. For a share of a kernel's
// exponentials, where the special-function unit is what it waits for.
__device__ __forceinline__ float exp2_fma(float x) {
    const float MAGIC = 12582912.0f; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    // fmaxf would drop NaN.
    asm("max.NaN.f32 %0, %0, 0fC2FC0000;" : "+f"(x)); // -126
    asm("min.NaN.f32 %0, %0, 0f43000000;" : "+f"(x)); // 128
    float shifted = x + MAGIC;
    float f = x - (shifted - MAGIC);
    float p = 1.3276471520e-3f;
    p = fmaf(p, f, 9.6755413307e-3f);
    p = fmaf(p, f, 5.5507132750e-2f);
    p = fmaf(p, f, 2.4022119724e-1f);
    p = fmaf(p, f, 6.9314696706e-1f);
    p = fmaf(p, f, 1.0f);
    return p * __int_as_float((__float_as_int(shifted) << 23) + 0x3f800000);
}

__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float exp_of(float x) { return exp2_unit(x * LOG2E); }

// ln(1 + e^x) = max(x, 0) + ln(1 + t) with t = e^-|x| <= 1, and ln(1 + t) = t * (a polynomial): keeps its digits at both
// ends, and costs one special function. Relative error below 2e-7, and below 1e-7 * |x| for x far below zero.
__device__ __forceinline__ float softplus(float x) {
    float t = exp_of(-fabsf(x));
    float p = 5.232691453e-3f;
    p = fmaf(p, t, -2.950522751e-2f);
    p = fmaf(p, t, 7.822593353e-2f);
    p = fmaf(p, t, -1.366324424e-1f);
    p = fmaf(p, t, 1.910600603e-1f);
    p = fmaf(p, t, -2.484298203e-1f);
    p = fmaf(p, t, 3.331909678e-1f);
    p = fmaf(p, t, -4.999949314e-1f);
    p = fmaf(p, t, 1.0f);
    // fmaxf drops NaN, and t keeps it.
    return fmaf(t, p, fmaxf(x, 0.0f));
}

__device__ __forceinline__ float silu(float x) {
    // Below -88, e^-x would be infinite and the product with x = -infinity undefined only there, as in the formula.
    return x * reciprocal(1.0f + exp_of(-x));
}

// A kernel of a token's pass may begin while the one before is still at work (programmatic dependent launch, Hopper and
// newer): it asks for weights and states, which nothing before it in the pass writes, lets the next one begin likewise, and
// waits for the one before to be complete. Elsewhere kernels follow one another as always, and these are nothing.
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ float sum_of_warp(float x) {
    for (int o = 16; o > 0; o >>= 1) x += __shfl_xor_sync(FULL_WARP, x, o);
    return x;
}

// Sum over a block of up to 1024 threads, for all of them; `room` holds 33 floats. May be called again at once.
__device__ __forceinline__ float sum_of_block(float x, float *room) {
    x = sum_of_warp(x);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = (blockDim.x + 31) >> 5;
    __syncthreads();
    if (lane == 0) room[warp] = x;
    __syncthreads();
    if (warp == 0) {
        float all = sum_of_warp(lane < warps ? room[lane] : 0.0f);
        if (lane == 0) room[32] = all;
    }
    __syncthreads();
    return room[32];
}
