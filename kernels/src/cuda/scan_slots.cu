// v4 of the selective scan (scan.cu has the formula, and v1 to v3), for the shape most models have: 16 slots, a softplus, a
// gate, nothing recorded, channels in fours, and rows of u, delta and z that begin on the bytes of four values.
//
// v3 gives a thread all slots of two channels, so few threads carry a sequence, and it has to be cut into segments whose
// exponentials are then taken twice. Here a channel's slots lie across eight lanes, two a lane: a sequence is gone through
// once, as one segment, and each exponential is taken once. That pays where the channels of all sequences fill the chip.
//
// The warps of a block have roles, so that the recurrence issues nothing but its own:
//   WARPS       carry the states, four channels each;
//   two         make Delta, Delta u and the gates two chunks of tokens ahead;
//   WARPS       sum what the eight lanes of a channel have of y, a chunk behind;
//   one         brings the operands AHEAD chunks ahead.
// They meet once a chunk. A multiprocessor's four schedulers have the warps by their number's remainder: with three warps of
// states, three have one of them and one that sums, and the fourth has those that prepare and the one that brings, whose
// instructions would hold up a recurrence.
//
// What bounds it is the unit of shared memory, so everything in it lies so that few accesses wait for a bank. Rows of u, Delta
// and z are short (48 bytes of three warps' channels), and cp.async takes two clocks of that unit a row. On Hopper the copy
// engine brings them, whose writes do not pass through it; elsewhere, and in bf16, whose rows of three warps' channels have 24
// bytes and it takes 16, 32 or 48, the warps that sum copy them.

#define CHUNK 32 // tokens
#define AHEAD 6  // chunks under way from memory; with 4 it waits for them
#define RING (AHEAD + 1)
// Chunks gone through without a jump: behind one, instructions come slowly for a while.
#define CHUNKS_A_ROUND 2

__device__ __forceinline__ void load_values(const float *from, float (&to)[4]) {
    float4 v = *(const float4 *)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
__device__ __forceinline__ void load_values(const float *from, float (&to)[2]) {
    float2 v = *(const float2 *)from;
    to[0] = v.x, to[1] = v.y;
}
__device__ __forceinline__ void unpack(u32 v, float &low, float &high) {
    low = __uint_as_float(v << 16), high = __uint_as_float(v & 0xffff0000u);
}
__device__ __forceinline__ void load_values(const bf16 *from, float (&to)[4]) {
    uint2 v = *(const uint2 *)from;
    unpack(v.x, to[0], to[1]), unpack(v.y, to[2], to[3]);
}
__device__ __forceinline__ void load_values(const bf16 *from, float (&to)[2]) {
    unpack(*(const u32 *)from, to[0], to[1]);
}

// A matrix in device memory as the copy engine sees it (CUtensorMap): [b, l, d], and tiles of CHUNK tokens of a block's
// channels. What lies behind the text's end is brought as zeros.
struct alignas(64) TensorMap {
    u64 opaque[16];
};
struct SlotsArgs {
    TensorMap u, delta, z;
    ScanArgs scan;
};

// Zeros behind the end of the text.
template <int BYTES> __device__ __forceinline__ void copy_or_zero(u32 to, const char *from, bool is_there) {
    int size = is_there ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(size) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES), "r"(size)
                     : "memory");
}

// Where the parts of y of four tokens of a channel lie among each other (`item`: which four, which channel), so that neither
// who writes nor who reads them waits for a bank.
__device__ __forceinline__ int part_place(int item, int pair) {
    return item * 8 + (pair ^ ((item & 3) << 1 | (item >> 2 & 1)));
}

// The shared memory of a block; slots.rs asks for as much.
template <typename T, int WARPS> struct SlotsRoom {
    static constexpr int N = 16, CHANNELS = 4 * WARPS, ROW = 2 * N;
    static constexpr int B_VALUES = CHUNK * ROW, U_VALUES = CHUNK * CHANNELS, RAW_VALUES = B_VALUES + 3 * U_VALUES;
    // Rows of float2. What is added keeps channels on banks of their own.
    static constexpr int STEP_ROW = CHUNK + 4, STEP_PAIRS = CHANNELS * STEP_ROW;
    static constexpr int GATE_ROW = CHUNK + 2, GATE_PAIRS = CHANNELS * GATE_ROW;
    static constexpr int RAW = RING * RAW_VALUES * (int)sizeof(T), GATES = 4 * GATE_PAIRS * 8;
    static constexpr int STEPS = 3 * STEP_PAIRS * 8, PARTS = 2 * (CHUNK / 4) * CHANNELS * 8 * 16, ARRIVALS = RING * 8;
    static constexpr int BYTES = RAW + GATES + STEPS + PARTS + ARRIVALS;
};
static_assert(SlotsRoom<float, 2>::BYTES == 82232 && SlotsRoom<float, 3>::BYTES == 108984, "as in slots.rs");
static_assert(SlotsRoom<bf16, 2>::BYTES == 57144 && SlotsRoom<bf16, 3>::BYTES == 78520, "as in slots.rs");

