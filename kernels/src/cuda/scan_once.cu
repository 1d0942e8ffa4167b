// v5 of the selective scan (scan.cu has the formula, and v1 to v3), for few channels or short sequences: 16 slots, a
// softplus, a gate, nothing recorded, f32, groups of channels in fours, and rows of u, delta, z, B and C that begin on 16
// bytes.
//
// v3 needs three launches. Here it is one, whose blocks are all on the chip at once (a cooperative launch), so that they can
// wait for one another:
//   1. A block has a run of tokens of some channels, a thread a segment of it. It finds what the segment leaves if it began
//      at zero, and its sum of D.
//   2. The block composes its segments to one (what it leaves, and its decay, for every channel and slot: a row) and
//      publishes that. Every row has an owner among the blocks, which threads the true states through all blocks and
//      publishes them.
//   3. Every thread goes over its segment again from its true beginning, with y.
// What is published is 8 bytes, a value and the number of the launch, which are seen together or not at all: nothing has to
// be cleared between launches, and no flag has to be waited for before the value is asked for.
//
// Two forms. In the resident one a block's operands stay in its shared memory and are read once; D replaces delta there, and
// the gates are made of z while others are waited for. In the streamed one, for any length, they are read for both passes.

#define ONCE_THREADS 512
#define ONCE_TILE 4     // tokens that are copied at once
#define ONCE_BLOCKS 160 // of a sequence, at most

// 16 bytes, or zeros where nothing is there. What is read for the last time goes first where the cache needs room: the next
// of its like then takes its place, and what was written before need not go to memory for it.
template <bool IS_LAST>
__device__ __forceinline__ void copy_or_zero(u32 to, const void *from, bool is_there, u64 goes_first) {
    int size = is_there ? 16 : 0;
    if (IS_LAST)
        asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(to), "l"(from),
                     "r"(size), "l"(goes_first)
                     : "memory");
    else
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(size) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until no more than so many groups of this thread are under way; what the warp's other lanes copied is there too.
template <int UNDER_WAY> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(UNDER_WAY) : "memory");
    __syncwarp();
}

__device__ __forceinline__ void load_slots(const float *from, float (&to)[16]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float4 v = ((const float4 *)from)[i];
        to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
    }
}
__device__ __forceinline__ void store_slots(float *to, const float (&h)[16]) {
#pragma unroll
    for (int i = 0; i < 4; i++) ((float4 *)to)[i] = make_float4(h[4 * i], h[4 * i + 1], h[4 * i + 2], h[4 * i + 3]);
}
// Loads of global memory, asked for before the copies that follow.
__device__ __forceinline__ void load_slots_now(const float *from, float (&to)[16]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
        asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(to[4 * i]), "=f"(to[4 * i + 1]), "=f"(to[4 * i + 2]), "=f"(to[4 * i + 3])
                     : "l"(from + 4 * i)
                     : "memory");
}
__device__ __forceinline__ void load_held(const float *from, float (&to)[1]) { to[0] = *from; }
__device__ __forceinline__ void load_held(const float *from, float (&to)[2]) {
    float2 v = *(const float2 *)from;
    to[0] = v.x, to[1] = v.y;
}

// Fours of a channel's slots change places among each other by channel, so that neither who writes a four nor who reads one
// slot of many channels waits for a bank.
__device__ __forceinline__ int place_of_four(int channel, int four) { return channel * 16 + (four ^ (channel / 2 & 3)) * 4; }
__device__ __forceinline__ int place_of_row(int row) { return place_of_four(row / 16, row % 16 / 4) + row % 4; }
__device__ __forceinline__ void store_fours(float *to, int channel, const float (&h)[16]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
        *(float4 *)(to + place_of_four(channel, i)) = make_float4(h[4 * i], h[4 * i + 1], h[4 * i + 2], h[4 * i + 3]);
}
__device__ __forceinline__ void load_fours(const float *from, int channel, float (&h)[16]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float4 v = *(const float4 *)(from + place_of_four(channel, i));
        h[4 * i] = v.x, h[4 * i + 1] = v.y, h[4 * i + 2] = v.z, h[4 * i + 3] = v.w;
    }
}

