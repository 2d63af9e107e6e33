/* Recursion too deep for careless unwinding, with state in every frame, that works for a while at the bottom so that it can
 * be captured there. deep [frames = 100000] [rounds at the bottom = 1000000000] [descents = 1] */
#include "guest.h"

static long rounds;

static __attribute__((noinline)) uint64_t work_at_the_bottom(uint64_t seed) {
    for (long i = 0; i < rounds; i++) seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}

/* Locals of all kinds are live over the call: in Wasm locals, and in the frame in linear memory. */
static __attribute__((noinline)) uint64_t descend(long depth, uint64_t seed, double scale) {
    volatile uint32_t in_memory[4] = {(uint32_t)seed, (uint32_t)depth, (uint32_t)(seed >> 32), ~(uint32_t)depth};
    if (depth == 0) return work_at_the_bottom(seed | 1);
    uint64_t own = seed * 0x9e3779b97f4a7c15u;
    float single = (float)(depth % 1024) + 0.5f;
    uint64_t below = descend(depth - 1, own ^ (uint64_t)depth, scale * 0.5 + (double)depth);
    if (in_memory[1] != (uint32_t)depth || in_memory[3] != ~(uint32_t)depth || in_memory[0] != (uint32_t)seed) {
        printf("frame %ld was damaged\n", depth);
        exit(1);
    }
    uint64_t bits;
    double mixed = scale + (double)single;
    memcpy(&bits, &mixed, sizeof bits);
    return (below ^ own ^ in_memory[2]) * 31 + bits;
}

int main(int argc, char **argv) {
    long frames = size_argument(argc, argv, 1, 100000, 0);
    rounds = size_argument(argc, argv, 2, 1000000000, 0);
    long descents = size_argument(argc, argv, 3, 1, 1);
    uint64_t sum = 1;
    for (long i = 0; i < descents; i++) sum = descend(frames, sum, 1.0);
    printf("%ld frames, checksum %016llx\n", frames, (unsigned long long)sum);
    return 0;
}
