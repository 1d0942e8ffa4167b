// One token through all blocks of a Mamba-1 model in one launch, whose thread blocks stay: what matvec and step.cu do in
// four launches for each block of the model.
//
// The end of a launch and the beginning of the next cost about 2.5 us, three times what there is to do for a token between
// them. Here every multiprocessor has one thread block with some channels of every layer, and the blocks pass on to each
// other what others need, four times a layer:
//
//   project_in   a block has the rows of its channels (x and z); u = silu(conv(x)) goes on to all who have a row of x_proj.
//   select       the first blocks have one: an entry of dt, B or C goes on to all.
//   scan         a warp has a channel: D = softplus(W_dt dt + b), h = exp(D A) h + D B u, and y = (C h + skip u) silu(z)
//                goes on.
//   project_out  a block has some rows: the stream with what they add goes on, and is what the next layer begins with.
//
// What goes on are packets of eight bytes, a value and its turn (the layer, counted over all launches), which one store
// writes whole. Who waits reads a packet until it has the turn: nothing is fenced, nothing cleared. A packet is overwritten
// a turn later by a block that holds what could only be made by those who had read it. Readers are spread over COPIES of
// the packets, so that they do not all queue for the same lines of the cache.
//
// Weights come through the copying unit (cp.async.bulk), asked for by a warp of their own as soon as the place of the layer
// before is free, IN_FLIGHT pieces at a time: loads of the threads would make the packets wait behind them. The products run
// on the tensor cores, with x as three bf16 columns that together are x (as in matmul.cu), for they need fewer instructions,
// and these are what the stages between two waits are made of.
//
// Needs a cooperative launch (all blocks there at once, or none) and Hopper or newer. Weights in bf16; token.rs says which
// shapes.

struct TokenLayer {
    const float *norm;                      // [e]
    const void *in_proj;                    // [2d, e]
    const float *in_bias;                   // [2d] or null
    const float *conv, *conv_bias;          // [d, 4]; [d] or null
    float *window;                          // [d, 4]
    const void *x_proj;                     // [r + 2n, d]
    const float *norm_dt, *norm_b, *norm_c; // [r], [n], [n] or null
    const void *dt_proj;                    // [d, r]
    const float *dt_bias, *a, *skip;        // [d], [d, n], [d]
    float *state;                           // [d, n]
    const void *out_proj;                   // [e, d]
    const float *out_bias;                  // [e] or null
    u64 spare;                              // copies come in 16 bytes
};

struct TokenArgs {
    const TokenLayer *layers;
    const int *id;
    const void *embedding;           // [v, e]
    float *x;                        // [e]: the stream behind the last layer
    u64 *u, *projected, *y, *stream; // packets: COPIES of [d], [r + 2n], [d], [e]
    u32 *launches;                   // so far
    int layer_count, width, channels, slots, rank;
    int own_channels, own_rows, own_selects; // of a block, out of d, e and r + 2n; the last ones have fewer
    int has_norm;                            // of dt, B and C
    float eps, inner_eps, per_width, per_rank, per_slot;
    // Bytes into shared memory; from conv_at on into what there is of each of two layers.
    int in_proj_at, out_proj_at, norm_at, x_at, y_at, in_sums_at, out_sums_at, values_at, small_at, small_bytes;
    int conv_at, window_at, conv_bias_at, x_proj_at, dt_proj_at, dt_bias_at, a_at, skip_at, state_at;
    int spare;
};

#define TOKEN_WARPS 24
#define TOKEN_THREADS (32 * TOKEN_WARPS) // and a warp that copies
#define COPIES 4
#define IN_FLIGHT 8
#define FIRST_LOOK 700 // clocks
// Entries of dt of a lane: ranks up to 128.
#define RANK_HELD 4

#if __CUDA_ARCH__ >= 900

// ---- waiting -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ u32 clock_of_chip() {
    u32 now;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(now)::"memory");
    return now;
}

// Of all who compute.
__device__ __forceinline__ void meet() { asm volatile("bar.sync 1, %0;" ::"n"(TOKEN_THREADS) : "memory"); }

// Two packets, once both have the turn.
__device__ __forceinline__ float2 await_pair(const u64 *packets, u32 turn) {
    u64 a, b;
    do asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(packets) : "memory");
    while ((u32)(a >> 32) != turn || (u32)(b >> 32) != turn);
    return make_float2(__uint_as_float((u32)a), __uint_as_float((u32)b));
}