// A value and the number of the launch it belongs to.
__device__ __forceinline__ u64 packet(float value, u32 launch) { return (u64)launch << 32 | __float_as_uint(value); }
__device__ __forceinline__ bool is_of(u64 packet, u32 launch) { return (u32)(packet >> 32) == launch; }
__device__ __forceinline__ float value_of(u64 packet) { return __uint_as_float((u32)packet); }
__device__ __forceinline__ void publish(u64 *to, u64 x) {
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(x) : "memory");
}
__device__ __forceinline__ void publish(u64 *to, u64 x, u64 y) {
    asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(x), "l"(y) : "memory");
}
__device__ __forceinline__ void look(const u64 *from, u64 &x) {
    asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(x) : "l"(from) : "memory");
}
__device__ __forceinline__ void look(const u64 *from, u64 &x, u64 &y) {
    asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(x), "=l"(y) : "l"(from) : "memory");
}

// Where the blocks of a sequence (some channels of a batch) tell one another what they found. `meet`, zeros before the first
// launch, has a counter in its first 256 bytes, then packets [sequence][owner][block][row of the owner][state, decay], then
// [sequence][block][row] of true states.
template <int ROWS> struct Meeting {
    u64 *left, *begun;
    int blocks, owned_log, width_log; // rows of an owner, lanes that share a row: powers of two
    u32 launch;

    // The number of this launch, never 0, for one thread of a block: all blocks together add 2^16 to the counter.
    static __device__ __forceinline__ u32 number(u64 *meet) {
        u32 all = gridDim.x * gridDim.y * gridDim.z;
        u64 share = blockIdx.x + blockIdx.y + blockIdx.z == 0 ? 65537 - all : 1, before;
        // threadIdx.y is 0. The compiler does not know, and else would have the warp share an addition, and wait for it.
        asm volatile("atom.relaxed.gpu.global.add.u64 %0, [%1], %2;"
                     : "=l"(before)
                     : "l"(meet + threadIdx.y), "l"(share)
                     : "memory");
        return (u32)(before >> 16) | 1u << 31;
    }
    __device__ __forceinline__ Meeting(u64 *meet, u32 launch) : blocks(gridDim.x), launch(launch) {
        size_t sequence = blockIdx.z * gridDim.y + blockIdx.y, sequences = gridDim.y * gridDim.z;
        left = meet + 32 + sequence * blocks * (2 * ROWS);
        begun = meet + 32 + sequences * blocks * (2 * ROWS) + sequence * blocks * ROWS;
        int blocks_log = 32 - __clz(blocks - 1);
        bool is_power = 1 << blocks_log == blocks;
        owned_log = 31 - __clz(max((ROWS << !is_power) >> blocks_log, 1));
        width_log = min(blocks_log, 5);
    }
    __device__ __forceinline__ void tell(int row, float state, float decay) const {
        int owner = row >> owned_log, own = row & ((1 << owned_log) - 1);
        u64 *to = left + (size_t)(((owner * blocks + blockIdx.x) << owned_log) + own) * 2;
        publish(to, packet(state, launch), packet(decay, launch));
    }
    // For all rows the block owns, from `initial` (null: zeros) before the first block; rows from `live` on begin at zero.
    __device__ __forceinline__ void thread_states(const float *initial, int live) const {
        constexpr int MOST = ONCE_BLOCKS / 32; // blocks of a lane
        int width = 1 << width_log, each = (blocks + width - 1) >> width_log;
        int at = threadIdx.x & (width - 1), first = at * each;
        if ((int)blockIdx.x << owned_log >= ROWS) return;
#pragma unroll 1
        for (int t = threadIdx.x; t < 1 << (owned_log + width_log); t += ONCE_THREADS) {
            int own = t >> width_log, row = (blockIdx.x << owned_log) + own;
            const u64 *from = left + (size_t)(((blockIdx.x * blocks + first) << owned_log) + own) * 2;
            u64 states[MOST], decays[MOST];
            float h0 = initial && row < live ? initial[row] : 0.0f;
            bool is_here;
            do {
                is_here = true;
#pragma unroll
                for (int i = 0; i < MOST; i++) {
                    states[i] = packet(0.0f, launch), decays[i] = packet(1.0f, launch);
                    // Nothing follows the last block.
                    if (i < each && first + i < blocks - 1) look(from + (i << (owned_log + 1)), states[i], decays[i]);
                }
#pragma unroll
                for (int i = 0; i < MOST; i++)
                    is_here = is_here && is_of(states[i], launch) && is_of(decays[i], launch);
            } while (!is_here);
            __syncwarp();
            float state = 0.0f, decay = 1.0f;
#pragma unroll
            for (int i = 0; i < MOST; i++) {
                state = fmaf(value_of(decays[i]), state, value_of(states[i]));
                decay *= value_of(decays[i]);
            }
            for (int o = 1; o < width; o *= 2) {
                float x = __shfl_up_sync(FULL_WARP, state, o, width), y = __shfl_up_sync(FULL_WARP, decay, o, width);
                if (at >= o) state = fmaf(decay, x, state), decay *= y;
            }
            float x = __shfl_up_sync(FULL_WARP, state, 1, width), y = __shfl_up_sync(FULL_WARP, decay, 1, width);
            float now = at > 0 ? fmaf(y, h0, x) : h0;
#pragma unroll
            for (int i = 0; i < MOST; i++) {
                if (i < each && first + i < blocks) publish(begun + (size_t)(first + i) * ROWS + row, packet(now, launch));
                now = fmaf(value_of(decays[i]), now, value_of(states[i]));
            }
        }
    }
    // The block's true state of a row.
    __device__ __forceinline__ float hear(int row) const {
        const u64 *from = begun + (size_t)blockIdx.x * ROWS + row;
        u64 x;
        do look(from, x);
        while (!is_of(x, launch));
        return value_of(x);
    }
};