// A block's place in the scan, and in its own shared memory.
template <typename T, int WARPS> struct Place {
    typedef SlotsRoom<T, WARPS> R;
    // RING of B and C: [token][pair of slots][B, B, C, C], C first at odd tokens, and of u, delta and z: [token][channel]
    char *raw;
    float2 *gates; // four of [channel][token]: u's share of y, gate
    float2 *steps; // three of [channel][token]: Delta, Delta u
    float4 *parts; // two of [token / 4][channel][pair of slots]
    u32 arrivals;  // a barrier for each of RING
    int batch, first_channel, first_own, chunks;
    size_t rows; // tokens of the sequences before

    __device__ __forceinline__ Place(const ScanArgs &p, float4 *shared) {
        raw = (char *)shared;
        gates = (float2 *)(raw + R::RAW);
        steps = (float2 *)(raw + R::RAW + R::GATES);
        parts = (float4 *)(raw + R::RAW + R::GATES + R::STEPS);
        arrivals = (u32)__cvta_generic_to_shared(raw) + R::BYTES - R::ARRIVALS;
        batch = blockIdx.z;
        int group_start = blockIdx.x / p.tiles * p.group_channels, tile = blockIdx.x % p.tiles * R::CHANNELS;
        // The last block of a group overlaps the one before, and writes only what is new. Where `last` is `initial` it may
        // read states that the other has replaced already: those of channels of which it writes nothing.
        first_channel = group_start + min(tile, p.group_channels - R::CHANNELS), first_own = group_start + tile;
        chunks = (p.tokens + CHUNKS_A_ROUND * CHUNK - 1) / (CHUNKS_A_ROUND * CHUNK) * CHUNKS_A_ROUND;
        rows = (size_t)batch * p.tokens;
    }
};

template <int WARPS> constexpr int SLOTS_THREADS = 32 * (WARPS == 3 ? 9 : 7);

// All warps of a block, each from a place of its own in the code, which __syncthreads does not allow.
template <int WARPS> __device__ __forceinline__ void meet() {
    asm volatile("bar.sync 1, %0;" ::"n"(SLOTS_THREADS<WARPS>) : "memory");
}

// Whether the copy engine brings u, delta and z.
#if __CUDA_ARCH__ >= 900
template <typename T> constexpr bool BY_ENGINE = sizeof(T) == 4;
#else
template <typename T> constexpr bool BY_ENGINE = false;
#endif

// Brings u, delta and z of a chunk with the copy engine; `arrival` completes when all three are there.
template <typename T, int WARPS>
__device__ __forceinline__ void ask_for_rows(const SlotsArgs &args, const Place<T, WARPS> &at, u32 to, u32 arrival,
                                             int token) {
#if __CUDA_ARCH__ >= 900
    constexpr int TILE = SlotsRoom<T, WARPS>::U_VALUES * (int)sizeof(T);
    const TensorMap *maps[3] = {&args.u, &args.delta, &args.z};
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(arrival), "r"(3 * TILE) : "memory");
#pragma unroll
    for (int q = 0; q < 3; q++)
        asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to + q * TILE),
                     "l"(maps[q]), "r"(arrival), "r"(at.first_channel), "r"(token), "r"(at.batch)
                     : "memory");
#endif
}