// take(k, values k and k + 1) for all of an even number of packets, among the threads. They are just being made: they cannot
// be there sooner than FIRST_LOOK, and to look at them delays them.
template <typename F> __device__ __forceinline__ void await_all(const u64 *packets, int count, u32 turn, F take) {
    u32 begin = clock_of_chip();
    while (clock_of_chip() - begin < FIRST_LOOK) {}
#pragma unroll 1
    for (int k = 2 * threadIdx.x; k < count; k += 2 * TOKEN_THREADS) take(k, await_pair(packets + k, turn));
}

__device__ __forceinline__ void pass_on(u64 *packet, float value, u32 turn) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(packet), "l"((u64)turn << 32 | __float_as_uint(value))
                 : "memory");
}
// By one thread into all copies, `count` packets apart.
__device__ __forceinline__ void pass_on_all(u64 *packet, int count, float value, u32 turn) {
#pragma unroll
    for (int i = 0; i < COPIES; i++) pass_on(packet + (size_t)i * count, value, turn);
}

__device__ __forceinline__ void await_phase(u32 barrier, int parity) {
    asm volatile("{ .reg .pred p; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @!p bra AGAIN; }" ::"r"(
                     barrier),
                 "r"(parity)
                 : "memory");
}
__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// ---- what a block has --------------------------------------------------------------------------------------------

struct Own {
    int channels, first_channel, rows, first_row, selects, first_select;
};

__device__ __forceinline__ Own own_of(const TokenArgs &p) {
    Own own;
    int block = blockIdx.x;
    own.first_channel = block * p.own_channels, own.channels = min(p.own_channels, p.channels - own.first_channel);
    own.first_row = block * p.own_rows, own.rows = max(min(p.own_rows, p.width - own.first_row), 0);
    own.first_select = block * p.own_selects;
    own.selects = max(min(p.own_selects, p.rank + 2 * p.slots - own.first_select), 0);
    return own;
}

// In shared memory: the first product's weights are there, the second's; their places may be overwritten; pieces under way.
struct Barriers {
    u32 first_full, last_full, first_free, last_free, under_way;
};

// ---- the copying warp --------------------------------------------------------------------------------------------

// Asks for pieces, IN_FLIGHT at a time. Addresses and sizes are multiples of 16 bytes. A weight is read once a token: it
// goes first where the cache needs room.
struct Copier {
    u32 under_way;
    int count;
    u64 goes_first;
    __device__ __forceinline__ explicit Copier(u32 under_way) : under_way(under_way), count(0) {
        asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(goes_first));
    }
    __device__ __forceinline__ void ask(void *to, const void *from, int bytes) {
        u32 barrier = under_way + 8 * (count % IN_FLIGHT);
        if (count >= IN_FLIGHT) await_phase(barrier, count / IN_FLIGHT - 1 & 1);
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                     "[%0], [%1], %2, [%3], %4;" ::"r"((u32)__cvta_generic_to_shared(to)),
                     "l"(from), "r"(bytes), "r"(barrier), "l"(goes_first)
                     : "memory");
        count++;
    }
    // Rows of `in` values get 16 bytes more, so that they begin in different banks.
    __device__ __forceinline__ void ask_rows(bf16 *to, const bf16 *from, int rows, int in) {
#pragma unroll 1
        for (int row = 0; row < rows; row++) ask(to + row * (in + 8), from + (size_t)row * in, in * 2);
    }
    __device__ __forceinline__ void announce(u32 full) {
#pragma unroll 1
        for (int i = max(count - IN_FLIGHT, 0); i < count; i++)
            await_phase(under_way + 8 * (i % IN_FLIGHT), i / IN_FLIGHT & 1);
        arrive(full);
    }
};

