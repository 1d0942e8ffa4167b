// The small stages between the projections: embedding, norms, the short convolution, gates, and the choice of a token.
// Each reads its input once and writes its output once; none is worth more than that.

struct EmbedArgs {
    const int *ids;    // [l]
    const void *table; // [v, e]
    float *x;          // [l, e]
    int tokens, width;
};

template <typename W> __device__ __forceinline__ void embed(const EmbedArgs &p) {
    const W *row = (const W *)p.table + (size_t)p.ids[blockIdx.x] * p.width;
    float *x = p.x + (size_t)blockIdx.x * p.width;
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) x[i] = to_float(row[i]);
}
extern "C" __global__ void embed_f32(EmbedArgs p) { embed<float>(p); }
extern "C" __global__ void embed_bf16(EmbedArgs p) { embed<bf16>(p); }

struct NormArgs {
    const float *x;      // [l, width], rows apart by x_row
    const float *weight; // [width] or null
    float *y;            // [l, width], rows apart by y_row; may be x
    int width, x_row, y_row;
    float eps;
    int has_norm, is_split;
};

// Writes values i and i + 1 of a row as two bf16 parts: `width` of the first, then `width` of what it leaves over.
__device__ __forceinline__ void store_split(float *row, int width, int i, float a, float b) {
    u32 first = pack_bf16(a, b);
    ((u32 *)row)[i / 2] = first;
    ((u32 *)row)[(width + i) / 2] =
        pack_bf16(a - __uint_as_float(first << 16), b - __uint_as_float(first & 0xffff0000u));
}

// y = x / sqrt(mean(x^2) + eps) * weight, or x itself, whole or in two parts; a block a row, and y may be x: a row waits in
// registers until all of it has been read.
extern "C" __global__ void __launch_bounds__(256) rms_norm(NormArgs p) {
    __shared__ float room[33];
    const float *x = p.x + (size_t)blockIdx.x * p.x_row;
    float *y = p.y + (size_t)blockIdx.x * p.y_row;
    float squares = 0.0f;
    constexpr int HELD = 4; // pairs of a thread that stay in registers
    float2 held[HELD];
    bool is_paired = p.width % 2 == 0 && p.x_row % 2 == 0 && p.y_row % 2 == 0 && p.width <= HELD * 2 * (int)blockDim.x &&
                     ((u64)p.x | (u64)p.y) % 8 == 0;
    if (is_paired) {
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            int i = 2 * (k * blockDim.x + threadIdx.x);
            if (i >= p.width) continue;
            held[k] = *(const float2 *)(x + i);
            squares = fmaf(held[k].x, held[k].x, fmaf(held[k].y, held[k].y, squares));
        }
    } else {
        for (int i = threadIdx.x; i < p.width; i += blockDim.x) squares += x[i] * x[i];
    }
    // Also the barrier behind which a row may be overwritten.
    float scale = rsqrtf(sum_of_block(squares, room) / p.width + p.eps);
    if (!p.has_norm) scale = 1.0f;
    if (!is_paired) {
        for (int i = threadIdx.x; i < p.width; i += blockDim.x) y[i] = x[i] * scale * (p.weight ? p.weight[i] : 1.0f);
        return;
    }
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int i = 2 * (k * blockDim.x + threadIdx.x);
        if (i >= p.width) continue;
        float2 v = {held[k].x * scale, held[k].y * scale};
        if (p.weight) v.x *= p.weight[i], v.y *= p.weight[i + 1];
        if (p.is_split)
            store_split(y, p.width, i, v.x, v.y);
        else
            *(float2 *)(y + i) = v;
    }
}

struct ConvArgs {
    const float *x;      // [l, channels], rows apart by x_row
    const float *weight; // [channels, k]; the last tap meets the current token
    const float *bias;   // [channels] or null
    float *window;       // [channels, k]: the last k inputs, oldest first
    float *u;            // [l, channels]
    int tokens, channels, taps, x_row, u_row;
    int spare;
};

// Input `l` of a channel, counted from the chunk's first token; before it, what the window remembers.
__device__ __forceinline__ float conv_input(const ConvArgs &p, int channel, int l) {
    return l >= 0 ? p.x[(size_t)l * p.x_row + channel] : p.window[(size_t)channel * p.taps + p.taps + l];
}

// Tokens of a thread.
#define CONV_TOKENS 8