// How a block is laid out, and the shared memory it needs. HELD: channels of a thread, which stand beside each other.
template <int HELD_, int CHANNELS_, int RING_> struct OnceShape {
    static constexpr int N = 16, HELD = HELD_, CHANNELS = CHANNELS_, RING = RING_;
    static constexpr int LANES = CHANNELS / HELD, SUBS = 32 / LANES; // of a segment; segments of a warp
    static constexpr int SEGMENTS = ONCE_THREADS / LANES, ROWS = CHANNELS * N;
    // A warp has RING tiles: u, delta, z: [token][segment of the warp][channel], and B and C: [token][segment][slot].
    static constexpr int VALUES = ONCE_TILE * 32 * HELD, SLOTS = ONCE_TILE * SUBS * N, TILE = 3 * VALUES + 2 * SLOTS;
    static constexpr int U = 0, DELTA = VALUES, B = 2 * VALUES, Z = 2 * VALUES + SLOTS, C = 3 * VALUES + SLOTS;
    static constexpr int TILES = ONCE_THREADS / 32 * RING * TILE;
    // What segments leave, and their sums of log2(e) D; in the resident form also the states before the two halves of the
    // segments. What belongs to the second half lies 16 banks from what belongs to the first.
    static constexpr int SEGMENT = ROWS + CHANNELS, ENDS = SEGMENTS * SEGMENT + 16, STARTS = 2 * ROWS + 16;
    static constexpr int BYTES = (TILES + ENDS) * 4, RESIDENT_BYTES = BYTES + STARTS * 4;
};
typedef OnceShape<1, 16, 4> Resident;
typedef OnceShape<1, 16, 4> Streamed16;
typedef OnceShape<2, 32, 2> Streamed32;
static_assert(Resident::RESIDENT_BYTES == 200832, "a block's shared memory, as the host asks for it");
static_assert(Streamed16::BYTES == 198720 && Streamed32::BYTES == 200768, "likewise");

// The channels of a block.
template <int CHANNELS> struct OnceTile {
    int first, live, b_group, c_group; // the first channel, how many there are, and which B and C they have
    __device__ __forceinline__ OnceTile(const ScanArgs &p) : first(blockIdx.y * CHANNELS), b_group(0), c_group(0) {
        int tile = blockIdx.y;
        if (gridDim.y > p.tiles) {
            int group_start = tile / p.tiles * p.group_channels;
            tile %= p.tiles, first = group_start + tile * CHANNELS;
            b_group = group_start / p.b_channels, c_group = group_start / p.c_channels;
        }
        live = min(p.group_channels - tile * CHANNELS, CHANNELS);
    }
};

