/* NAS kernel IS, integer sort (RNR-94-007, section 2.2.5): ranks keys by counting, ten times, with two keys changed
 * each time; a few ranks are known in advance, and the keys must come out sorted. npb_is [S|W|A = W] */
#include "npb.h"

#define ITERATIONS 10
#define PROBES 5

static const struct {
    int log_keys, log_range;
    uint32_t index[PROBES], rank[PROBES];
    /* The rank of probe i in iteration n is rank[i] + n - offset for the first `rising` probes, and
     * rank[i] - (n - fall_offset) for the others: each iteration adds one low and one high key. */
    int rising, offset, fall_offset;
} classes[] = {
    {16, 11, {48427, 17148, 23627, 62548, 4431}, {0, 18, 346, 64917, 65463}, 3, 0, 0},
    {20, 16, {357773, 934767, 875723, 898999, 404505}, {1249, 11698, 1039987, 1043896, 1048018}, 2, 2, 0},
    {23, 19, {2112377, 662041, 5336171, 3642833, 4250760}, {104, 17523, 123928, 8288932, 8388264}, 3, 1, 1},
};

static uint32_t *key, *below; /* below[k]: how many keys are at most k */

static void count_keys(uint32_t keys, uint32_t range) {
    memset(below, 0, range * sizeof *below);
    for (uint32_t i = 0; i < keys; i++) below[key[i]]++;
    for (uint32_t k = 1; k < range; k++) below[k] += below[k - 1];
}

/* Changes two keys, ranks all, and gives how many of the probes have the rank they must have. */
static int rank_keys(int class, int iteration, uint32_t keys, uint32_t range) {
    key[iteration] = (uint32_t)iteration;
    key[iteration + ITERATIONS] = range - (uint32_t)iteration;
    uint32_t probe[PROBES];
    for (int i = 0; i < PROBES; i++) probe[i] = key[classes[class].index[i]];
    count_keys(keys, range);
    int right = 0;
    for (int i = 0; i < PROBES; i++) {
        if (probe[i] == 0 || probe[i] > keys - 1) continue;
        int64_t expected = classes[class].rank[i];
        expected += i < classes[class].rising ? iteration - classes[class].offset : classes[class].fall_offset - iteration;
        right += below[probe[i] - 1] == expected;
    }
    return right;
}

/* Puts every key where its rank says, and looks whether they are in order. */
static int is_sorted(uint32_t keys) {
    uint32_t *sorted = allocate(keys * sizeof *sorted);
    for (uint32_t i = keys; i-- > 0;) sorted[--below[key[i]]] = key[i];
    uint32_t wrong = 0;
    uint64_t sum = checksum(CHECKSUM_START, sorted, keys * sizeof *sorted);
    for (uint32_t i = 1; i < keys; i++) wrong += sorted[i - 1] > sorted[i];
    printf("keys out of order %u, checksum %016llx\n", wrong, (unsigned long long)sum);
    free(sorted);
    return wrong == 0;
}

int main(int argc, char **argv) {
    int class = npb_class(argc, argv, "IS");
    uint32_t keys = 1u << classes[class].log_keys, range = 1u << classes[class].log_range;
    key = allocate(keys * sizeof *key);
    below = allocate(range * sizeof *below);
    uint64_t seed = 314159265;
    for (uint32_t i = 0; i < keys; i++) {
        double x = npb_random(&seed, NPB_MULTIPLIER);
        x += npb_random(&seed, NPB_MULTIPLIER);
        x += npb_random(&seed, NPB_MULTIPLIER);
        x += npb_random(&seed, NPB_MULTIPLIER);
        key[i] = (uint32_t)(range / 4 * x);
    }
    rank_keys(class, 1, keys, range); /* warms the caches, as the specification has it; not counted */
    int right = 0;
    npb_begin();
    for (int iteration = 1; iteration <= ITERATIONS; iteration++) {
        right += rank_keys(class, iteration, keys, range);
        printf("iteration %d: %d of %d probes right so far\n", iteration, right, PROBES * iteration);
    }
    npb_end();
    int verified = is_sorted(keys) && right == PROBES * ITERATIONS;
    free(key), free(below);
    return npb_verdict(verified);
}
