/* What the NAS kernels share (The NAS Parallel Benchmarks, RNR-94-007, section 2.3): the generator and the classes. */
#ifndef NPB_H
#define NPB_H
#include "guest.h"
#include <math.h>
#include <time.h>

#define NPB_MULTIPLIER 1220703125u /* 5^13 */
#define NPB_MASK ((UINT64_C(1) << 46) - 1)

/* x <- a x mod 2^46; gives the new x as a number in (0, 1). Exact in integers: the product mod 2^64 has the same low
 * 46 bits, and a double holds 46 bits. */
static inline double npb_random(uint64_t *x, uint64_t a) {
    *x = (*x * a) & NPB_MASK;
    return (double)*x * 0x1p-46;
}

/* x after n steps, in log2(n) multiplications. */
static inline uint64_t npb_random_after(uint64_t x, uint64_t a, uint64_t n) {
    for (; n; n >>= 1, a = (a * a) & NPB_MASK)
        if (n & 1) x = (x * a) & NPB_MASK;
    return x;
}

/* With NPB_TIMED in the environment: how long the part takes that the specification times, on standard error. The output
 * then comes at the end, so that no console is timed. What is timed has touched its memory before, as in NASA's programs. */
static double npb_began;

static double npb_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void npb_begin(void) {
    if (getenv("NPB_TIMED")) npb_began = npb_seconds();
}

static inline void npb_end(void) {
    if (getenv("NPB_TIMED")) fprintf(stderr, "timed section: %.6f s\n", npb_seconds() - npb_began);
}

/* The class in argv[1], as an index into "SWA"; W if none is given. */
static inline int npb_class(int argc, char **argv, const char *kernel) {
    const char *letter = argc > 1 ? argv[1] : "W";
    const char *found = *letter && !letter[1] ? strchr("SWA", *letter) : NULL;
    if (!found) {
        fprintf(stderr, "usage: %s [S|W|A]\n", kernel);
        exit(2);
    }
    if (getenv("NPB_TIMED")) setvbuf(stdout, NULL, _IOFBF, 1 << 14);
    printf("NAS kernel %s, class %c\n", kernel, *found);
    return (int)(found - "SWA");
}

static inline int npb_verdict(int verified) {
    puts(verified ? "VERIFICATION SUCCESSFUL" : "VERIFICATION FAILED");
    return !verified;
}
#endif