// Copies u, delta and z, chunk after chunk; each of 32 WARPS threads four channels of a token.
template <typename T, int WARPS> struct Rows {
    typedef SlotsRoom<T, WARPS> R;
    const char *operands[3];
    int operand_rows[3], left;
    u32 to, offset;

    __device__ __forceinline__ Rows(const ScanArgs &p, const Place<T, WARPS> &at, int thread) : offset(0) {
        const void *from[3] = {p.u, p.delta, p.z};
        int rows[3] = {p.u_row, p.delta_row, p.z_row}, token = thread / WARPS;
#pragma unroll
        for (int q = 0; q < 3; q++) {
            operand_rows[q] = rows[q] * (int)sizeof(T);
            int d = at.first_channel + thread % WARPS * 4;
            operands[q] = (const char *)((const T *)from[q] + (at.rows + token) * rows[q] + d);
        }
        left = p.tokens - token;
        to = (u32)__cvta_generic_to_shared(at.raw) + (R::B_VALUES + thread * 4) * (int)sizeof(T);
    }
    __device__ __forceinline__ void copy() {
#pragma unroll
        for (int q = 0; q < 3; q++) {
            copy_or_zero<4 * (int)sizeof(T)>(to + offset + q * R::U_VALUES * (int)sizeof(T), operands[q], left > 0);
            operands[q] = row_at(operands[q], CHUNK, operand_rows[q]);
        }
        left -= CHUNK;
        constexpr int RAW_BYTES = R::RAW_VALUES * (int)sizeof(T);
        offset = offset == (RING - 1) * RAW_BYTES ? 0 : offset + RAW_BYTES;
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
};

// What was copied AHEAD - 3 chunks before, and will be prepared behind the next barrier, two chunks ahead of the recurrence.
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 3) : "memory"); }

// Until a barrier has completed for the time that has this parity.
__device__ __forceinline__ void wait_for_arrival(u32 arrival, int parity) {
    asm volatile("{ .reg .pred p; again%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @!p bra again%=; }" ::"r"(
                     arrival),
                 "r"(parity)
                 : "memory");
}

template <typename T, int WARPS>
__device__ __forceinline__ void bring_operands(const SlotsArgs &args, const Place<T, WARPS> &at, int lane) {
    typedef SlotsRoom<T, WARPS> R;
    constexpr int PAIR = 2 * (int)sizeof(T), ROW = R::ROW * (int)sizeof(T), RAW_BYTES = R::RAW_VALUES * (int)sizeof(T);
    const ScanArgs &p = args.scan;
    // Of B and C two values at once, four tokens of one of them: where rows follow one another, two tokens are one line of
    // memory, which arrives at once. C lies before B at every second token, so that it goes to banks of their own.
    int token = lane / 8, pair = lane % 8, left = p.tokens, is_odd = token & 1;
    const char *b = (const char *)((const T *)p.b + (at.rows + token) * p.b_token +
                                   (size_t)(at.first_channel / p.b_channels) * p.b_group + pair * 2);
    const char *c = (const char *)((const T *)p.c + (at.rows + token) * p.c_token +
                                   (size_t)(at.first_channel / p.c_channels) * p.c_group + pair * 2);
    int b_row = p.b_token * (int)sizeof(T), c_row = p.c_token * (int)sizeof(T);
    u32 raw = (u32)__cvta_generic_to_shared(at.raw), to = raw + token * ROW + pair * 2 * PAIR;
    u32 b_to = to + is_odd * PAIR, c_to = to + (1 - is_odd) * PAIR;
    int next = 0;                       // chunk to be asked for
    int slot = 0, first = 0, parity = 0; // of RING: to be filled, to be waited for, and its barrier's turn
    auto bring = [&]() {
        u32 offset = slot * RAW_BYTES;
        if (BY_ENGINE<T>) {
            if (lane == 0 && next < at.chunks)
                ask_for_rows(args, at, raw + offset + R::B_VALUES * (int)sizeof(T), at.arrivals + slot * 8, next * CHUNK);
            __syncwarp();
            next++;
        }
#pragma unroll
        for (int i = 0; i < CHUNK; i += 4) {
            copy_or_zero<PAIR>(b_to + offset + i * ROW, row_at(b, i, b_row), token + i < left);
            copy_or_zero<PAIR>(c_to + offset + i * ROW, row_at(c, i, c_row), token + i < left);
        }
        b = row_at(b, CHUNK, b_row), c = row_at(c, CHUNK, c_row);
        left -= CHUNK;
        slot = slot == RING - 1 ? 0 : slot + 1;
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    auto wait = [&](int chunk) {
        wait_for_copies();
        if (BY_ENGINE<T> && chunk < at.chunks) {
            wait_for_arrival(at.arrivals + first * 8, parity);
            first = first == RING - 1 ? 0 : first + 1;
            parity ^= first == 0;
        }
    };
    for (int chunk = 0; chunk < AHEAD; chunk++) bring();
    for (int chunk = 0; chunk < 3; chunk++) wait(chunk);
    meet<WARPS>();
    meet<WARPS>();
    for (int chunk = 0; chunk < at.chunks; chunk++) {
        bring();
        wait(chunk + 3);
        meet<WARPS>();
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
}

// COUNT channels of a token, of which a lane makes Delta, Delta u, u's share of y and the gate.
template <typename T, int WARPS, int COUNT> struct Preparer {
    typedef SlotsRoom<T, WARPS> R;
    float bias[COUNT], skip[COUNT], u[COUNT], delta[COUNT], z[COUNT];
    int channel, token;

    __device__ __forceinline__ Preparer(const ScanArgs &p, const Place<T, WARPS> &at, int channel, int token)
        : channel(channel), token(token) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            bias[i] = p.bias ? p.bias[at.first_channel + channel + i] : 0.0f;
            skip[i] = p.skip ? p.skip[at.first_channel + channel + i] : 0.0f;
        }
    }
    __device__ __forceinline__ void load(const Place<T, WARPS> &at, int offset) {
        const T *from = (const T *)(at.raw + offset) + R::B_VALUES + token * R::CHANNELS + channel;
        load_values(from, u), load_values(from + R::U_VALUES, delta), load_values(from + 2 * R::U_VALUES, z);
    }
    __device__ __forceinline__ void make(const Place<T, WARPS> &at, int chunk, int tokens) {
        float2 *to = at.steps + chunk % 3 * R::STEP_PAIRS + channel * R::STEP_ROW + token;
        float2 *gate_to = at.gates + chunk % 4 * R::GATE_PAIRS + channel * R::GATE_ROW + token;
        bool is_token = chunk * CHUNK + token < tokens;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            // A token behind the text's end leaves the state as it is.
            float step = select(is_token, softplus(delta[i] + bias[i]), 0.0f), gate = silu(z[i]);
            to[i * R::STEP_ROW] = make_float2(step, step * u[i]);
            gate_to[i * R::GATE_ROW] = make_float2(skip[i] * u[i] * gate, gate);
        }
    }
};

