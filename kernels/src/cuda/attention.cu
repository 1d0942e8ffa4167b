// Softmax attention with grouped queries, and what it needs: rotary positions and the cache. For token l, which stands behind
// `past` others, and head h, which reads key and value head h / (heads / kv_heads):
//
//     rope:       (a, b) of pair (i, i + width/2) -> (a cos t - b sin t, b cos t + a sin t),  t = (past + l) * inv_freq[i]
//     attention:  w_m = softmax over m <= past + l of scale * q_l . k_m,    out_l = sum_m w_m v_m
//
// `past` is read from device memory: a launch is recorded in a graph once and then repeated at other positions.
//
// The softmax goes over the keys once. Kept are the largest score so far, m, and with it sum = sum_m exp(score - m) and
// acc = sum_m exp(score - m) v_m; when m grows, both are multiplied by exp(m_old - m_new). Parts of the keys are merged the same way.
//
// Versions:
//   v1  attention with splits = 1: a block for each (token, head). Its four warps take tiles of 32 keys in turn and are merged
//       at the end. Eight lanes share a key for its score, all 32 share the width of a value.
//   v2  attention with splits > 1 and attention_merge: the keys of a (token, head) are shared by several blocks, for one token
//       behind a long text, where (token, head) alone would leave most of the machine idle.
//   attention_weights: the weights themselves, for those who want to see them.

struct RopeArgs {
    float *rows;           // [l, row], heads * width used; turned in place
    const float *inv_freq; // [width / 2]: 1 / theta^(2i / width)
    const int *position;   // of the first row
    int tokens, row, heads, width;
};

// Grid: l * heads * (width / 2) / 256 rounded up. Block: 256.
extern "C" __global__ void __launch_bounds__(256) rope(RopeArgs s) {
    int half = s.width / 2;
    size_t thread = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (thread >= (size_t)s.tokens * s.heads * half) return;
    int i = (int)(thread % half), head = (int)(thread / half % s.heads), l = (int)(thread / half / s.heads);
    float sin_t, cos_t;
    sincosf((float)(*s.position + l) * s.inv_freq[i], &sin_t, &cos_t);
    float *pair = s.rows + (size_t)l * s.row + head * s.width + i;
    float a = pair[0], b = pair[half];
    pair[0] = a * cos_t - b * sin_t;
    pair[half] = b * cos_t + a * sin_t;
}

struct KvAppendArgs {
    const float *keys;   // [l, key_row], kv_width used
    const float *values; // [l, value_row], kv_width used
    float *key_cache;    // [capacity, kv_width]
    float *value_cache;  // [capacity, kv_width]
    const int *position; // row for the first token
    int tokens, kv_width, key_row, value_row;
};

// The caller sees to it that position + l <= capacity. Grid: l * kv_width / 256 rounded up. Block: 256.
extern "C" __global__ void __launch_bounds__(256) kv_append(KvAppendArgs s) {
    size_t thread = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (thread >= (size_t)s.tokens * s.kv_width) return;
    int l = (int)(thread / s.kv_width), i = (int)(thread % s.kv_width);
    size_t to = (size_t)(*s.position + l) * s.kv_width + i;
    s.key_cache[to] = s.keys[(size_t)l * s.key_row + i];
    s.value_cache[to] = s.values[(size_t)l * s.value_row + i];
}

struct AttentionArgs {
    const float *queries; // [l, q_row], heads * head_dim used, rotated
    const float *keys;    // cache [past + l or more, kv_heads * head_dim], rotated
    const float *values;  // cache, the same
    float *out;           // [l, out_row], heads * head_dim used
    float *parts;         // [l, heads, splits, head_dim + 2]; null where splits = 1
    float *record;        // [l, heads, past + l]; attention_weights only
    const int *position;  // past: tokens before the first of the l
    int tokens, heads, kv_heads, head_dim, q_row, out_row, splits;
    float scale; // 1 / sqrt(head_dim)
};

#define MAX_HEAD_DIM 256
#define WARPS 4
#define NOTHING __int_as_float(0xff800000) // -infinity

// Products of the query with up to 32 keys from `keys` on, a row a key; lane i gets that of key_of_lane(i).
// Eight neighbours share a key: together they read 32 or 128 bytes of it at once.
__device__ __forceinline__ int key_of_lane(int lane) { return (lane & 7) * 4 + (lane >> 3); }
__device__ __forceinline__ int lane_of_key(int key) { return (key & 3) * 8 + (key >> 2); }

__device__ __forceinline__ float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
__device__ __forceinline__ float dot(float a, float b) { return a * b; }