__device__ __forceinline__ void bring_weights(const TokenArgs &p, const Own &own, const Barriers &barriers, char *room) {
    Copier copier(barriers.under_way);
    int e = p.width, d = p.channels, n = p.slots, r = p.rank, first = own.first_channel, bytes = own.channels * 4;
    bf16 *in_proj = (bf16 *)(room + p.in_proj_at);
#pragma unroll 1
    for (int layer = 0; layer < p.layer_count; layer++) {
        TokenLayer at = p.layers[layer];
        char *small = room + p.small_at + layer % 2 * p.small_bytes;
        if (layer > 0) await_phase(barriers.first_free, layer - 1 & 1);
        const bf16 *x_rows = (const bf16 *)at.in_proj + (size_t)first * e, *z_rows = x_rows + (size_t)d * e;
        copier.ask_rows(in_proj, x_rows, own.channels, e);
        copier.ask_rows(in_proj + own.channels * (e + 8), z_rows, own.channels, e);
        copier.ask(room + p.norm_at, at.norm, e * 4);
        copier.ask(small, p.layers + layer, sizeof(TokenLayer));
        copier.ask(small + p.conv_at, at.conv + first * 4, bytes * 4);
        copier.ask(small + p.window_at, at.window + first * 4, bytes * 4);
        if (at.conv_bias) copier.ask(small + p.conv_bias_at, at.conv_bias + first, bytes);
        if (own.selects > 0)
            copier.ask(small + p.x_proj_at, (const bf16 *)at.x_proj + (size_t)own.first_select * d, own.selects * d * 2);
        copier.ask(small + p.dt_proj_at, (const bf16 *)at.dt_proj + (size_t)first * r, own.channels * r * 2);
        copier.ask(small + p.dt_bias_at, at.dt_bias + first, bytes);
        copier.ask(small + p.a_at, at.a + (size_t)first * n, bytes * n);
        copier.ask(small + p.skip_at, at.skip + first, bytes);
        copier.ask(small + p.state_at, at.state + (size_t)first * n, bytes * n);
        copier.announce(barriers.first_full);
        if (layer > 0) await_phase(barriers.last_free, layer - 1 & 1);
        copier.ask_rows((bf16 *)(room + p.out_proj_at), (const bf16 *)at.out_proj + (size_t)own.first_row * d, own.rows, d);
        copier.announce(barriers.last_full);
    }
}

// ---- products ----------------------------------------------------------------------------------------------------

// Two neighbours as three bf16 parts that together are they, in rows of `in + 8` values.
__device__ __forceinline__ void store_parts(bf16 *to, int in, float2 v) {
#pragma unroll
    for (int part = 0; part < 3; part++) {
        u32 packed = pack_bf16(v.x, v.y);
        *(u32 *)(to + part * (in + 8)) = packed;
        v.x -= __uint_as_float(packed << 16), v.y -= __uint_as_float(packed & 0xffff0000u);
    }
}

// Parts of a row's sum; those there are not stay zero.
#define PARTS TOKEN_WARPS

// What a lane does in the product of some rows: 16 rows a tile, as many warps a tile as there are, each with a part of `in`.
// Found once, for its divisions take longer than the product.
struct Share {
    u32 weights; // shared memory
    float *sums;
    int x, first, step;
    bool is_column, has_upper, has_lower;
};

__device__ __forceinline__ Share share_of(const bf16 *weights, float *sums, int rows, int in) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, tiles = max((rows + 15) / 16, 1), parts = TOKEN_WARPS / tiles;
    int tile = warp % tiles, part = warp / tiles, row = tile * 16 + lane / 4;
    int line = min(tile * 16 + lane % 16, max(rows - 1, 0));
    bool is_working = part < parts && rows > 0, has_sums = is_working && lane % 4 == 0;
    Share share;
    share.weights = (u32)__cvta_generic_to_shared(weights + line * (in + 8) + lane / 16 * 8);
    share.sums = sums + row * PARTS + part;
    share.x = min(lane / 4, 2) * (in + 8) + lane % 4 * 2;
    share.first = is_working ? part * 16 : in, share.step = parts * 16;
    share.is_column = lane / 4 < 3, share.has_upper = has_sums && row < rows, share.has_lower = has_sums && row + 8 < rows;
    return share;
}

__device__ __forceinline__ void multiply(const Share &share, const bf16 *x, int in) {
    const bf16 *at = x + share.x;
    float sum[4] = {};
#pragma unroll 4
    for (int k = share.first; k < in; k += share.step) {
        u32 a[4], b0 = *(const u32 *)(at + k), b1 = *(const u32 *)(at + k + 8);
        if (!share.is_column) b0 = b1 = 0;
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                     : "r"(share.weights + k * 2));
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    // Lane 4g has columns 0 and 1 of rows g and g + 8, lane 4g + 1 column 2 and one of zeros.
    float upper = sum[0] + sum[1], lower = sum[2] + sum[3];
    upper += __shfl_xor_sync(FULL_WARP, upper, 1), lower += __shfl_xor_sync(FULL_WARP, lower, 1);
    if (share.has_upper) share.sums[0] = upper;
    if (share.has_lower) share.sums[8 * PARTS] = lower;
}