// `which` of the two warps.
template <typename T, int WARPS>
__device__ __forceinline__ void prepare_steps(const ScanArgs &p, const Place<T, WARPS> &at, int which, int lane) {
    constexpr int RAW_BYTES = SlotsRoom<T, WARPS>::RAW_VALUES * (int)sizeof(T);
    Preparer<T, WARPS, 4> four(p, at, which * 4, lane);
    // With three warps of states there are four channels more, of which each of the two warps takes half the tokens.
    Preparer<T, WARPS, 2> two(p, at, WARPS == 3 ? 8 + lane % 2 * 2 : 0, which * 16 + lane / 2);
    auto prepare = [&](int chunk, int offset) {
        if (chunk >= at.chunks) return;
        four.load(at, offset);
        if (WARPS == 3) two.load(at, offset);
        four.make(at, chunk, p.tokens);
        if (WARPS == 3) two.make(at, chunk, p.tokens);
    };
    meet<WARPS>();
    prepare(0, 0);
    prepare(1, RAW_BYTES);
    meet<WARPS>();
    int offset = 2 * RAW_BYTES;
    for (int chunk = 0; chunk < at.chunks; chunk++) {
        prepare(chunk + 2, offset);
        offset = offset == (RING - 1) * RAW_BYTES ? 0 : offset + RAW_BYTES;
        meet<WARPS>();
    }
}