template <typename V>
__device__ __forceinline__ float product_of_lane(const float *query, const float *keys, size_t key_row, int head_dim, int count, int lane) {
    const int WIDE = sizeof(V) / 4;
    int part = lane & 7, which = lane >> 3;
    const float *row[8];
    float sum[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        // Behind the last key the last one is read again: the result is not used.
        row[i] = keys + min(i * 4 + which, count - 1) * key_row;
        sum[i] = 0.0f;
    }
    for (int d = part * WIDE; d < head_dim; d += 8 * WIDE) {
        V q = *(const V *)(query + d);
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] += dot(q, *(const V *)(row[i] + d));
    }
    // Eight sums over eight lanes: each step halves both, and lane `part` ends with the sum of key 4 * part + which.
#pragma unroll
    for (int o = 4; o > 0; o >>= 1) {
        bool upper = part & o;
#pragma unroll
        for (int i = 0; i < o; i++) {
            float kept = upper ? sum[i + o] : sum[i], given = upper ? sum[i] : sum[i + o];
            sum[i] = kept + __shfl_xor_sync(FULL_WARP, given, o);
        }
    }
    return sum[0];
}

// Score of the lane's key of a tile; -infinity behind the last.
__device__ __forceinline__ float score_of_lane(
    const AttentionArgs &s, const float *query, const float *keys, size_t key_row, int count, bool quads, int lane) {
    float product = quads ? product_of_lane<float4>(query, keys, key_row, s.head_dim, count, lane)
                          : product_of_lane<float>(query, keys, key_row, s.head_dim, count, lane);
    return key_of_lane(lane) < count ? product * s.scale : NOTHING;
}

// Whether keys and the query in shared memory may be read four values at once.
__device__ __forceinline__ bool in_quads(const AttentionArgs &s) { return (s.head_dim & 3) == 0 && ((u64)s.keys & 15) == 0; }

__device__ __forceinline__ float most_of_warp(float x) {
    for (int o = 16; o > 0; o >>= 1) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, o));
    return x;
}

// What is subtracted before exp: while no score is above -infinity, zero, because infinities must not meet. A NaN score is left
// out of the largest, but its own exponential is NaN and reaches the sum.
__device__ __forceinline__ float base_of(float most) { return most == NOTHING ? 0.0f : most; }

// Tiles first, first + step, ... of one (token, head); value entries lane, lane + 32, ... in acc.
template <int SLICES>
__device__ __forceinline__ void attend(const AttentionArgs &s, const float *query, size_t kv_column, int keys, int first,
    int step, int lane, float &most, float &sum, float *acc_shared) {
    size_t kv_row = (size_t)s.kv_heads * s.head_dim;
    bool quads = in_quads(s);
    float acc[SLICES];
#pragma unroll
    for (int i = 0; i < SLICES; i++) acc[i] = 0.0f;
    most = NOTHING;
    sum = 0.0f; // of this lane's keys
    for (int tile = first; tile * 32 < keys; tile += step) {
        int count = min(32, keys - tile * 32);
        size_t at = (size_t)tile * 32 * kv_row + kv_column;
        float score = score_of_lane(s, query, s.keys + at, kv_row, count, quads, lane);
        float more = fmaxf(most, most_of_warp(score)), base = base_of(more);
        float kept = expf(most - base);
        most = more;
        float weight = key_of_lane(lane) < count ? expf(score - base) : 0.0f;
        sum = sum * kept + weight;
#pragma unroll
        for (int i = 0; i < SLICES; i++) acc[i] *= kept;
        const float *value = s.values + at + lane;
#pragma unroll 4
        for (int key = 0; key < count; key++, value += kv_row) {
            float w = __shfl_sync(FULL_WARP, weight, lane_of_key(key));
#pragma unroll
            for (int i = 0; i < SLICES; i++)
                if (lane + 32 * i < s.head_dim) acc[i] += w * value[32 * i];
        }
    }
    sum = sum_of_warp(sum);
#pragma unroll
    for (int i = 0; i < SLICES; i++)
        if (lane + 32 * i < s.head_dim) acc_shared[lane + 32 * i] = acc[i];
}

// Block `index` of tokens * heads; late tokens, which have the most keys, begin first.
__device__ __forceinline__ void token_and_head(const AttentionArgs &s, int index, int &l, int &head) {
    l = s.tokens - 1 - index / s.heads;
    head = index % s.heads;
}

__device__ __forceinline__ void load_query(const AttentionArgs &s, int l, int head, float *query) {
    const float *from = s.queries + (size_t)l * s.q_row + (size_t)head * s.head_dim;
    for (int d = threadIdx.x; d < s.head_dim; d += 32 * WARPS) query[d] = from[d];
    __syncthreads();
}