__device__ __forceinline__ float sum_parts(const float *parts) {
    float4 v = ((const float4 *)parts)[0];
#pragma unroll
    for (int i = 1; i < PARTS / 4; i++) {
        float4 more = ((const float4 *)parts)[i];
        v.x += more.x, v.y += more.y, v.z += more.z, v.w += more.w;
    }
    return (v.x + v.y) + (v.z + v.w);
}

// ---- stages ------------------------------------------------------------------------------------------------------

// Of a thread that has a row of in_proj: x of a channel, or z.
struct Row {
    float4 taps, window;
    float bias, conv_bias;
};

__device__ __forceinline__ Row row_of(const TokenArgs &p, const Own &own, const char *small, int channel, bool is_x) {
    const TokenLayer &at = *(const TokenLayer *)small;
    Row row;
    row.taps = ((const float4 *)(small + p.conv_at))[channel], row.window = ((const float4 *)(small + p.window_at))[channel];
    row.conv_bias = at.conv_bias ? ((const float *)(small + p.conv_bias_at))[channel] : 0.0f;
    row.bias = at.in_bias ? at.in_bias[(is_x ? 0 : p.channels) + own.first_channel + channel] : 0.0f;
    return row;
}

// u of the block's channels to all and to `u`, silu(z) to `gates`.
__device__ __forceinline__ void convolve(const TokenArgs &p, const Own &own, const Row &row, const float *sums,
                                         const float *squares, float *u, float *gates, float *window, u32 turn) {
    int thread = threadIdx.x;
    if (thread >= 2 * own.channels) return;
    bool is_x = thread < own.channels;
    float x = sum_parts(sums + thread * PARTS) * rsqrtf(fmaf(sum_parts(squares), p.per_width, p.eps)) + row.bias;
    float convolved = fmaf(row.taps.y, row.window.z, fmaf(row.taps.x, row.window.y, row.conv_bias));
    convolved = fmaf(row.taps.w, x, fmaf(row.taps.z, row.window.w, convolved));
    float active = silu(is_x ? convolved : x);
    if (is_x) {
        int channel = own.first_channel + thread;
        pass_on_all(p.u + channel, p.channels, active, turn);
        u[thread] = active;
        ((float4 *)window)[channel] = make_float4(row.window.y, row.window.z, row.window.w, x);
    } else {
        gates[thread - own.channels] = active;
    }
}

// The block's rows of x_proj.
__device__ __forceinline__ void select_own(const TokenArgs &p, const Own &own, const bf16 *x_proj, const u64 *u, float *sums,
                                           u32 turn) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, d = p.channels;
#pragma unroll 1
    for (int select = 0; select < own.selects; select++) {
        const bf16 *weights = x_proj + (size_t)select * d;
        float sum = 0.0f;
        await_all(u, d, turn, [&](int k, float2 v) {
            u32 pair = *(const u32 *)(weights + k);
            sum = fmaf(__uint_as_float(pair << 16), v.x, fmaf(__uint_as_float(pair & 0xffff0000u), v.y, sum));
        });
        sum = sum_of_warp(sum);
        if (lane == 0) sums[warp] = sum;
        meet();
        if (warp == 0 && lane < COPIES)
            pass_on(p.projected + (size_t)lane * (p.rank + 2 * p.slots) + own.first_select + select, sum_parts(sums), turn);
        if (select + 1 < own.selects) meet();
    }
}

// Of a warp's channel, a slot a lane.
struct Channel {
    float dt[RANK_HELD], bias, a, h, skip, u, gate;
};

__device__ __forceinline__ Channel channel_of(const TokenArgs &p, const char *small, int channel, int slot) {
    int lane = threadIdx.x % 32;
    Channel c;
#pragma unroll
    for (int j = 0; j < RANK_HELD; j++) {
        int k = lane + 32 * j;
        c.dt[j] = k < p.rank ? to_float(((const bf16 *)(small + p.dt_proj_at))[channel * p.rank + k]) : 0.0f;
    }
    c.bias = ((const float *)(small + p.dt_bias_at))[channel], c.skip = ((const float *)(small + p.skip_at))[channel];
    c.a = ((const float *)(small + p.a_at))[channel * p.slots + slot] * LOG2E;
    c.h = ((const float *)(small + p.state_at))[channel * p.slots + slot];
    return c;
}

