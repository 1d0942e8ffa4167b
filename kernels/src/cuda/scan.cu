// The selective scan of Mamba-1 (arXiv:2312.00752, Algorithm 2), for every batch b, channel d and slot n:
//
//   D[l,d]   = softplus(delta[l,d] + bias[d])
//   h[l,d,n] = exp(D[l,d] * A[d,n]) * h[l-1,d,n] + D[l,d] * B[l,g,n] * u[l,d]
//   y[l,d]   = (sum_n C[l,g,n] * h[l,d,n] + skip[d] * u[l,d]) * silu(z[l,d])
//
// Versions, and what each changed:
//   v1  scan_plain: one thread a channel, the formula as it stands; the state in local memory, B and C read from global
//       memory by every thread, exact exp. Any shape. What the others are measured against.
//   v2  scan_full with one segment: one warp for 32 channels. The state and A stay in registers, B and C of eight tokens are
//       copied ahead into shared memory and read as 16-byte broadcasts, u, delta and z of the next eight tokens are on their
//       way while these eight are computed; exp is one instruction of the special-function unit. Everything between the
//       projections and the output projection is fused: the h of all tokens never exists in memory.
//   v3  the sequence is cut into segments that run at the same time: scan_ends finds what each segment would leave behind if
//       it began at zero, scan_carry threads the true states through (decay of a segment: exp(A * sum of D)), and scan_full
//       runs every segment from its true beginning. Costs the exponentials of all segments but the last twice; gives work
//       to the whole chip when there are few channels.
//   v4  scan_slots.cu: where there are many channels, the slots of one lie across eight lanes, and each exponential is taken
//       once.
//   v5  scan_once.cu: v3's segments in one launch, whose blocks wait for one another: where channels are few or texts
//       short.
//
// Of v2 and v3 there is a lean form for the shape most models have, two channels a thread (scan_lean).
//
// Threads of a warp: `lanes` of them share a channel (slots beyond 16 need more than one), `warp_channels` channels stand
// beside each other, and where a group has fewer channels the rest of the warp takes further segments.

#define MOST_SLOTS 256

template <typename T> __device__ __forceinline__ void scan_plain(const ScanArgs &p) {
    int d = blockIdx.x * blockDim.x + threadIdx.x, batch = blockIdx.y;
    if (d >= p.channels) return;
    size_t rows = (size_t)batch * p.tokens;
    const T *u = (const T *)p.u + rows * p.u_row + d, *delta = (const T *)p.delta + rows * p.delta_row + d;
    const T *z = p.z ? (const T *)p.z + rows * p.z_row + d : nullptr;
    const T *b = (const T *)p.b + rows * p.b_token + (size_t)(d / p.b_channels) * p.b_group;
    const T *c = (const T *)p.c + rows * p.c_token + (size_t)(d / p.c_channels) * p.c_group;
    T *y = (T *)p.y + rows * p.y_row + d;
    size_t state = ((size_t)batch * p.channels + d) * p.slots;
    bool is_recorded = p.record && d >= p.record_from && d < p.record_from + p.record_count;
    float h[MOST_SLOTS];
    for (int n = 0; n < p.slots; n++) h[n] = p.initial ? p.initial[state + n] : 0.0f;
    for (int l = 0; l < p.tokens; l++) {
        float x = to_float(u[(size_t)l * p.u_row]);
        float step = to_float(delta[(size_t)l * p.delta_row]) + (p.bias ? p.bias[d] : 0.0f);
        if (p.softplus) step = step > 20.0f ? step : log1pf(expf(step));
        float sum = 0.0f;
        for (int n = 0; n < p.slots; n++) {
            float decay = expf(step * p.a[(size_t)d * p.slots + n]);
            h[n] = decay * h[n] + step * to_float(b[(size_t)l * p.b_token + n]) * x;
            sum += to_float(c[(size_t)l * p.c_token + n]) * h[n];
        }
        if (p.skip) sum += p.skip[d] * x;
        if (z) {
            float gate = to_float(z[(size_t)l * p.z_row]);
            sum *= gate / (1.0f + expf(-gate));
        }
        y[(size_t)l * p.y_row] = from_float<T>(sum);
        if (is_recorded) {
            float *row = p.record + ((rows + l) * p.record_count + (d - p.record_from)) * p.slots;
            for (int n = 0; n < p.slots; n++) row[n] = h[n];
        }
    }
    if (p.last)
        for (int n = 0; n < p.slots; n++) p.last[state + n] = h[n];
}