// u = silu(bias + sum_j weight[j] * x[l - k + 1 + j]). Four taps, which most models have, slide through registers: an input is
// read once.
extern "C" __global__ void conv_silu(ConvArgs p) {
    int channel = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * CONV_TOKENS;
    if (channel >= p.channels) return;
    float bias = p.bias ? p.bias[channel] : 0.0f;
    const float *weight = p.weight + (size_t)channel * p.taps;
    int end = min(first + CONV_TOKENS, p.tokens);
    if (p.taps == 4) {
        float x[CONV_TOKENS + 3];
#pragma unroll
        for (int j = 0; j < CONV_TOKENS + 3; j++) x[j] = first + j - 3 < end ? conv_input(p, channel, first + j - 3) : 0.0f;
        float w0 = weight[0], w1 = weight[1], w2 = weight[2], w3 = weight[3];
#pragma unroll
        for (int j = 0; j < CONV_TOKENS; j++)
            if (first + j < end)
                p.u[(size_t)(first + j) * p.u_row + channel] =
                    silu(fmaf(w3, x[j + 3], fmaf(w2, x[j + 2], fmaf(w1, x[j + 1], fmaf(w0, x[j], bias)))));
        return;
    }
    for (int l = first; l < end; l++) {
        float sum = bias;
        for (int j = 0; j < p.taps; j++) sum = fmaf(weight[j], conv_input(p, channel, l - p.taps + 1 + j), sum);
        p.u[(size_t)l * p.u_row + channel] = silu(sum);
    }
}

// Moves the window behind the chunk; a launch of its own, for the convolution reads the old one.
extern "C" __global__ void conv_shift(ConvArgs p) {
    int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= p.channels) return;
    // From the oldest on: what is read lies behind what is written.
    for (int j = 0; j < p.taps; j++)
        p.window[(size_t)channel * p.taps + j] = conv_input(p, channel, p.tokens - p.taps + j);
}

struct PairArgs {
    const float *z; // [l, width], rows apart by z_row
    float *y;       // [l, width], rows apart by y_row
    int tokens, width, z_row, y_row;
};

// y *= silu(z)
extern "C" __global__ void gate(PairArgs p) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, l = blockIdx.y;
    if (i < p.width) p.y[(size_t)l * p.y_row + i] *= silu(p.z[(size_t)l * p.z_row + i]);
}

// y += z
extern "C" __global__ void add(PairArgs p) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, l = blockIdx.y;
    if (i < p.width) p.y[(size_t)l * p.y_row + i] += p.z[(size_t)l * p.z_row + i];
}

// y = softplus(z)
extern "C" __global__ void activate_delta(PairArgs p) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, l = blockIdx.y;
    if (i < p.width) p.y[(size_t)l * p.y_row + i] = softplus(p.z[(size_t)l * p.z_row + i]);
}

struct EndArgs {
    const float *scores; // [v], begins on 16 bytes
    int *id, *seen;      // of the device, and where the machine sees it
    int *position; // tokens read, kept on the device because a captured graph cannot be told
    int vocab, tokens;
};

// Fours of scores of a thread that are under way at once.
#define SCORES_AHEAD 7

// Ends a pass: the first of the largest scores (NaN never wins, and of nothing but NaN the first is taken), and the count.
// One block of 1024.
extern "C" __global__ void __launch_bounds__(1024) end_pass(EndArgs p) {
    __shared__ float best[32];
    __shared__ int where[32];
    wait_for_previous();
    float most = -__int_as_float(0x7f800000);
    int at = 0, fours = p.vocab / 4;
    // Rising indices and a strict comparison keep the first of equals.
    auto take = [&](float score, int index) {
        if (score > most) most = score, at = index;
    };
    for (int first = threadIdx.x; first < fours; first += SCORES_AHEAD * blockDim.x) {
        float4 scores[SCORES_AHEAD];
#pragma unroll
        for (int j = 0; j < SCORES_AHEAD; j++) scores[j] = ((const float4 *)p.scores)[min(first + j * (int)blockDim.x, fours - 1)];
#pragma unroll
        for (int j = 0; j < SCORES_AHEAD; j++) {
            // The last four may come again, which changes nothing.
            int index = 4 * min(first + j * (int)blockDim.x, fours - 1);
            take(scores[j].x, index), take(scores[j].y, index + 1);
            take(scores[j].z, index + 2), take(scores[j].w, index + 3);
        }
    }
    int last = 4 * fours + threadIdx.x;
    if (last < p.vocab) take(p.scores[last], last);
    auto merge = [&](float other, int index) {
        if (other > most || (other == most && index < at)) most = other, at = index;
    };
    for (int o = 16; o > 0; o >>= 1) merge(__shfl_xor_sync(FULL_WARP, most, o), __shfl_xor_sync(FULL_WARP, at, o));
    if (threadIdx.x % 32 == 0) best[threadIdx.x / 32] = most, where[threadIdx.x / 32] = at;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    most = best[threadIdx.x], at = where[threadIdx.x];
    for (int o = 16; o > 0; o >>= 1) merge(__shfl_xor_sync(FULL_WARP, most, o), __shfl_xor_sync(FULL_WARP, at, o));
    if (threadIdx.x == 0) *p.id = at, *p.seen = at, *p.position += p.tokens;
}
