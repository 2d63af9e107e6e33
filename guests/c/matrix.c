/* Dense multiplication of matrices of doubles, block by block so that three blocks stay in the nearest cache.
 * matrix [rows = 1000] [seed = 1]; time grows with the cube.
 *
 * Elements are sixteenths from -64 to 64, so that no sum is rounded: any order of additions gives the same bits, which the
 * program uses to check its product with a vector (Freivalds 1977). Prints the trace and a checksum of all elements. */
#include "guest.h"

#define BLOCK 32

static void fill(double *a, size_t count, uint64_t *random) {
    for (size_t i = 0; i < count; i++) a[i] = (double)((long)(next_random(random) >> 53) - 1024) / 16;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* c += a * b, for rows from `i` on, columns from `k` on, and what lies between them from `j` on: a block of each. */
static void multiply_block(const double *a, const double *b, double *restrict c, size_t n, size_t i, size_t j, size_t k) {
    size_t rows = least(i + BLOCK, n), inner = least(j + BLOCK, n), columns = least(k + BLOCK, n);
    for (size_t row = i; row < rows; row++)
        for (size_t between = j; between < inner; between++) {
            double factor = a[row * n + between];
            for (size_t column = k; column < columns; column++) c[row * n + column] += factor * b[between * n + column];
        }
}

static void multiply(const double *a, const double *b, double *c, size_t n) {
    for (size_t i = 0; i < n * n; i++) c[i] = 0;
    for (size_t i = 0; i < n; i += BLOCK)
        for (size_t j = 0; j < n; j += BLOCK)
            for (size_t k = 0; k < n; k += BLOCK) multiply_block(a, b, c, n, i, j, k);
}

static void apply(const double *a, const double *vector, double *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = 0;
        for (size_t k = 0; k < n; k++) out[i] += a[i * n + k] * vector[k];
    }
}

int main(int argc, char **argv) {
    long size = argument(argc, argv, 1, 1000, 1, 8192);
    long seed = argument(argc, argv, 2, 1, 0, LONG_MAX);
    no_more_arguments(argc, argv, 2);
    size_t n = (size_t)size, bytes = n * n * sizeof(double);
    double *a = allocate(bytes), *b = allocate(bytes), *c = allocate(bytes), *vectors = allocate(4 * n * sizeof(double));
    uint64_t random = (uint64_t)seed;
    fill(a, n * n, &random), fill(b, n * n, &random);
    multiply(a, b, c, n);

    double *vector = vectors, *once = vector + n, *twice = once + n, *expected = twice + n, trace = 0;
    for (size_t i = 0; i < n; i++) vector[i] = next_random(&random) >> 63 ? 1 : -1;
    apply(b, vector, once, n), apply(a, once, expected, n), apply(c, vector, twice, n);
    for (size_t i = 0; i < n; i++) {
        trace += c[i * n + i];
        if (twice[i] != expected[i]) {
            fprintf(stderr, "row %zu of the product is wrong: %.17g instead of %.17g\n", i, twice[i], expected[i]);
            return 1;
        }
    }
    printf("matrix %ld %ld: %.8f %016llx\n", size, seed, trace, (unsigned long long)checksum(CHECKSUM_START, c, bytes));
    free(a), free(b), free(c), free(vectors);
    return 0;
}
