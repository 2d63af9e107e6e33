/* SHA-256 of a generated stream: rotations and additions, sixteen live words.
 * sha256 [mebibytes = 256] [seed = 5] */
#include "sha256.h"

int main(int argc, char **argv) {
    long mebibytes = argument(argc, argv, 1, 256, 0, 1 << 20);
    long seed = argument(argc, argv, 2, 5, 0, LONG_MAX);
    no_more_arguments(argc, argv, 2);
    struct sha256 state;
    char hex[65];
    sha256_start(&state);
    sha256_add(&state, (const unsigned char *)"abc", 3);
    sha256_finish(&state, hex);
    if (strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")) {
        printf("abc: %s is not the published digest\n", hex);
        return 1;
    }
    unsigned char *chunk = allocate(1 << 20);
    uint64_t random = (uint64_t)seed;
    sha256_start(&state);
    for (long i = 0; i < mebibytes; i++) {
        for (int k = 0; k < 1 << 20; k += 8) {
            uint64_t word = next_random(&random);
            memcpy(chunk + k, &word, 8);
        }
        sha256_add(&state, chunk, 1 << 20);
    }
    sha256_finish(&state, hex);
    printf("sha256 %ld %ld: %s\n", mebibytes, seed, hex);
    free(chunk);
    return 0;
}
