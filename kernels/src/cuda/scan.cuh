// What the kernels of scan.cu, scan_slots.cu and scan_once.cu share; put before each.

struct ScanArgs {
    const void *u, *delta, *z; // [b, l, d], rows apart by u_row, ...; z may be null
    const float *bias;         // [d] or null
    const float *a;            // [d, n]
    const float *skip;         // [d] or null
    const void *b, *c;         // [b, l, g, n], or [d, n] with a token stride of 0
    const float *initial;      // [b, d, n] or null
    void *y;                   // [b, l, d]
    float *last;               // [b, d, n] or null; may be `initial`
    float *record;             // [b, l, record_count, n] or null: h of channels record_from ...
    float *starts;             // [b, segments, d, n]: v3's states before each segment
    float *sums;               // [b, segments, d]: v3's sums of D
    int u_row, delta_row, z_row, y_row;
    int b_token, b_group, b_channels; // strides of B, and how many channels share a group
    int c_token, c_group, c_channels;
    int tokens, channels, slots, softplus;
    int segment, segments;                           // tokens of a segment, and how many
    int lanes, warp_channels, group_channels, tiles; // the shape of a warp; channels that share B and C; warps they need
    int record_from, record_count;
    u64 *meet; // v5: what blocks tell one another; zeros before the first launch
};

// What lies `l` rows of `bytes` bytes further on, in one multiply-add.
template <typename T> __device__ __forceinline__ T *row_at(T *base, int l, int bytes) {
    T *at;
    asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(at) : "r"(l), "r"(bytes), "l"(base));
    return at;
}

// Writes one or two neighbours without a branch, which would keep the compiler from interleaving tokens.
__device__ __forceinline__ void store_if(bool is_wanted, float *to, const float (&x)[2]) {
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %3, 0; @p st.global.v2.f32 [%0], {%1, %2}; }" ::"l"(to), "f"(x[0]),
                 "f"(x[1]), "r"((int)is_wanted)
                 : "memory");
}
__device__ __forceinline__ void store_if(bool is_wanted, float *to, const float (&x)[1]) {
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %2, 0; @p st.global.f32 [%0], %1; }" ::"l"(to), "f"(x[0]),
                 "r"((int)is_wanted)
                 : "memory");
}
__device__ __forceinline__ void store_if(bool is_wanted, bf16 *to, const float (&x)[2]) {
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %2, 0; @p st.global.b32 [%0], %1; }" ::"l"(to),
                 "r"(pack_bf16(x[0], x[1])), "r"((int)is_wanted)
                 : "memory");
}
__device__ __forceinline__ void store_if(bool is_wanted, bf16 *to, const float (&x)[1]) {
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %2, 0; @p st.global.b16 [%0], %1; }" ::"l"(to),
                 "h"(from_float<bf16>(x[0]).bits), "r"((int)is_wanted)
                 : "memory");
}

// a or b, without a branch.
__device__ __forceinline__ float select(bool is_first, float a, float b) {
    float c;
    asm("{ .reg .pred p; setp.ne.s32 p, %3, 0; selp.f32 %0, %1, %2, p; }" : "=f"(c) : "f"(a), "f"(b), "r"((int)is_first));
    return c;
}