// Grid: (l * heads, splits). Block: 128.
extern "C" __global__ void __launch_bounds__(128) attention(AttentionArgs s) {
    __shared__ __align__(16) float query[MAX_HEAD_DIM];
    __shared__ float accs[WARPS][MAX_HEAD_DIM];
    __shared__ float mosts[WARPS], sums[WARPS];
    int l, head, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    token_and_head(s, blockIdx.x, l, head);
    load_query(s, l, head, query);
    int keys = *s.position + l + 1;
    size_t kv_column = (size_t)(head / (s.heads / s.kv_heads)) * s.head_dim;
    int first = blockIdx.y * WARPS + warp, step = s.splits * WARPS;
    float most, sum;
    if (s.head_dim <= 32) attend<1>(s, query, kv_column, keys, first, step, lane, most, sum, accs[warp]);
    else if (s.head_dim <= 64) attend<2>(s, query, kv_column, keys, first, step, lane, most, sum, accs[warp]);
    else if (s.head_dim <= 128) attend<4>(s, query, kv_column, keys, first, step, lane, most, sum, accs[warp]);
    else attend<8>(s, query, kv_column, keys, first, step, lane, most, sum, accs[warp]);
    if (lane == 0) {
        mosts[warp] = most;
        sums[warp] = sum;
    }
    __syncthreads();

    // A warp without keys has -infinity, zero and zeros: it adds nothing.
    most = NOTHING;
    for (int w = 0; w < WARPS; w++) most = fmaxf(most, mosts[w]);
    float base = base_of(most), share[WARPS];
    sum = 0.0f;
    for (int w = 0; w < WARPS; w++) {
        share[w] = expf(mosts[w] - base);
        sum += share[w] * sums[w];
    }
    // With parts, attention_merge divides.
    float *to;
    if (s.splits > 1) {
        to = s.parts + (((size_t)l * s.heads + head) * s.splits + blockIdx.y) * (s.head_dim + 2);
        if (threadIdx.x == 0) {
            to[s.head_dim] = most;
            to[s.head_dim + 1] = sum;
        }
        sum = 1.0f;
    } else {
        to = s.out + (size_t)l * s.out_row + (size_t)head * s.head_dim;
    }
    for (int d = threadIdx.x; d < s.head_dim; d += 32 * WARPS) {
        float acc = 0.0f;
        for (int w = 0; w < WARPS; w++) acc += share[w] * accs[w][d];
        to[d] = acc / sum;
    }
}

// Grid: l * heads. Block: 128.
extern "C" __global__ void __launch_bounds__(128) attention_merge(AttentionArgs s) {
    int l = blockIdx.x / s.heads, head = blockIdx.x % s.heads, row = s.head_dim + 2;
    const float *parts = s.parts + ((size_t)l * s.heads + head) * s.splits * row;
    float *out = s.out + (size_t)l * s.out_row + (size_t)head * s.head_dim;
    float most = NOTHING;
    for (int i = 0; i < s.splits; i++) most = fmaxf(most, parts[(size_t)i * row + s.head_dim]);
    float base = base_of(most), sum = 0.0f;
    for (int i = 0; i < s.splits; i++) {
        const float *part = parts + (size_t)i * row;
        sum += expf(part[s.head_dim] - base) * part[s.head_dim + 1];
    }
    for (int d = threadIdx.x; d < s.head_dim; d += 128) {
        float acc = 0.0f;
        for (int i = 0; i < s.splits; i++) {
            const float *part = parts + (size_t)i * row;
            acc += expf(part[s.head_dim] - base) * part[d];
        }
        out[d] = acc / sum;
    }
}

// Grid: l * heads. Block: 128. Zero for the tokens that come after l.
extern "C" __global__ void __launch_bounds__(128) attention_weights(AttentionArgs s) {
    __shared__ __align__(16) float query[MAX_HEAD_DIM];
    __shared__ float mosts[WARPS], room[33];
    int l, head, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    token_and_head(s, blockIdx.x, l, head);
    load_query(s, l, head, query);
    int past = *s.position, keys = past + l + 1, all = past + s.tokens;
    size_t kv_row = (size_t)s.kv_heads * s.head_dim, kv_column = (size_t)(head / (s.heads / s.kv_heads)) * s.head_dim;
    float *weights = s.record + ((size_t)l * s.heads + head) * all;
    bool quads = in_quads(s);
    float most = NOTHING;
    for (int tile = warp; tile * 32 < keys; tile += WARPS) {
        int count = min(32, keys - tile * 32), key = key_of_lane(lane);
        float score = score_of_lane(s, query, s.keys + (size_t)tile * 32 * kv_row + kv_column, kv_row, count, quads, lane);
        if (key < count) weights[tile * 32 + key] = score;
        most = fmaxf(most, score);
    }
    most = most_of_warp(most);
    if (lane == 0) mosts[warp] = most;
    __syncthreads(); // now every thread sees all scores, too
    for (int w = 0; w < WARPS; w++) most = fmaxf(most, mosts[w]);
    float base = base_of(most), sum = 0.0f;
    for (int m = threadIdx.x; m < keys; m += 32 * WARPS) {
        float weight = expf(weights[m] - base);
        weights[m] = weight;
        sum += weight;
    }
    sum = sum_of_block(sum, room);
    for (int m = threadIdx.x; m < all; m += 32 * WARPS) weights[m] = m < keys ? weights[m] / sum : 0.0f;
}
