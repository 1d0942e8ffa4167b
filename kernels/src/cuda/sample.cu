// Drawing a token where the scores are, as the CPU's sampler does (`Sampler::pick` in the core): the scores of tokens already
// there made less likely, the top_k most likely kept, of these the ones whose weights first reach top_p, and one drawn by
// weight. Equal weights go by id, the lower first.
//
// One block: the vocabulary is read ten times, which is less than the way of its scores to the CPU. The k-th largest is found
// digit by digit (a radix selection on weight and id together, which are never equal), the k largest are sorted in shared
// memory, and one thread adds them up in the CPU's order.

struct SampleArgs {
    const float *scores;      // [v]
    const int *history;       // ids already there
    unsigned char *was_there; // [v], all zero before and after
    int *id;                  // the one drawn
    int known, history_len, top_k, spare; // ids below `known` can be drawn; top_k at most MOST_KEPT
    float temperature, top_p, penalty, uniform;
};

#define MOST_KEPT 1024

__device__ __forceinline__ float score_of(const SampleArgs &p, int i) {
    float score = p.scores[i];
    if (!p.was_there[i]) return score;
    return score > 0.0f ? score / p.penalty : score * p.penalty;
}

// Weight and id in one number that orders as they do; zero for what cannot be drawn.
__device__ __forceinline__ u64 key_of(const SampleArgs &p, int i, float best) {
    float weight = expf((score_of(p, i) - best) / p.temperature);
    if (!(weight >= 0.0f)) return 0;
    return (u64)__float_as_uint(weight) << 32 | (0xffffffffu - (u32)i);
}

extern "C" __global__ void __launch_bounds__(1024) sample(SampleArgs p) {
    __shared__ u64 kept[MOST_KEPT];
    __shared__ int bins[256];
    __shared__ float room[32];
    __shared__ u64 prefix;
    __shared__ int wanted, count;
    int thread = threadIdx.x;
    for (int i = thread; i < p.history_len; i += 1024) p.was_there[p.history[i]] = 1;
    __syncthreads();

    float best = -__int_as_float(0x7f800000);
    for (int i = thread; i < p.known; i += 1024) best = fmaxf(best, score_of(p, i)); // leaves NaN out
    for (int o = 16; o > 0; o >>= 1) best = fmaxf(best, __shfl_xor_sync(FULL_WARP, best, o));
    if (thread % 32 == 0) room[thread / 32] = best;
    if (thread == 0) prefix = 0, wanted = min(p.top_k, p.known), count = 0;
    __syncthreads();
    best = room[thread % 32];
    for (int o = 16; o > 0; o >>= 1) best = fmaxf(best, __shfl_xor_sync(FULL_WARP, best, o));

    // The digits of the key of the last one kept, from the highest on.
    for (int shift = 56; shift >= 0; shift -= 8) {
        if (thread < 256) bins[thread] = 0;
        __syncthreads();
        u64 above = prefix;
        for (int i = thread; i < p.known; i += 1024) {
            u64 key = key_of(p, i, best);
            if (shift == 56 || key >> (shift + 8) == above) atomicAdd(&bins[key >> shift & 255], 1);
        }
        __syncthreads();
        if (thread == 0) {
            int digit = 255;
            while (digit > 0 && bins[digit] < wanted) wanted -= bins[digit--];
            prefix = prefix << 8 | digit;
        }
        __syncthreads();
    }
    for (int i = thread; i < p.known; i += 1024) {
        u64 key = key_of(p, i, best);
        if (key != 0 && key >= prefix) {
            int at = atomicAdd(&count, 1);
            if (at < MOST_KEPT) kept[at] = key;
        }
    }
    __syncthreads();
    int all = min(count, MOST_KEPT);
    if (thread >= all) kept[thread] = 0;
    __syncthreads();
    // Largest first: pairs further and further apart.
    for (int length = 2; length <= MOST_KEPT; length <<= 1)
        for (int o = length >> 1; o > 0; o >>= 1) {
            int other = thread ^ o;
            if (other > thread) {
                u64 a = kept[thread], b = kept[other];
                bool is_falling = (thread & length) == 0;
                if (is_falling ? a < b : a > b) kept[thread] = b, kept[other] = a;
            }
            __syncthreads();
        }

    if (thread == 0) {
        auto weight = [&](int i) { return __uint_as_float((u32)(kept[i] >> 32)); };
        float total = 0.0f, sum = 0.0f;
        for (int i = 0; i < all; i++) total += weight(i);
        int last = 0;
        for (; last < all; last++) {
            sum += weight(last);
            if (sum >= p.top_p * total) break;
        }
        int drawable = min(last + 1, all);
        total = 0.0f;
        for (int i = 0; i < drawable; i++) total += weight(i);
        float left = p.uniform * total;
        int drawn = max(drawable - 1, 0); // rounding may leave a crumb after the last
        for (int i = 0; i < drawable; i++) {
            left -= weight(i);
            if (left < 0.0f) {
                drawn = i;
                break;
            }
        }
        *p.id = all > 0 ? (int)(0xffffffffu - (u32)kept[drawn]) : -1;
    }
    for (int i = thread; i < p.history_len; i += 1024) p.was_there[p.history[i]] = 0;
}