// Copies the operands of a warp, 16 bytes a lane: tokens `first` and the next of its segments into a tile (`slot`).
template <typename S> struct Copier {
    const float *u, *delta, *z, *b, *c;
    int u_row, delta_row, z_row, b_row, c_row; // bytes
    int u_left, b_left, segment;               // tokens, of where this lane copies from
    bool is_live;
    u32 target;
    u64 goes_first;

    // `begin`: where the warp's first segment does.
    __device__ __forceinline__ Copier(const ScanArgs &p, const OnceTile<S::CHANNELS> &of, int begin, const float *tiles)
        : segment(p.segment) {
        int lane = threadIdx.x % 32;
        constexpr int PIECES = S::CHANNELS / 4;
        size_t rows = (size_t)blockIdx.z * p.tokens;
        int u_at = begin + lane / PIECES % S::SUBS * p.segment + lane / PIECES / S::SUBS;
        int b_at = begin + lane / 4 % S::SUBS * p.segment + lane / 4 / S::SUBS;
        int piece = lane % PIECES * 4, slot = lane % 4 * 4;
        u_left = p.tokens - u_at, b_left = p.tokens - b_at, is_live = piece < of.live;
        u_row = p.u_row * 4, delta_row = p.delta_row * 4, z_row = p.z_row * 4, b_row = p.b_token * 4, c_row = p.c_token * 4;
        u = row_at((const float *)p.u + rows * p.u_row + of.first + piece, u_at, u_row);
        delta = row_at((const float *)p.delta + rows * p.delta_row + of.first + piece, u_at, delta_row);
        z = row_at((const float *)p.z + rows * p.z_row + of.first + piece, u_at, z_row);
        b = row_at((const float *)p.b + rows * p.b_token + (size_t)of.b_group * p.b_group + slot, b_at, b_row);
        c = row_at((const float *)p.c + rows * p.c_token + (size_t)of.c_group * p.c_group + slot, b_at, c_row);
        target = (u32)__cvta_generic_to_shared(tiles) + lane * 16;
        asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(goes_first));
        // Hidden from the optimiser, which would take the addresses apart again for every tile.
        asm("" : "+l"(u), "+r"(u_row));
        asm("" : "+l"(delta), "+r"(delta_row));
        asm("" : "+l"(z), "+r"(z_row));
        asm("" : "+l"(b), "+r"(b_row));
        asm("" : "+l"(c), "+r"(c_row));
    }
    template <bool IS_LAST>
    __device__ __forceinline__ void values(const float *from, int row, int part, int first, int slot) const {
        constexpr int STEP = ONCE_TILE / S::HELD; // tokens that a warp copies at once
#pragma unroll
        for (int i = 0; i < S::HELD; i++) {
            int l = first + i * STEP;
            copy_or_zero<IS_LAST>(target + (slot * S::TILE + part) * 4 + i * 512, row_at(from, l, row),
                                  is_live && first < segment && l < u_left, goes_first);
        }
    }
    template <bool IS_LAST>
    __device__ __forceinline__ void slots(const float *from, int row, int part, int first, int slot) const {
        constexpr int STEP = 8 / S::SUBS; // tokens that a warp copies at once
#pragma unroll
        for (int i = 0; i < ONCE_TILE / STEP; i++) {
            int l = first + i * STEP;
            copy_or_zero<IS_LAST>(target + (slot * S::TILE + part) * 4 + i * 512, row_at(from, l, row),
                                  first < segment && l < b_left, goes_first);
        }
    }
    template <bool IS_LAST> __device__ __forceinline__ void for_ends(int first, int slot) const {
        values<IS_LAST>(u, u_row, S::U, first, slot), values<IS_LAST>(delta, delta_row, S::DELTA, first, slot);
        slots<IS_LAST>(b, b_row, S::B, first, slot);
    }
    __device__ __forceinline__ void for_y(int first, int slot) const {
        values<true>(z, z_row, S::Z, first, slot), slots<true>(c, c_row, S::C, first, slot);
    }
};