// Sums what the lanes of a channel have of y; each of 32 WARPS threads has four tokens of a channel. Without the engine these
// copy u, delta and z too.
template <typename T, int WARPS>
__device__ __forceinline__ void finish(const ScanArgs &p, const Place<T, WARPS> &at, int thread) {
    typedef SlotsRoom<T, WARPS> R;
    constexpr int CHANNELS = R::CHANNELS, PARTS = CHUNK / 4 * CHANNELS * 8;
    int group = thread / CHANNELS, d = thread % CHANNELS;
    T *y = (T *)p.y + (at.rows + group * 4) * p.y_row + at.first_channel + d;
    int y_row = p.y_row * (int)sizeof(T), y_left = at.first_channel + d >= at.first_own ? p.tokens - group * 4 : 0;
    auto sum_up = [&](int chunk) {
        const float4 *from = at.parts + (chunk & 1) * PARTS;
        const float4 *gate = (const float4 *)(at.gates + chunk % 4 * R::GATE_PAIRS + d * R::GATE_ROW + group * 4);
        float4 early = gate[0], late = gate[1], sum = from[part_place(thread, 0)];
#pragma unroll
        for (int i = 1; i < 8; i++) {
            float4 part = from[part_place(thread, i)];
            sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
        }
        float sums[4] = {fmaf(sum.x, early.y, early.x), fmaf(sum.y, early.w, early.z), fmaf(sum.z, late.y, late.x),
                         fmaf(sum.w, late.w, late.z)};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float out[1] = {sums[j]};
            store_if(j < y_left, row_at(y, j, y_row), out);
        }
        y = row_at(y, CHUNK, y_row);
        y_left -= CHUNK;
    };
    Rows<T, WARPS> rows(p, at, thread);
    auto copy = [&]() {
        if (!BY_ENGINE<T>) rows.copy();
    };
    for (int chunk = 0; chunk < AHEAD; chunk++) copy();
    wait_for_copies();
    meet<WARPS>();
    meet<WARPS>();
    for (int chunk = 0; chunk < at.chunks; chunk++) {
        copy();
        if (chunk > 0) sum_up(chunk - 1);
        wait_for_copies();
        meet<WARPS>();
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    sum_up(at.chunks - 1);
}

// GROUP: tokens whose loads, decays and recurrence follow one another.
template <typename T, int WARPS, int GROUP>
__device__ __forceinline__ void carry_states(const ScanArgs &p, const Place<T, WARPS> &at, int warp, int lane) {
    typedef SlotsRoom<T, WARPS> R;
    constexpr int N = R::N, CHANNELS = R::CHANNELS, PARTS = CHUNK / 4 * CHANNELS * 8, GROUPS = CHUNK / GROUP;
    constexpr int RAW_BYTES = R::RAW_VALUES * (int)sizeof(T), STEP_BYTES = R::STEP_PAIRS * 8;
    // Lanes are numbered so that neighbours (lane ^ 1) have the same slots, and so the same B and C, and lanes two apart
    // (lane ^ 2) the same channel, and so the same Delta: a 16-byte load then serves two of them at once, and takes two clocks
    // instead of four.
    int own = warp * 4 + (lane >> 1 & 2 | lane & 1), pair = lane >> 2 & 6 | lane >> 1 & 1, d = at.first_channel + own;
    size_t state = ((size_t)at.batch * p.channels + d) * N + pair * 2;
    float a0 = p.a[(size_t)d * N + pair * 2] * LOG2E, a1 = p.a[(size_t)d * N + pair * 2 + 1] * LOG2E, h0 = 0.0f, h1 = 0.0f;
    if (p.initial) h0 = p.initial[state], h1 = p.initial[state + 1];
    // A group of tokens goes through three stages, each a group behind the other, also from chunk to chunk: loaded, made decays
    // of, taken in. Special functions of one and multiply-adds of another are then under way together.
    float4 loaded[GROUP / 2];
    float loaded_bc[GROUP][4];
    float2 decay[GROUP], write[GROUP], read[GROUP];
    auto load = [&](const T *row, const float4 *step, int g) {
#pragma unroll
        for (int j = 0; j < GROUP / 2; j++) loaded[j] = step[g * GROUP / 2 + j];
#pragma unroll
        for (int j = 0; j < GROUP; j++) load_values(row + (g * GROUP + j) * R::ROW, loaded_bc[j]);
    };
    auto make = [&]() {
#pragma unroll
        for (int j = 0; j < GROUP; j++) {
            float delta = j % 2 ? loaded[j / 2].z : loaded[j / 2].x, x = j % 2 ? loaded[j / 2].w : loaded[j / 2].y;
            const float *b = loaded_bc[j] + j % 2 * 2, *c = loaded_bc[j] + (1 - j % 2) * 2;
            decay[j] = make_float2(exp2_unit(delta * a0), exp2_unit(delta * a1));
            write[j] = make_float2(x * b[0], x * b[1]);
            read[j] = make_float2(c[0], c[1]);
        }
    };
    const char *own_row = at.raw + pair * 4 * (int)sizeof(T), *own_steps = (const char *)(at.steps + own * R::STEP_ROW);
    int raw_offset = 0, step_offset = 0;
    meet<WARPS>();
    meet<WARPS>();
    load((const T *)own_row, (const float4 *)own_steps, 0);
    make();
    load((const T *)own_row, (const float4 *)own_steps, 1);
    for (int round = 0; round < at.chunks; round += CHUNKS_A_ROUND) {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS_A_ROUND; chunk++) {
            const T *row = (const T *)(own_row + raw_offset);
            const float4 *step = (const float4 *)(own_steps + step_offset);
            raw_offset = raw_offset == (RING - 1) * RAW_BYTES ? 0 : raw_offset + RAW_BYTES;
            step_offset = step_offset == 2 * STEP_BYTES ? 0 : step_offset + STEP_BYTES;
            const T *next_row = (const T *)(own_row + raw_offset);
            const float4 *next_step = (const float4 *)(own_steps + step_offset);
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                float2 now[GROUP], w[GROUP], c[GROUP];
#pragma unroll
                for (int j = 0; j < GROUP; j++) now[j] = decay[j], w[j] = write[j], c[j] = read[j];
                make();
                // Behind the last chunk lies what is never taken in.
                if (g + 2 < GROUPS)
                    load(row, step, g + 2);
                else
                    load(next_row, next_step, g + 2 - GROUPS);
                float out[GROUP];
#pragma unroll
                for (int j = 0; j < GROUP; j++) {
                    h0 = fmaf(now[j].x, h0, w[j].x);
                    h1 = fmaf(now[j].y, h1, w[j].y);
                    out[j] = fmaf(c[j].y, h1, c[j].x * h0);
                }
#pragma unroll
                for (int j = 0; j < GROUP; j += 4)
                    at.parts[chunk % 2 * PARTS + part_place((g * GROUP + j) / 4 * CHANNELS + own, pair)] =
                        make_float4(out[j], out[j + 1], out[j + 2], out[j + 3]);
            }
            meet<WARPS>();
        }
    }
    if (d >= at.first_own && p.last) p.last[state] = h0, p.last[state + 1] = h1;
}
static_assert(CHUNKS_A_ROUND == 2, "parts of an even and an odd chunk");