// Tokens that are staged at once.
#define TILE 8
// Of 16 exponentials, how many the multiply-add units compute: the special-function unit is the bottleneck, and these units
// have time to spare, less of it where they also make y.
#define FMA_SHARE_ENDS 1
#define FMA_SHARE_FULL 0

__device__ __forceinline__ void copy_ahead(u32 to, const void *from, int bytes) {
    if (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
    else if (bytes == 8)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

// NT values of shared memory, as floats.
template <int NT> __device__ __forceinline__ void load_row(const float *from, float (&to)[NT]) {
#pragma unroll
    for (int i = 0; i < NT / 4; i++) {
        float4 v = ((const float4 *)from)[i];
        to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
    }
}
template <int NT> __device__ __forceinline__ void load_row(const bf16 *from, float (&to)[NT]) {
#pragma unroll
    for (int i = 0; i < NT / 4; i++) {
        uint2 v = ((const uint2 *)from)[i];
        to[4 * i] = __uint_as_float(v.x << 16), to[4 * i + 1] = __uint_as_float(v.x & 0xffff0000u);
        to[4 * i + 2] = __uint_as_float(v.y << 16), to[4 * i + 3] = __uint_as_float(v.y & 0xffff0000u);
    }
}

// Where a thread stands.
struct Place {
    int part, sub, subs; // which slots, which of the warp's segments, how many of them
    int channel, segment, batch, group_start;
    int begin, end; // tokens
    bool is_live;
};

// HELD: channels of a thread, which stand beside each other.
template <int HELD> __device__ __forceinline__ Place find_place(const ScanArgs &p, int segments) {
    Place at;
    int lane = threadIdx.x;
    at.part = lane % p.lanes;
    int column = lane / p.lanes % p.warp_channels;
    at.sub = lane / (p.lanes * p.warp_channels);
    at.subs = 32 / (p.lanes * p.warp_channels);
    int tile = (blockIdx.x % p.tiles * p.warp_channels + column) * HELD;
    at.group_start = blockIdx.x / p.tiles * p.group_channels;
    at.segment = blockIdx.y * at.subs + at.sub;
    at.batch = blockIdx.z;
    at.is_live = tile < p.group_channels && at.segment < segments;
    // A thread without work reads what another does, and writes nothing.
    at.channel = at.group_start + min(tile, p.group_channels - HELD);
    at.begin = min(at.segment * p.segment, p.tokens - 1);
    at.end = min(at.begin + p.segment, p.tokens);
    return at;
}

// Copies rows of B or C, `slots` values each, for the tokens from `first` on of every segment of the warp.
template <typename T>
__device__ __forceinline__ void stage(const ScanArgs &p, const Place &at, const T *from, int token_stride, int first,
                                      T *to, int sub_room, int row_room) {
    int bytes = p.slots * (int)sizeof(T);
    int piece = bytes % 16 == 0 && token_stride * (int)sizeof(T) % 16 == 0 && (u64)from % 16 == 0 ? 16 : 4;
    bool is_whole = bytes % piece == 0 && token_stride * (int)sizeof(T) % piece == 0 && (u64)from % piece == 0;
    int pieces = is_whole ? bytes / piece : p.slots, all = at.subs * TILE * pieces;
    for (int i = threadIdx.x; i < all; i += 32) {
        int row = i / pieces, column = i % pieces, sub = row / TILE, token = row % TILE;
        int segment = blockIdx.y * at.subs + sub;
        int begin = min(segment * p.segment, p.tokens - 1), end = min(begin + p.segment, p.tokens);
        size_t source = (size_t)min(begin + first + token, end - 1) * token_stride;
        T *target = to + sub * sub_room + token * row_room;
        if (is_whole)
            copy_ahead((u32)__cvta_generic_to_shared((char *)target + column * piece),
                       (const char *)(from + source) + column * piece, piece);
        else
            target[column] = from[source + column];
    }
}

// A segment of the scan for the channels of a warp. ENDS: only the state it leaves, begun at zero.
template <typename T, int NT, bool ENDS> __device__ __forceinline__ void scan_segment(const ScanArgs &p) {
    extern __shared__ float4 shared[];
    const int SHARE = ENDS ? FMA_SHARE_ENDS : FMA_SHARE_FULL;
    let_next_begin();
    wait_for_previous();
    Place at = find_place<1>(p, ENDS ? p.segments - 1 : p.segments);
    int d = at.channel, width = NT * p.lanes, row_room = ENDS ? width : 2 * width, sub_room = TILE * row_room;
    T *buffers = (T *)shared;
    int buffer_room = at.subs * sub_room;
    if (p.slots != width) {
        for (int i = threadIdx.x; i < 2 * buffer_room; i += 32) buffers[i] = from_float<T>(0.0f);
        __syncwarp();
    }
    size_t rows = (size_t)at.batch * p.tokens;
    const T *b = (const T *)p.b + rows * p.b_token + (size_t)(at.group_start / p.b_channels) * p.b_group;
    const T *c = (const T *)p.c + rows * p.c_token + (size_t)(at.group_start / p.c_channels) * p.c_group;
    const T *u = (const T *)p.u + rows * p.u_row + d, *delta = (const T *)p.delta + rows * p.delta_row + d;
    const T *z = p.z && !ENDS ? (const T *)p.z + rows * p.z_row + d : nullptr;
    T *y = (T *)p.y + rows * p.y_row + d;

    float a[NT], h[NT];
    int slot = at.part * NT;
    size_t state = ((size_t)at.batch * p.channels + d) * p.slots + slot;
    size_t start = (((size_t)at.batch * p.segments + min(at.segment, p.segments - 1)) * p.channels + d) * p.slots + slot;
    const float *from = p.segments > 1 ? p.starts + start : p.initial ? p.initial + state : nullptr;
#pragma unroll
    for (int n = 0; n < NT; n++) {
        bool is_slot = slot + n < p.slots;
        a[n] = is_slot ? p.a[(size_t)d * p.slots + slot + n] * LOG2E : 0.0f;
        h[n] = !ENDS && is_slot && from ? from[n] : 0.0f;
    }
    float bias = p.bias ? p.bias[d] : 0.0f, skip = p.skip && !ENDS ? p.skip[d] : 0.0f, sum = 0.0f;
    bool is_recorded = !ENDS && p.record && d >= p.record_from && d < p.record_from + p.record_count;

    T next_u[TILE], next_delta[TILE], next_z[TILE];
    auto load = [&](int first) {
#pragma unroll
        for (int j = 0; j < TILE; j++) {
            size_t l = min(at.begin + first + j, at.end - 1);
            next_u[j] = u[l * p.u_row];
            next_delta[j] = delta[l * p.delta_row];
            if (!ENDS && z) next_z[j] = z[l * p.z_row];
        }
    };
    auto stage_both = [&](int first, T *to) {
        stage(p, at, b, p.b_token, first, to, sub_room, row_room);
        if (!ENDS) stage(p, at, c, p.c_token, first, to + width, sub_room, row_room);
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    load(0);
    stage_both(0, buffers);
    int longest = min(p.segment, p.tokens);
    for (int first = 0, turn = 0; first < longest; first += TILE, turn ^= 1) {
        float step[TILE], x[TILE], gate[TILE];
#pragma unroll
        for (int j = 0; j < TILE; j++) {
            x[j] = to_float(next_u[j]);
            step[j] = to_float(next_delta[j]) + bias;
            if (!ENDS) gate[j] = z ? to_float(next_z[j]) : 0.0f;
        }
        asm volatile("cp.async.wait_group 0;" ::: "memory");
        __syncwarp();
        if (first + TILE < longest) {
            load(first + TILE);
            stage_both(first + TILE, buffers + (turn ^ 1) * buffer_room);
        }
#pragma unroll
        for (int j = 0; j < TILE; j++) {
            if (p.softplus) step[j] = softplus(step[j]);
            // A token behind the segment's end leaves the state as it is.
            if (at.begin + first + j >= at.end) step[j] = 0.0f;
            if (ENDS) sum += step[j];
            if (!ENDS && z) gate[j] = silu(gate[j]);
        }
        const T *row = buffers + turn * buffer_room + at.sub * sub_room + at.part * NT;
#pragma unroll
        for (int j = 0; j < TILE; j++) {
            float write[NT], read[NT], parts[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            float written = step[j] * x[j];
            load_row<NT>(row + j * row_room, write);
            if (!ENDS) load_row<NT>(row + j * row_room + width, read);
#pragma unroll
            for (int n = 0; n < NT; n++) {
                float exponent = step[j] * a[n];
                float decay = n % 16 < SHARE ? exp2_fma(exponent) : exp2_unit(exponent);
                h[n] = fmaf(decay, h[n], written * write[n]);
                if (!ENDS) parts[n % 4] = fmaf(read[n], h[n], parts[n % 4]);
            }
            if (ENDS) continue;
            float out = (parts[0] + parts[1]) + (parts[2] + parts[3]);
            for (int o = 1; o < p.lanes; o <<= 1) out += __shfl_xor_sync(FULL_WARP, out, o);
            out = fmaf(skip, x[j], out);
            if (z) out *= gate[j];
            int l = at.begin + first + j;
            if (!at.is_live || l >= at.end) continue;
            if (at.part == 0) y[(size_t)l * p.y_row] = from_float<T>(out);
            if (is_recorded) {
                float *to = p.record + ((rows + l) * p.record_count + (d - p.record_from)) * p.slots + slot;
#pragma unroll
                for (int n = 0; n < NT; n++)
                    if (slot + n < p.slots) to[n] = h[n];
            }
        }
    }
    if (!at.is_live) return;
    // What a segment leaves goes to the place of the state before the next one.
    float *to = ENDS ? p.starts + start + (size_t)p.channels * p.slots : p.last ? p.last + state : nullptr;
    if (!ENDS && at.segment != p.segments - 1) return;
    if (ENDS && at.part == 0) p.sums[((size_t)at.batch * p.segments + at.segment) * p.channels + d] = sum;
#pragma unroll
    for (int n = 0; n < NT; n++)
        if (to && slot + n < p.slots) to[n] = h[n];
}

__device__ __forceinline__ void load_held(const float *from, float (&to)[2]) {
    float2 v = *(const float2 *)from;
    to[0] = v.x, to[1] = v.y;
}
__device__ __forceinline__ void load_held(const float *from, float (&to)[1]) { to[0] = *from; }
__device__ __forceinline__ void load_held(const bf16 *from, float (&to)[2]) {
    u32 v = *(const u32 *)from;
    to[0] = __uint_as_float(v << 16), to[1] = __uint_as_float(v & 0xffff0000u);
}

// Tokens that are staged at once, and tiles under way beside the one at work.
#define LEAN_TILE 4
#define LEAN_AHEAD 2

// The same for the shape most models have: 16 slots, a softplus, an even number of channels, rows that begin on 16 bytes for B
// and C and on even values for the others, and for the whole scan a gate and nothing recorded. A thread has HELD channels, so
// that what it reads of B and C, and its addresses, serve both (where channels are few it has one: more warps are worth more). Everything it reads is copied ahead into shared memory, for the
// registers are full of states. Without a branch between tokens the compiler interleaves them.
template <typename T, int HELD, bool ENDS> __device__ __forceinline__ void scan_lean(const ScanArgs &p) {
    extern __shared__ float4 shared[];
    constexpr int N = 16, ROW = ENDS ? N : 2 * N, PIECES = N * (int)sizeof(T) / 16, SUB = LEAN_TILE * ROW;
    constexpr int SHARE = ENDS ? FMA_SHARE_ENDS : FMA_SHARE_FULL, OPERANDS = ENDS ? 2 : 3;
    constexpr int VALUES = LEAN_TILE * 32 * HELD; // of u, of delta, of z
    Place at = find_place<HELD>(p, ENDS ? p.segments - 1 : p.segments);
    int d = at.channel, last = at.end - 1;
    size_t rows = (size_t)at.batch * p.tokens;
    const T *b = (const T *)p.b + rows * p.b_token + (size_t)(at.group_start / p.b_channels) * p.b_group;
    const T *c = (const T *)p.c + rows * p.c_token + (size_t)(at.group_start / p.c_channels) * p.c_group;
    const T *operands[3] = {(const T *)p.u + rows * p.u_row + d, (const T *)p.delta + rows * p.delta_row + d,
                            (const T *)p.z + rows * p.z_row + d};
    int operand_rows[3] = {p.u_row * (int)sizeof(T), p.delta_row * (int)sizeof(T), p.z_row * (int)sizeof(T)};
    T *y = (T *)p.y + rows * p.y_row + d;
    int y_row = p.y_row * (int)sizeof(T), b_row = p.b_token * (int)sizeof(T), c_row = p.c_token * (int)sizeof(T);

    float a[HELD][N], h[HELD][N], bias[HELD], skip[HELD], sum[HELD] = {};
    size_t state = ((size_t)at.batch * p.channels + d) * N;
    size_t start = (((size_t)at.batch * p.segments + min(at.segment, p.segments - 1)) * p.channels + d) * N;
    const float *from = p.segments > 1 ? p.starts + start : p.initial ? p.initial + state : nullptr;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        load_row<N>(p.a + (size_t)(d + i) * N, a[i]);
        bias[i] = p.bias ? p.bias[d + i] : 0.0f, skip[i] = p.skip && !ENDS ? p.skip[d + i] : 0.0f;
#pragma unroll
        for (int n = 0; n < N; n++) a[i][n] *= LOG2E, h[i][n] = 0.0f;
    }

    // A tile: B (and C) of each of the warp's segments, then what each thread reads of u, delta (and z).
    constexpr int LANES = LEAN_TILE * PIECES; // lanes that copy a segment's B
    int token = threadIdx.x % LANES / PIECES, piece = threadIdx.x % PIECES * (16 / (int)sizeof(T));
    b += piece, c += piece;
    int tile_bytes = (at.subs * SUB + OPERANDS * VALUES) * (int)sizeof(T);
    u32 base = (u32)__cvta_generic_to_shared(shared), b_target = base + (token * ROW + piece) * (int)sizeof(T);
    u32 own_target = base + (at.subs * SUB + threadIdx.x * HELD) * (int)sizeof(T);
    // Hidden from the optimiser, which would take the addresses apart again for every token.
    asm("" : "+l"(operands[0]), "+l"(operands[1]), "+l"(operands[2]), "+l"(y), "+l"(b), "+l"(c));
    asm("" : "+r"(operand_rows[0]), "+r"(operand_rows[1]), "+r"(operand_rows[2]), "+r"(y_row), "+r"(b_row), "+r"(c_row));
    auto stage = [&](int first, u32 offset) {
#pragma unroll 1
        for (int sub = threadIdx.x / LANES; sub < at.subs; sub += 32 / LANES) {
            int begin = min((int)(blockIdx.y * at.subs + sub) * p.segment, p.tokens - 1);
            int l = min(begin + first + token, min(begin + p.segment, p.tokens) - 1);
            u32 to = b_target + offset + sub * SUB * (int)sizeof(T);
            copy_ahead(to, row_at(b, l, b_row), 16);
            if (!ENDS) copy_ahead(to + N * (int)sizeof(T), row_at(c, l, c_row), 16);
        }
        int l = min(at.begin + first, last), left = last - l;
#pragma unroll
        for (int q = 0; q < OPERANDS; q++) {
            const T *operand = row_at(operands[q], l, operand_rows[q]);
#pragma unroll
            for (int j = 0; j < LEAN_TILE; j++)
                copy_ahead(own_target + offset + (q * VALUES + j * 32 * HELD) * (int)sizeof(T),
                           row_at(operand, min(j, left), operand_rows[q]), HELD * (int)sizeof(T));
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    for (int ahead = 0; ahead < LEAN_AHEAD; ahead++) stage(ahead * LEAN_TILE, ahead * tile_bytes);
    // The operands were there before the ends were asked for; the states before the segments are what scan_carry makes.
    let_next_begin();
    wait_for_previous();
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (!ENDS && from) load_row<N>(from + i * N, h[i]);
    int longest = min(p.segment, p.tokens), now = 0, next = LEAN_AHEAD * tile_bytes;
    for (int first = 0; first < longest; first += LEAN_TILE) {
        asm volatile("cp.async.wait_group %0;" ::"n"(LEAN_AHEAD - 1) : "memory");
        __syncwarp();
        stage(first + LEAN_AHEAD * LEAN_TILE, next);
        next = next == LEAN_AHEAD * tile_bytes ? 0 : next + tile_bytes;

        float step[LEAN_TILE][HELD], x[LEAN_TILE][HELD], gate[LEAN_TILE][HELD];
        int l = at.begin + first;
        const T *tile = (const T *)((const char *)shared + now), *own = tile + at.subs * SUB + threadIdx.x * HELD;
        now = now == LEAN_AHEAD * tile_bytes ? 0 : now + tile_bytes;
#pragma unroll
        for (int j = 0; j < LEAN_TILE; j++) {
            load_held(own + j * 32 * HELD, x[j]);
            load_held(own + VALUES + j * 32 * HELD, step[j]);
            if (!ENDS) load_held(own + 2 * VALUES + j * 32 * HELD, gate[j]);
#pragma unroll
            for (int i = 0; i < HELD; i++) {
                // A token behind the segment's end leaves the state as it is.
                step[j][i] = select(l + j <= last, softplus(step[j][i] + bias[i]), 0.0f);
                if (ENDS) sum[i] += step[j][i];
                if (!ENDS) gate[j][i] = silu(gate[j][i]);
            }
        }
        const T *row = tile + at.sub * SUB;
        T *y_at = row_at(y, l, y_row);
#pragma unroll
        for (int j = 0; j < LEAN_TILE; j++) {
            float write[N], read[N], out[HELD];
            load_row<N>(row + j * ROW, write);
            if (!ENDS) load_row<N>(row + j * ROW + N, read);
#pragma unroll
            for (int i = 0; i < HELD; i++) {
                float parts[2] = {skip[i] * x[j][i], 0.0f}, written = step[j][i] * x[j][i];
#pragma unroll
                for (int n = 0; n < N; n++) {
                    float exponent = step[j][i] * a[i][n];
                    float decay = n < SHARE ? exp2_fma(exponent) : exp2_unit(exponent);
                    h[i][n] = fmaf(decay, h[i][n], written * write[n]);
                    if (!ENDS) parts[n % 2] = fmaf(read[n], h[i][n], parts[n % 2]);
                }
                if (!ENDS) out[i] = (parts[0] + parts[1]) * gate[j][i];
            }
            if (!ENDS) store_if(at.is_live && l + j <= last, row_at(y_at, j, y_row), out);
        }
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    if (!at.is_live || (!ENDS && at.segment != p.segments - 1)) return;
    // What a segment leaves goes to the place of the state before the next one.
    float *to = ENDS ? p.starts + start + (size_t)p.channels * N : p.last ? p.last + state : nullptr;
    float *sums = p.sums + ((size_t)at.batch * p.segments + at.segment) * p.channels + d;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        if (ENDS) sums[i] = sum[i];
#pragma unroll
        for (int n = 0; n < N / 4; n++)
            if (to)
                ((float4 *)(to + i * N))[n] = {h[i][4 * n], h[i][4 * n + 1], h[i][4 * n + 2], h[i][4 * n + 3]};
    }
}

// Threads the states through the segments: starts[0] = initial, starts[s] = exp(A * sums[s-1]) * starts[s-1] + what segment
// s-1 left. A block has some rows (d, n) side by side in x, and cuts the segments among its threads in y: each composes its
// own, takes in what those before it have composed (an associative scan in shared memory), and goes over its own again.
extern "C" __global__ void __launch_bounds__(1024) scan_carry(ScanArgs p) {
    __shared__ float left[1024], decay[1024];
    let_next_begin();
    int row = blockIdx.x * blockDim.x + threadIdx.x, rows = p.channels * p.slots, batch = blockIdx.y;
    bool is_live = row < rows;
    row = min(row, rows - 1);
    int d = row / p.slots, part = threadIdx.y, width = blockDim.x;
    int each = (p.segments - 1 + blockDim.y - 1) / blockDim.y;
    int from = min(1 + part * each, p.segments), to = min(from + each, p.segments);
    float a = p.a[row] * LOG2E;
    float *starts = p.starts + (size_t)batch * p.segments * rows + row;
    const float *sums = p.sums + (size_t)batch * p.segments * p.channels + d;
    float initial = p.initial ? p.initial[(size_t)batch * rows + row] : 0.0f, h = 0.0f, exponent = 0.0f;
    wait_for_previous();
#pragma unroll 8
    for (int s = from; s < to; s++) {
        float x = a * sums[(size_t)(s - 1) * p.channels];
        h = fmaf(exp2_unit(x), h, starts[(size_t)s * rows]);
        exponent += x;
    }
    int mine = part * width + threadIdx.x;
    left[mine] = h, decay[mine] = exp2_unit(exponent);
    __syncthreads();
    for (int o = 1; o < (int)blockDim.y; o <<= 1) {
        float left_before = 0.0f, decay_before = 1.0f;
        if (part >= o) left_before = left[mine - o * width], decay_before = decay[mine - o * width];
        __syncthreads();
        left[mine] = fmaf(decay[mine], left_before, left[mine]);
        decay[mine] *= decay_before;
        __syncthreads();
    }
    h = initial;
    if (part == 0 && is_live) starts[0] = h;
    if (part > 0) h = fmaf(decay[mine - width], initial, left[mine - width]);
#pragma unroll 8
    for (int s = from; s < to; s++) {
        h = fmaf(exp2_unit(a * sums[(size_t)(s - 1) * p.channels]), h, starts[(size_t)s * rows]);
        if (is_live) starts[(size_t)s * rows] = h;
    }
}

extern "C" __global__ void scan_plain_f32(ScanArgs p) { scan_plain<float>(p); }
extern "C" __global__ void scan_plain_bf16(ScanArgs p) { scan_plain<bf16>(p); }

#define SEGMENT_KERNELS(NAME, T, NT)                                                                                   \
    extern "C" __global__ void __launch_bounds__(32) scan_full_##NAME##_##NT(ScanArgs p) {                             \
        scan_segment<T, NT, false>(p);                                                                                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32) scan_ends_##NAME##_##NT(ScanArgs p) {                             \
        scan_segment<T, NT, true>(p);                                                                                  \
    }
#define LEAN_KERNELS(NAME, T, HELD)                                                                                    \
    extern "C" __global__ void __launch_bounds__(32, 12) scan_full_##NAME##_lean##HELD(ScanArgs p) {                       \
        scan_lean<T, HELD, false>(p);                                                                                  \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32, 12) scan_ends_##NAME##_lean##HELD(ScanArgs p) {                       \
        scan_lean<T, HELD, true>(p);                                                                                   \
    }
LEAN_KERNELS(f32, float, 1)
LEAN_KERNELS(f32, float, 2)
LEAN_KERNELS(bf16, bf16, 2)
SEGMENT_KERNELS(f32, float, 4)
SEGMENT_KERNELS(f32, float, 16)
SEGMENT_KERNELS(bf16, bf16, 4)
SEGMENT_KERNELS(bf16, bf16, 16)