__device__ __forceinline__ void scan_resident(const ScanArgs &p) {
    extern __shared__ float4 shared[];
    __shared__ u32 launch_number;
    typedef Resident S;
    constexpr int N = S::N, HALF = S::SEGMENTS / 2;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = lane % 16, own_segment = threadIdx.x / 16;
    OnceTile<S::CHANNELS> of(p);
    int first_channel = of.first, live = of.live;
    int segment = blockIdx.x * S::SEGMENTS + own_segment, d = first_channel + min(column, live - 1);
    int begin = segment * p.segment, left = p.tokens - begin;
    float *tiles = (float *)shared + warp * (S::RING * S::TILE), *ends = (float *)shared + S::TILES;
    float *starts = ends + S::ENDS;
    let_next_begin();
    wait_for_previous();
    float a[N], h[N], sum = 0.0f;
    load_slots_now(p.a + (size_t)d * N, a);
    float bias = p.bias ? p.bias[d] : 0.0f, skip = p.skip ? p.skip[d] : 0.0f;
    // The row a thread composes: two threads share it, a half of the segments each.
    int row = threadIdx.x / 2, half = threadIdx.x % 2, row_channel = row / N;
    float row_a = p.a[(size_t)(first_channel + min(row_channel, live - 1)) * N + row % N];
    u32 number = 0;
    // Before the copies: behind them it would wait, and the whole block for it (25.9 instead of 24.7 us).
    if (threadIdx.x == 0) number = Meeting<S::ROWS>::number(p.meet);
    Copier<S> copier(p, of, (blockIdx.x * S::SEGMENTS + warp * S::SUBS) * p.segment, tiles);
#pragma unroll
    for (int tile = 0; tile < S::RING; tile++) {
        copier.for_ends<true>(tile * ONCE_TILE, tile);
        commit_copies();
    }
#pragma unroll
    for (int n = 0; n < N; n++) h[n] = 0.0f;

    int tile_count = p.segment / ONCE_TILE;
#pragma unroll 1
    for (int tile = 0; tile < tile_count; tile++) {
        // z and C are asked for when u, delta and B of their tile are here: these are what all blocks wait for.
        wait_for_copies<S::RING - 1>();
        copier.for_y(tile * ONCE_TILE, tile);
        commit_copies();
        float *own = tiles + tile * S::TILE + lane;
        const float *write_row = tiles + tile * S::TILE + S::B + lane / 16 * N;
        float step[ONCE_TILE], x[ONCE_TILE];
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) {
            x[j] = own[S::U + j * 32];
            // A token behind the text's end leaves the state as it is.
            step[j] = select(tile * ONCE_TILE + j < left, softplus(own[S::DELTA + j * 32] + bias), 0.0f);
            own[S::DELTA + j * 32] = step[j];
            x[j] *= step[j];
            step[j] *= LOG2E; // A is not multiplied by it instead: the copies would wait for A
            sum += step[j];
        }
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) {
            float write[N];
            load_slots(write_row + j * 32, write);
#pragma unroll
            for (int n = 0; n < N; n++) h[n] = fmaf(exp2_unit(step[j] * a[n]), h[n], x[j] * write[n]);
        }
    }

    float *own_ends = ends + own_segment * S::SEGMENT + (own_segment >= HALF ? 16 : 0);
    store_fours(own_ends, column, h);
    own_ends[S::ROWS + column] = sum;
    if (threadIdx.x == 0) launch_number = number;
    __syncthreads();
    Meeting<S::ROWS> meeting(p.meet, launch_number);
    // Before each segment of the half: its state from a zero before the half, and the sum of log2(e) D since then.
    float before[HALF], sums[HALF], state = 0.0f, decay = 1.0f;
    float *of_half = ends + half * (HALF * S::SEGMENT + 16);
    float *of_row = of_half + place_of_four(row_channel, row % N / 4) + row % 4, *of_sums = of_half + S::ROWS + row_channel;