template <typename T, int WARPS, int GROUP> __device__ __forceinline__ void scan_slots(const SlotsArgs &args) {
    extern __shared__ __align__(128) float4 shared[];
    const ScanArgs &p = args.scan;
    Place<T, WARPS> at(p, shared);
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x < RING)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at.arrivals + threadIdx.x * 8) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
#endif
    let_next_begin();
    wait_for_previous();
    // One scheduler has the warps 0, 4 and 8.
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    constexpr int SECOND = WARPS == 3 ? 4 : 3, BRINGER = WARPS == 3 ? 8 : 4, FINISHERS = 5;
    if (warp == BRINGER)
        bring_operands<T, WARPS>(args, at, lane);
    else if (warp == 0 || warp == SECOND)
        prepare_steps<T, WARPS>(p, at, warp == SECOND, lane);
    else if (warp >= FINISHERS)
        finish<T, WARPS>(p, at, threadIdx.x - 32 * FINISHERS);
    else
        carry_states<T, WARPS, GROUP>(p, at, warp - 1, lane);
}

// A block that has a multiprocessor for itself goes in groups of eight tokens; for two beside each other the registers do for
// four.
#define SLOTS_KERNELS(NAME, T, WARPS)                                                                                  \
    extern "C" __global__ void __launch_bounds__(SLOTS_THREADS<WARPS>, 1)                                              \
        scan_slots_##NAME##_##WARPS(const __grid_constant__ SlotsArgs args) {                                          \
        scan_slots<T, WARPS, 8>(args);                                                                                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(SLOTS_THREADS<WARPS>, 2)                                              \
        scan_slots_##NAME##_##WARPS##_pair(const __grid_constant__ SlotsArgs args) {                                   \
        scan_slots<T, WARPS, 4>(args);                                                                                 \
    }
SLOTS_KERNELS(f32, float, 2)
SLOTS_KERNELS(f32, float, 3)
SLOTS_KERNELS(bf16, bf16, 2)
SLOTS_KERNELS(bf16, bf16, 3)
