/* Dynamic programming: the longest common subsequence of two random strings over four letters, in linear memory
 * (Hirschberg 1975): rows of a table, and a recursion that halves it.
 * dynprog [letters = 20000] [seed = 1]; time grows with the square.
 *
 * Prints the length, and a checksum of the table's last row and of the subsequence. */
#include "guest.h"

struct rows {
    uint32_t *forward, *backward;
};

/* last[k] = length of the longest common subsequence of a[0..n] and b[0..k]; with step -1 both are read from their ends. */
static void last_row(const char *a, size_t n, const char *b, size_t m, int step, uint32_t *last) {
    memset(last, 0, (m + 1) * sizeof *last);
    for (size_t i = 0; i < n; i++) {
        char letter = step > 0 ? a[i] : a[n - 1 - i];
        const char *other = step > 0 ? b : b + m - 1;
        uint32_t diagonal = 0, left = 0;
        for (size_t k = 1; k <= m; k++, other += step) {
            uint32_t above = last[k], best = above > left ? above : left;
            if (*other == letter) best = diagonal + 1;
            diagonal = above;
            last[k] = left = best;
        }
    }
}

/* Appends a longest common subsequence to `out`; gives the new end. The rows have room for m + 1 numbers each. */
static char *subsequence(const char *a, size_t n, const char *b, size_t m, struct rows rows, char *out) {
    if (n == 0 || m == 0) return out;
    if (n == 1) {
        if (memchr(b, *a, m)) *out++ = *a;
        return out;
    }
    size_t half = n / 2, best = 0;
    last_row(a, half, b, m, 1, rows.forward);
    last_row(a + half, n - half, b, m, -1, rows.backward);
    for (size_t k = 1; k <= m; k++)
        if (rows.forward[k] + rows.backward[m - k] > rows.forward[best] + rows.backward[m - best]) best = k;
    out = subsequence(a, half, b, best, rows, out);
    return subsequence(a + half, n - half, b + best, m - best, rows, out);
}

static int is_within(const char *part, size_t length, const char *whole, size_t n) {
    size_t found = 0;
    for (size_t i = 0; i < n && found < length; i++) found += part[found] == whole[i];
    return found == length;
}

int main(int argc, char **argv) {
    long size = argument(argc, argv, 1, 20000, 1, 1 << 20);
    long seed = argument(argc, argv, 2, 1, 0, LONG_MAX);
    no_more_arguments(argc, argv, 2);
    size_t n = (size_t)size;
    char *a = allocate(n), *b = allocate(n), *common = allocate(n);
    struct rows rows = {allocate((n + 1) * sizeof(uint32_t)), allocate((n + 1) * sizeof(uint32_t))};
    uint64_t random = (uint64_t)seed;
    for (size_t i = 0; i < n; i++) a[i] = "acgt"[next_random(&random) >> 62];
    for (size_t i = 0; i < n; i++) b[i] = "acgt"[next_random(&random) >> 62];

    last_row(a, n, b, n, 1, rows.forward);
    size_t length = rows.forward[n];
    uint64_t sum = checksum(CHECKSUM_START, rows.forward, (n + 1) * sizeof(uint32_t));
    size_t found = (size_t)(subsequence(a, n, b, n, rows, common) - common);
    if (found != length || !is_within(common, found, a, n) || !is_within(common, found, b, n)) {
        fprintf(stderr, "%zu letters are no common subsequence of %zu\n", found, length);
        return 1;
    }
    printf("dynprog %ld %ld: %zu %016llx\n", size, seed, length, (unsigned long long)checksum(sum, common, found));
    free(a), free(b), free(common), free(rows.forward), free(rows.backward);
    return 0;
}
