/* A small LZ77 compressor, its inverse, and text to compress: what lz.c and hashzip.c share.
 *
 * Format: a control byte c. c < 128: c + 1 literals follow. c >= 128: a match of (c - 128) + 4 bytes, followed by its
 * distance in 3 bytes, low byte first. */
#ifndef LZ_H
#define LZ_H
#include "guest.h"

#define HASH_BITS 16
#define SHORTEST 4
#define LONGEST (127 + SHORTEST)
#define FARTHEST ((1 << 24) - 1)
/* What packs badly grows: a control byte for each 128 literals. */
#define PACKED_ROOM(size) ((size) + (size) / 128 + 16)

static unsigned char *flush_literals(unsigned char *out, const unsigned char *from, size_t count) {
    while (count) {
        size_t run = count < 128 ? count : 128;
        *out++ = (unsigned char)(run - 1);
        memcpy(out, from, run);
        out += run, from += run, count -= run;
    }
    return out;
}

static size_t compress_block(const unsigned char *in, size_t size, unsigned char *out, uint32_t *last) {
    unsigned char *start = out;
    memset(last, 0xff, sizeof *last << HASH_BITS);
    size_t at = 0, literals = 0;
    while (at + SHORTEST <= size) {
        uint32_t word;
        memcpy(&word, in + at, sizeof word);
        uint32_t hash = word * 2654435761u >> (32 - HASH_BITS), candidate = last[hash];
        last[hash] = (uint32_t)at;
        size_t length = 0;
        if (candidate != UINT32_MAX && at - candidate <= FARTHEST)
            while (length < LONGEST && at + length < size && in[candidate + length] == in[at + length]) length++;
        if (length < SHORTEST) {
            at++;
            continue;
        }
        out = flush_literals(out, in + literals, at - literals);
        size_t distance = at - candidate;
        *out++ = (unsigned char)(128 + length - SHORTEST);
        *out++ = (unsigned char)distance;
        *out++ = (unsigned char)(distance >> 8);
        *out++ = (unsigned char)(distance >> 16);
        at += length;
        literals = at;
    }
    out = flush_literals(out, in + literals, size - literals);
    return (size_t)(out - start);
}

/* Gives the size, or 0 when the input is not what compress_block writes. */
static size_t decompress_block(const unsigned char *in, size_t size, unsigned char *out, size_t room) {
    size_t at = 0, used = 0;
    while (at < size) {
        unsigned control = in[at++];
        if (control < 128) {
            size_t run = control + 1;
            if (run > size - at || run > room - used) return 0;
            memcpy(out + used, in + at, run);
            at += run, used += run;
            continue;
        }
        if (size - at < 3) return 0;
        size_t length = control - 128 + SHORTEST, distance = in[at] | in[at + 1] << 8 | in[at + 2] << 16;
        at += 3;
        if (distance == 0 || distance > used || length > room - used) return 0;
        for (; length; length--, used++) out[used] = out[used - distance]; /* may overlap: byte by byte */
    }
    return used;
}

/* Words from a skewed vocabulary, so that there is something to find. */
static void write_text(unsigned char *text, size_t size, uint64_t *seed) {
    for (size_t at = 0; at < size;) {
        uint64_t r = next_random(seed), word = (r % 4096) * (r >> 32 & 0xfff) / 4096 + 1;
        for (int letters = 2 + (int)(word % 7); letters && at < size; letters--, word = word * 25173 + 13849)
            text[at++] = (unsigned char)('a' + (word >> 5) % 26);
        if (at < size) text[at++] = r >> 60 ? ' ' : '\n';
    }
}
#endif