#pragma unroll
    for (int s = 0; s < HALF; s++) {
        before[s] = state, sums[s] = of_sums[s * S::SEGMENT];
        float of_segment = exp2_unit(row_a * sums[s]);
        state = fmaf(of_segment, state, of_row[s * S::SEGMENT]);
        decay *= of_segment;
    }
    float state_other = __shfl_xor_sync(FULL_WARP, state, 1), decay_other = __shfl_xor_sync(FULL_WARP, decay, 1);
    if (half == 0) meeting.tell(row, fmaf(decay_other, state, state_other), decay * decay_other);
    __syncwarp();
    sum = 0.0f;
#pragma unroll
    for (int s = 0; s < HALF; s++) {
        of_row[s * S::SEGMENT] = before[s];
        if (row % N == 0) of_sums[s * S::SEGMENT] = sum;
        sum += sums[s];
    }
    __syncthreads();
    size_t initial = ((size_t)blockIdx.z * p.channels + first_channel) * N;
    meeting.thread_states(p.initial ? p.initial + initial : nullptr, live * N);

    // While the others are waited for: the decay from the half's beginning to the segment, and the gates.
    float fade[N], fade_sum = own_ends[S::ROWS + column];
#pragma unroll
    for (int n = 0; n < N; n++) fade[n] = exp2_unit(fade_sum * a[n]);
    // Never so. The assembler, which else would move the exponentials behind the wait, to their use, sees a use here.
    if (meeting.launch == 0) {
#pragma unroll
        for (int n = 0; n < N; n++) ((volatile float *)starts)[column] = fade[n];
    }
    wait_for_copies<0>();
#pragma unroll 1
    for (int tile = 0; tile < tile_count; tile++) {
        float *own = tiles + tile * S::TILE + S::Z + lane;
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) own[j * 32] = silu(own[j * 32]);
    }
    float start = meeting.hear(row);
    if (half == 1) start = fmaf(decay_other, start, state_other);
    starts[half * (S::ROWS + 16) + place_of_four(row_channel, row % N / 4) + row % 4] = start;
    __syncthreads();
    load_fours(own_ends, column, h);
    float begun[N];
    load_fours(starts + (own_segment >= HALF ? S::ROWS + 16 : 0), column, begun);
#pragma unroll
    for (int n = 0; n < N; n++) h[n] = fmaf(fade[n], begun[n], h[n]);

    float *y = (float *)p.y + ((size_t)blockIdx.z * p.tokens + begin) * p.y_row + d;
    int y_row = p.y_row * 4;
    bool is_live = column < live;
    auto token = [&](const float *tile, int j, int l, const float (&decay)[N], float step) {
        const float *own = tile + lane + j * 32, *slots = tile + lane / 16 * N + j * 32;
        float x = own[S::U], gate = own[S::Z];
        float write[N], read[N], parts[2] = {skip * x, 0.0f}, written = step * x;
        load_slots(slots + S::B, write);
        load_slots(slots + S::C, read);
#pragma unroll
        for (int n = 0; n < N; n++) {
            h[n] = fmaf(decay[n], h[n], written * write[n]);
            parts[n % 2] = fmaf(read[n], h[n], parts[n % 2]);
        }
        float out[1] = {(parts[0] + parts[1]) * gate};
        store_if(is_live && l < left, row_at(y, l, y_row), out);
    };
#pragma unroll 1
    for (int tile = 0; tile < tile_count; tile++) {
        const float *at = tiles + tile * S::TILE;
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) {
            float step = at[S::DELTA + j * 32 + lane], scaled = step * LOG2E, decay[N];
#pragma unroll
            for (int n = 0; n < N; n++) decay[n] = exp2_unit(scaled * a[n]);
            token(at, j, tile * ONCE_TILE + j, decay, step);
        }
    }
    // The last segment of all; tokens behind the text's end have changed nothing.
    if (p.last && is_live && segment == (int)gridDim.x * S::SEGMENTS - 1)
        store_slots(p.last + initial + column * N, h);
}

