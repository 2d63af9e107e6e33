/* A small LZ77 compressor and its inverse over generated text: bytes, hash tables, data-dependent branches.
 * lz [kilobytes = 16384] [rounds = 6] */
#include "lz.h"

int main(int argc, char **argv) {
    size_t size = (size_t)size_argument(argc, argv, 1, 16384, 1) * 1024;
    long rounds = size_argument(argc, argv, 2, 6, 1);
    unsigned char *text = allocate(size), *packed = allocate(PACKED_ROOM(size)), *unpacked = allocate(size);
    uint32_t *last = allocate(sizeof *last << HASH_BITS);
    uint64_t seed = 11;
    write_text(text, size, &seed);
    uint64_t sum = CHECKSUM_START;
    for (long i = 0; i < rounds; i++) {
        size_t packed_size = compress_block(text, size, packed, last);
        memset(unpacked, 0, size);
        if (decompress_block(packed, packed_size, unpacked, size) != size || memcmp(text, unpacked, size)) {
            printf("round %ld: what came back is not what went in\n", i);
            return 1;
        }
        sum = checksum(sum, packed, packed_size);
        printf("round %ld: %zu -> %zu bytes, checksum %016llx\n", i, size, packed_size, (unsigned long long)sum);
        text[(size_t)i * 7919 % size] ^= 1;
    }
    free(text), free(packed), free(unpacked), free(last);
    return 0;
}
