// The second half of a block: SwiGLU, and Jamba's mixture of experts around it.
//
//     share[l,x]  = softmax over x of logits[l,:], kept for the `top` largest, else 0 (the kept ones do not sum to one)
//     out[l,:]   += sum_x share[l,x] * down_x(silu(gate_x v_l) * up_x v_l)
//
// `route` gives the shares. `gather_rows` gives for every expert the tokens that use it, in rising order; `gather` brings their
// rows together, the matrix products and `swiglu` work on those alone, and `scatter_add` brings the results back. Everything
// stays on the device: how many rows an expert has is read there, so a launch has room for all tokens and blocks without a row
// leave at once.
//
// Versions:
//   v1: as above. The order of additions is fixed, so equal inputs give equal bits: lists are built by counting, without
//       atomics, and experts are added one launch after the other.

struct RouteArgs {
    const float *logits; // [l, logits_row], `experts` used
    float *shares;       // [l, experts]
    int tokens, experts, top, logits_row;
};

// A warp for each token, two experts a lane: up to 64 experts. Grid: l / 4 rounded up. Block: 128.
extern "C" __global__ void __launch_bounds__(128) route(RouteArgs s) {
    int l = blockIdx.x * 4 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (l >= s.tokens) return; // whole warps, and no barrier follows
    const float *logits = s.logits + (size_t)l * s.logits_row;
    float *shares = s.shares + (size_t)l * s.experts;
    const float NOTHING = __int_as_float(0xff800000); // -infinity
    float score[2], share[2];
    for (int i = 0; i < 2; i++) score[i] = lane + 32 * i < s.experts ? logits[lane + 32 * i] : NOTHING;
    float most = fmaxf(score[0], score[1]); // leaves NaN out, but its exponential is NaN again
    for (int o = 16; o > 0; o >>= 1) most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, o));
    for (int i = 0; i < 2; i++) share[i] = lane + 32 * i < s.experts ? expf(score[i] - most) : 0.0f;
    float total = sum_of_warp(share[0] + share[1]);
    // Behind the last expert: below every share.
    for (int i = 0; i < 2; i++) share[i] = lane + 32 * i < s.experts ? share[i] / total : -1.0f;
    bool broken = !(total == total); // all shares are NaN, and stay
    // Place of each share among all: how many are larger, or equal and before it.
    int ahead[2] = {0, 0};
    for (int j = 0; j < s.experts; j++) {
        float other = __shfl_sync(FULL_WARP, j < 32 ? share[0] : share[1], j & 31);
        for (int i = 0; i < 2; i++)
            ahead[i] += other > share[i] || (other == share[i] && j < lane + 32 * i);
    }
    for (int i = 0; i < 2; i++)
        if (lane + 32 * i < s.experts) shares[lane + 32 * i] = broken || ahead[i] < s.top ? share[i] : 0.0f;
}

struct GatherRowsArgs {
    const float *shares; // [l, experts]
    int *lists;          // [experts, l]: tokens in rising order, then -1
    int *counts;         // [experts]
    int tokens, experts;
};

// Grid: experts. Block: 256.
extern "C" __global__ void __launch_bounds__(256) gather_rows(GatherRowsArgs s) {
    __shared__ int in_warp[8];
    int x = blockIdx.x, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    int *list = s.lists + (size_t)x * s.tokens;
    int count = 0; // the same in every thread
    for (int first = 0; first < s.tokens; first += 256) {
        int l = first + threadIdx.x;
        // NaN is not equal to zero: it is not lost.
        bool used = l < s.tokens && s.shares[(size_t)l * s.experts + x] != 0.0f;
        u32 votes = __ballot_sync(FULL_WARP, used);
        if (lane == 0) in_warp[warp] = __popc(votes);
        __syncthreads();
        int before = count + __popc(votes & ((1u << lane) - 1));
        for (int w = 0; w < 8; w++) {
            if (w < warp) before += in_warp[w];
            count += in_warp[w];
        }
        if (used) list[before] = l;
        __syncthreads(); // before the counts are overwritten
    }
    for (int i = count + threadIdx.x; i < s.tokens; i += 256) list[i] = -1;
    if (threadIdx.x == 0) s.counts[x] = count;
}

struct GatherArgs {
    const float *from; // [l, from_row], `width` used
    const int *lists;  // [experts, l]
    const int *counts; // [experts]
    float *rows;       // [l, width]: the first counts[expert] are written
    int tokens, width, expert, from_row;
};

// Row i of the result is row lists[expert, i]. Grid: (rows, columns), any: blocks take what the grid leaves over. Block: 256.
extern "C" __global__ void __launch_bounds__(256) gather(GatherArgs s) {
    int count = s.counts[s.expert];
    const int *list = s.lists + (size_t)s.expert * s.tokens;
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        const float *from = s.from + (size_t)list[i] * s.from_row;
        float *to = s.rows + (size_t)i * s.width;
        for (int d = blockIdx.y * 256 + threadIdx.x; d < s.width; d += gridDim.y * 256) to[d] = from[d];
    }
}

struct ScatterAddArgs {
    const float *rows;   // [l, width], the first counts[expert] are read
    const float *shares; // [l, experts]
    const int *lists;    // [experts, l]
    const int *counts;   // [experts]
    float *out;          // [l, out_row], `width` used
    int tokens, width, experts, expert, out_row, unused;
};

// out[lists[expert, i], :] += share * rows[i, :]. A token is in a list once, so no two blocks write the same. Geometry as gather.
extern "C" __global__ void __launch_bounds__(256) scatter_add(ScatterAddArgs s) {
    int count = s.counts[s.expert];
    const int *list = s.lists + (size_t)s.expert * s.tokens;
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        int l = list[i];
        float share = s.shares[(size_t)l * s.experts + s.expert];
        const float *from = s.rows + (size_t)i * s.width;
        float *to = s.out + (size_t)l * s.out_row;
        for (int d = blockIdx.y * 256 + threadIdx.x; d < s.width; d += gridDim.y * 256) to[d] += share * from[d];
    }
}

struct SwigluArgs {
    const float *gate; // [rows, gate_row]
    float *up;         // [rows, up_row], overwritten
    const int *count;  // rows in use, or null: all
    int rows, width, gate_row, up_row;
};

// up = silu(gate) * up. Geometry as gather.
extern "C" __global__ void __launch_bounds__(256) swiglu(SwigluArgs s) {
    int rows = s.count ? min(*s.count, s.rows) : s.rows;
    for (int i = blockIdx.x; i < rows; i += gridDim.x) {
        const float *gate = s.gate + (size_t)i * s.gate_row;
        float *up = s.up + (size_t)i * s.up_row;
        for (int d = blockIdx.y * 256 + threadIdx.x; d < s.width; d += gridDim.y * 256) up[d] = silu(gate[d]) * up[d];
    }
}