template <typename S> __device__ __forceinline__ void scan_streamed(const ScanArgs &p) {
    extern __shared__ float4 shared[];
    __shared__ u32 launch_number;
    constexpr int N = S::N, HELD = S::HELD, AHEAD = S::RING - 1;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = lane % S::LANES * HELD;
    int own_segment = threadIdx.x / S::LANES;
    OnceTile<S::CHANNELS> of(p);
    int first_channel = of.first, live = of.live;
    int segment = blockIdx.x * S::SEGMENTS + own_segment, d = first_channel + min(column, live - HELD);
    int begin = segment * p.segment, left = p.tokens - begin;
    float *tiles = (float *)shared + warp * (S::RING * S::TILE), *ends = (float *)shared + S::TILES;
    let_next_begin();
    wait_for_previous();
    float a[HELD][N], h[HELD][N], sum[HELD] = {}, bias[HELD], skip[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        load_slots_now(p.a + (size_t)(d + i) * N, a[i]);
        bias[i] = p.bias ? p.bias[d + i] : 0.0f, skip[i] = p.skip ? p.skip[d + i] : 0.0f;
    }
    u32 number = 0;
    if (threadIdx.x == 0) number = Meeting<S::ROWS>::number(p.meet);
    Copier<S> copier(p, of, (blockIdx.x * S::SEGMENTS + warp * S::SUBS) * p.segment, tiles);
#pragma unroll
    for (int tile = 0; tile < AHEAD; tile++) {
        copier.template for_ends<false>(tile * ONCE_TILE, tile);
        commit_copies();
    }
#pragma unroll
    for (int i = 0; i < HELD; i++)
#pragma unroll
        for (int n = 0; n < N; n++) h[i][n] = 0.0f;

    int now = 0, next = AHEAD;
#pragma unroll 1
    for (int first = 0; first < p.segment; first += ONCE_TILE) {
        wait_for_copies<AHEAD - 1>();
        copier.template for_ends<false>(first + AHEAD * ONCE_TILE, next);
        commit_copies();
        const float *tile = tiles + now * S::TILE, *own = tile + lane * HELD, *slots = tile + lane / S::LANES * N;
        now = now == AHEAD ? 0 : now + 1, next = next == AHEAD ? 0 : next + 1;
        float step[ONCE_TILE][HELD], x[ONCE_TILE][HELD];
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) {
            load_held(own + S::U + j * 32 * HELD, x[j]);
            load_held(own + S::DELTA + j * 32 * HELD, step[j]);
#pragma unroll
            for (int i = 0; i < HELD; i++) {
                // A token behind the text's end leaves the state as it is.
                step[j][i] = select(first + j < left, softplus(step[j][i] + bias[i]), 0.0f);
                x[j][i] *= step[j][i];
                step[j][i] *= LOG2E;
                sum[i] += step[j][i];
            }
        }
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) {
            float write[N];
            load_slots(slots + S::B + j * S::SUBS * N, write);
#pragma unroll
            for (int i = 0; i < HELD; i++)
#pragma unroll
                for (int n = 0; n < N; n++)
                    h[i][n] = fmaf(exp2_unit(step[j][i] * a[i][n]), h[i][n], x[j][i] * write[n]);
        }
    }
    wait_for_copies<0>();
#pragma unroll
    for (int tile = 0; tile < AHEAD; tile++) {
        copier.template for_ends<true>(tile * ONCE_TILE, tile);
        copier.for_y(tile * ONCE_TILE, tile);
        commit_copies();
    }

    float *own_ends = ends + own_segment * S::SEGMENT;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        store_fours(own_ends, column + i, h[i]);
        own_ends[S::ROWS + column + i] = sum[i];
    }
    if (threadIdx.x == 0) launch_number = number;
    __syncthreads();
    Meeting<S::ROWS> meeting(p.meet, launch_number);
    size_t initial = ((size_t)blockIdx.z * p.channels + first_channel) * N;
    auto row_at_segment = [&](int row) { return ends + place_of_four(row / N, row % N / 4) + row % 4; };
    auto a_of_row = [&](int row) { return p.a[(size_t)(first_channel + min(row / N, live - 1)) * N + row % N]; };
#pragma unroll 1
    for (int row = threadIdx.x; row < S::ROWS; row += ONCE_THREADS) {
        const float *of_row = row_at_segment(row), *of_sums = ends + S::ROWS + row / N;
        float row_a = a_of_row(row), state = 0.0f, decay = 1.0f;
#pragma unroll 4
        for (int s = 0; s < S::SEGMENTS; s++) {
            float of_segment = exp2_unit(row_a * of_sums[s * S::SEGMENT]);
            state = fmaf(of_segment, state, of_row[s * S::SEGMENT]);
            decay *= of_segment;
        }
        meeting.tell(row, state, decay);
    }
    meeting.thread_states(p.initial ? p.initial + initial : nullptr, live * N);
    // A segment's true beginning takes the place of what it leaves.