// What the scan of a channel gives; its h becomes that behind the token.
__device__ __forceinline__ float scan(const TokenArgs &p, Channel &c, const TokenLayer &at, const float *projected,
                                      int slot) {
    int lane = threadIdx.x % 32;
    bool is_slot = lane < p.slots;
    float step = 0.0f, square = 0.0f, b = projected[p.rank + slot], read = projected[p.rank + p.slots + slot];
#pragma unroll
    for (int j = 0; j < RANK_HELD; j++) {
        int k = lane + 32 * j;
        if (k >= p.rank) continue;
        float dt = projected[k];
        square = fmaf(dt, dt, square);
        step = fmaf(c.dt[j], p.has_norm && at.norm_dt ? dt * at.norm_dt[k] : dt, step);
    }
    step = sum_of_warp(step);
    if (p.has_norm) {
        step *= rsqrtf(fmaf(sum_of_warp(square), p.per_rank, p.inner_eps));
        b *= rsqrtf(fmaf(sum_of_warp(is_slot ? b * b : 0.0f), p.per_slot, p.inner_eps));
        read *= rsqrtf(fmaf(sum_of_warp(is_slot ? read * read : 0.0f), p.per_slot, p.inner_eps));
        if (at.norm_b) b *= at.norm_b[slot];
        if (at.norm_c) read *= at.norm_c[slot];
    }
    step = softplus(step + c.bias);
    c.h = fmaf(exp2_unit(step * c.a), c.h, step * c.u * b);
    float y = sum_of_warp(is_slot ? read * c.h : 0.0f);
    return fmaf(c.skip, c.u, y) * c.gate;
}

// Where things are in shared memory, and which copy of the packets the block reads.
struct Place {
    bf16 *xs, *ys;
    float *in_sums, *out_sums, *squares, *selected, *u, *gates, *projected;
    const float *norm;
    const u64 *all_u, *all_projected, *all_y, *all_stream;
};

__device__ __forceinline__ Place place_of(const TokenArgs &p, char *room) {
    Place at;
    at.xs = (bf16 *)(room + p.x_at), at.ys = (bf16 *)(room + p.y_at), at.norm = (const float *)(room + p.norm_at);
    at.in_sums = (float *)(room + p.in_sums_at), at.out_sums = (float *)(room + p.out_sums_at);
    at.squares = (float *)(room + p.values_at), at.selected = at.squares + PARTS, at.u = at.selected + PARTS;
    at.gates = at.u + p.own_channels, at.projected = at.gates + p.own_channels;
    size_t copy = blockIdx.x % COPIES, selects = p.rank + 2 * p.slots;
    at.all_u = p.u + copy * p.channels, at.all_projected = p.projected + copy * selects;
    at.all_y = p.y + copy * p.channels, at.all_stream = p.stream + copy * p.width;
    return at;
}

// The stream times the norm's weights to xs, where the first layer begins with the token's embedding; the thread's share of
// the sum of squares.
__device__ __forceinline__ float take_stream(const TokenArgs &p, const Place &at, const bf16 *embedded, bool is_first,
                                             u32 turn) {
    float square = 0.0f;
    auto take = [&](int k, float2 x) {
        square = fmaf(x.x, x.x, fmaf(x.y, x.y, square));
        store_parts(at.xs + k, p.width, make_float2(x.x * at.norm[k], x.y * at.norm[k + 1]));
    };
    if (!is_first) {
        await_all(at.all_stream, p.width, turn - 1, take);
        return square;
    }
    for (int k = 2 * threadIdx.x; k < p.width; k += 2 * TOKEN_THREADS)
        take(k, make_float2(to_float(embedded[k]), to_float(embedded[k + 1])));
    return square;
}

