/* Verifying files, as the thesis's hashzip: text comes in blocks, each is hashed, packed, unpacked and hashed again.
 * hashzip [mebibytes = 48] [seed = 1]
 *
 * Prints how many bytes the packed blocks have together, the SHA-256 of the text, and that of the packed blocks. */
#include "lz.h"
#include "sha256.h"

#define BLOCK ((size_t)1 << 20)

int main(int argc, char **argv) {
    long mebibytes = argument(argc, argv, 1, 48, 0, 1 << 20);
    long seed = argument(argc, argv, 2, 1, 0, LONG_MAX);
    no_more_arguments(argc, argv, 2);
    unsigned char *text = allocate(BLOCK), *packed = allocate(PACKED_ROOM(BLOCK)), *unpacked = allocate(BLOCK);
    uint32_t *last = allocate(sizeof *last << HASH_BITS);
    struct sha256 went_in, came_out, between;
    sha256_start(&went_in), sha256_start(&came_out), sha256_start(&between);
    uint64_t random = (uint64_t)seed, packed_bytes = 0;
    for (long i = 0; i < mebibytes; i++) {
        write_text(text, BLOCK, &random);
        sha256_add(&went_in, text, BLOCK);
        size_t packed_size = compress_block(text, BLOCK, packed, last);
        sha256_add(&between, packed, packed_size);
        packed_bytes += packed_size;
        sha256_add(&came_out, unpacked, decompress_block(packed, packed_size, unpacked, BLOCK));
    }
    char text_hex[65], unpacked_hex[65], packed_hex[65];
    sha256_finish(&went_in, text_hex), sha256_finish(&came_out, unpacked_hex), sha256_finish(&between, packed_hex);
    if (strcmp(text_hex, unpacked_hex)) {
        fprintf(stderr, "what came back, %s, is not what went in, %s\n", unpacked_hex, text_hex);
        return 1;
    }
    printf("hashzip %ld %ld: %llu %s %s\n", mebibytes, seed, (unsigned long long)packed_bytes, text_hex, packed_hex);
    free(text), free(packed), free(unpacked), free(last);
    return 0;
}