#pragma unroll 1
    for (int row = threadIdx.x; row < S::ROWS; row += ONCE_THREADS) {
        float *of_row = row_at_segment(row), *of_sums = ends + S::ROWS + row / N;
        float row_a = a_of_row(row), state = meeting.hear(row);
#pragma unroll 4
        for (int s = 0; s < S::SEGMENTS; s++) {
            float next_state = fmaf(exp2_unit(row_a * of_sums[s * S::SEGMENT]), state, of_row[s * S::SEGMENT]);
            of_row[s * S::SEGMENT] = state;
            state = next_state;
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < HELD; i++) load_fours(own_ends, column + i, h[i]);

    float *y = (float *)p.y + ((size_t)blockIdx.z * p.tokens + begin) * p.y_row + d;
    int y_row = p.y_row * 4;
    asm("" : "+l"(y), "+r"(y_row));
    bool is_live = column < live;
    now = 0, next = AHEAD;
#pragma unroll 1
    for (int first = 0; first < p.segment; first += ONCE_TILE) {
        wait_for_copies<AHEAD - 1>();
        copier.template for_ends<true>(first + AHEAD * ONCE_TILE, next);
        copier.for_y(first + AHEAD * ONCE_TILE, next);
        commit_copies();
        const float *tile = tiles + now * S::TILE, *own = tile + lane * HELD, *slots = tile + lane / S::LANES * N;
        now = now == AHEAD ? 0 : now + 1, next = next == AHEAD ? 0 : next + 1;
        float step[ONCE_TILE][HELD], x[ONCE_TILE][HELD], gate[ONCE_TILE][HELD];
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) {
            load_held(own + S::U + j * 32 * HELD, x[j]);
            load_held(own + S::DELTA + j * 32 * HELD, step[j]);
            load_held(own + S::Z + j * 32 * HELD, gate[j]);
#pragma unroll
            for (int i = 0; i < HELD; i++) {
                step[j][i] = select(first + j < left, softplus(step[j][i] + bias[i]), 0.0f);
                gate[j][i] = silu(gate[j][i]);
            }
        }
        float *y_at = row_at(y, first, y_row);
#pragma unroll
        for (int j = 0; j < ONCE_TILE; j++) {
            float write[N], read[N], out[HELD];
            load_slots(slots + S::B + j * S::SUBS * N, write);
            load_slots(slots + S::C + j * S::SUBS * N, read);
#pragma unroll
            for (int i = 0; i < HELD; i++) {
                float parts[2] = {skip[i] * x[j][i], 0.0f}, written = step[j][i] * x[j][i], scaled = step[j][i] * LOG2E;
#pragma unroll
                for (int n = 0; n < N; n++) {
                    h[i][n] = fmaf(exp2_unit(scaled * a[i][n]), h[i][n], written * write[n]);
                    parts[n % 2] = fmaf(read[n], h[i][n], parts[n % 2]);
                }
                out[i] = (parts[0] + parts[1]) * gate[j][i];
            }
            store_if(is_live && first + j < left, row_at(y_at, j, y_row), out);
        }
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    // The last segment of all; tokens behind the text's end have changed nothing.
    if (p.last && is_live && segment == (int)gridDim.x * S::SEGMENTS - 1) {
#pragma unroll
        for (int i = 0; i < HELD; i++) store_slots(p.last + initial + (column + i) * N, h[i]);
    }
}

extern "C" __global__ void __launch_bounds__(ONCE_THREADS, 1) scan_once_f32_resident(ScanArgs p) { scan_resident(p); }
extern "C" __global__ void __launch_bounds__(ONCE_THREADS, 1) scan_once_f32_16(ScanArgs p) {
    scan_streamed<Streamed16>(p);
}
extern "C" __global__ void __launch_bounds__(ONCE_THREADS, 1) scan_once_f32_32(ScanArgs p) {
    scan_streamed<Streamed32>(p);
}
