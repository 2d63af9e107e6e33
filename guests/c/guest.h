/* What every guest needs: sizes from argv, a seedable generator, a checksum.
 *
 * A guest prints the same bytes for the same arguments on every ISA, moved or not, so that a test can compare runs.
 * Nothing here reads a clock or an address (but see npb_begin). */
#ifndef GUEST_H
#define GUEST_H
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* argv[index] as a decimal number from `least` to `most`, or `fallback` when it is not given. */
static inline long argument(int argc, char **argv, int index, long fallback, long least, long most) {
    if (index >= argc) return fallback;
    char *end;
    errno = 0;
    long value = strtol(argv[index], &end, 10);
    if (end == argv[index] || *end || errno || value < least || value > most) {
        fprintf(stderr, "%s: argument %d must be a number from %ld to %ld, not \"%s\"\n", argv[0], index, least, most, argv[index]);
        exit(2);
    }
    return value;
}

static inline long size_argument(int argc, char **argv, int index, long fallback, long least) {
    return argument(argc, argv, index, fallback, least, LONG_MAX);
}

static inline void no_more_arguments(int argc, char **argv, int most) {
    if (argc - 1 <= most) return;
    fprintf(stderr, "%s: %d arguments, but there are at most %d\n", argv[0], argc - 1, most);
    exit(2);
}

/* splitmix64 (Steele, Lea, Flood 2014): one word of state, any seed will do. */
static inline uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* FNV-1a, 64 bits. Floats are hashed as bits: a move must not change one. */
#define CHECKSUM_START 0xcbf29ce484222325u
static inline uint64_t checksum(uint64_t sum, const void *bytes, size_t length) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < length; i++) sum = (sum ^ p[i]) * 0x100000001b3u;
    return sum;
}

static inline void *allocate(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) {
        fprintf(stderr, "out of memory: %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}
#endif