// The warp's channel, once dt, B and C are there.
__device__ __forceinline__ void scan_own(const TokenArgs &p, const Own &own, const Place &at, const char *small, u32 turn) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n = p.slots, slot = min(lane, n - 1);
    const TokenLayer &layer = *(const TokenLayer *)small;
    Channel channel = {};
    if (warp < own.channels) channel = channel_of(p, small, warp, slot);
    await_all(at.all_projected, p.rank + 2 * n, turn, [&](int k, float2 v) { *(float2 *)(at.projected + k) = v; });
    meet();
    if (warp >= own.channels) return;
    channel.u = at.u[warp], channel.gate = at.gates[warp];
    float y = scan(p, channel, layer, at.projected, slot);
    if (lane < COPIES) pass_on(p.y + (size_t)lane * p.channels + own.first_channel + warp, y, turn);
    if (lane < n) layer.state[(size_t)(own.first_channel + warp) * n + slot] = channel.h;
}

__device__ __forceinline__ void compute(const TokenArgs &p, const Own &own, const Barriers &barriers, char *room) {
    int thread = threadIdx.x, warp = thread / 32, e = p.width, d = p.channels;
    Place at = place_of(p, room);
    // Both kinds of sums, which lie behind each other.
    for (float *zero = at.in_sums + thread; zero < at.squares; zero += TOKEN_THREADS) *zero = 0.0f;
    Share in_share = share_of((const bf16 *)(room + p.in_proj_at), at.in_sums, 2 * own.channels, e);
    Share out_share = share_of((const bf16 *)(room + p.out_proj_at), at.out_sums, own.rows, d);
    bool is_x = thread < own.channels;
    int own_channel = is_x ? thread : min(max(thread - own.channels, 0), own.channels - 1);
    u32 turn = *(volatile u32 *)p.launches * (u32)p.layer_count + 1;
    const bf16 *embedded = (const bf16 *)p.embedding + (size_t)*p.id * e;
    float stream = thread < own.rows ? to_float(embedded[own.first_row + thread]) : 0.0f;

#pragma unroll 1
    for (int i = 0; i < p.layer_count; i++, turn++) {
        const char *small = room + p.small_at + i % 2 * p.small_bytes;
        const TokenLayer &layer = *(const TokenLayer *)small;
        bool is_last = i + 1 == p.layer_count;
        if (is_last) let_next_begin();

        await_phase(barriers.first_full, i & 1);
        float square = take_stream(p, at, embedded, i == 0, turn);
        meet();
        multiply(in_share, at.xs, e);
        square = sum_of_warp(square);
        if (thread % 32 == 0) at.squares[warp] = square;
        Row row = {};
        if (warp * 32 < 2 * own.channels) row = row_of(p, own, small, own_channel, is_x);
        meet();
        if (thread == 0) arrive(barriers.first_free);
        convolve(p, own, row, at.in_sums, at.squares, at.u, at.gates, layer.window, turn);

        select_own(p, own, (const bf16 *)(small + p.x_proj_at), at.all_u, at.selected, turn);
        scan_own(p, own, at, small, turn);

        if (own.rows > 0) await_all(at.all_y, d, turn, [&](int k, float2 y) { store_parts(at.ys + k, d, y); });
        await_phase(barriers.last_full, i & 1);
        meet();
        multiply(out_share, at.ys, d);
        float bias = thread < own.rows && layer.out_bias ? layer.out_bias[own.first_row + thread] : 0.0f;
        meet();
        if (thread == 0) arrive(barriers.last_free);
        if (thread >= own.rows) continue;
        stream += sum_parts(at.out_sums + thread * PARTS) + bias;
        if (is_last)
            p.x[own.first_row + thread] = stream;
        else
            pass_on_all(p.stream + own.first_row + thread, e, stream, turn);
    }
    // All blocks have long read it: each has passed on its part of the last y.
    if (blockIdx.x == 0 && thread == 0) *p.launches = *p.launches + 1;
}

#endif

extern "C" __global__ void __launch_bounds__(TOKEN_THREADS + 32, 1) token_bf16(TokenArgs p) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ float4 shared[];
    __shared__ u64 phases[4 + IN_FLIGHT];
    u32 first = (u32)__cvta_generic_to_shared(phases);
    Barriers barriers = {first, first + 8, first + 16, first + 24, first + 32};
    if (threadIdx.x < 4 + IN_FLIGHT)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(first + 8 * threadIdx.x) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    __syncthreads();
    Own own = own_of(p);
    if (threadIdx.x < TOKEN_THREADS)
        compute(p, own, barriers, (char *)shared);
    else if (threadIdx.x == TOKEN_THREADS)
        bring_weights(p, own, barriers, (char *)shared);
#endif
}
