/* setjmp and longjmp as WebAssembly exceptions: jumps over many frames, jumps in a loop, nested buffers, a jump that an
 * inner setjmp must let pass. setjmp [rounds = 5000000] */
#include "guest.h"
#include <setjmp.h>

static jmp_buf outer;

static __attribute__((noinline)) int descend(int depth, int value) {
    if (depth == 0) longjmp(outer, value);
    return descend(depth - 1, value) + 1;
}

/* Sets a buffer of its own, so the jump to `outer` is caught here first and has to go on. */
static __attribute__((noinline)) int in_between(int depth, int value) {
    jmp_buf own;
    volatile int tries = 0;
    int caught = setjmp(own);
    if (caught == 0 || (caught == 7 && ++tries < 3)) {
        if (depth % 2) longjmp(own, 7);
        return descend(depth, value);
    }
    return descend(depth, value + caught + tries);
}

int main(int argc, char **argv) {
    long rounds = size_argument(argc, argv, 1, 5000000, 1);
    volatile uint64_t sum = 0;
    volatile long jumps = 0;
    for (volatile long i = 0; i < rounds; i++) {
        int value = setjmp(outer);
        if (value == 0) {
            if (i % 3) descend((int)(i % 17), (int)(i % 1000) + 1);
            else in_between((int)(i % 5), (int)(i % 100) + 1);
        }
        jumps++;
        sum = sum * 31 + (uint64_t)value;
    }
    printf("%ld jumps, checksum %016llx\n", jumps, (unsigned long long)sum);
    int zero = setjmp(outer);
    if (zero == 0) longjmp(outer, 0);
    printf("longjmp with 0 returned %d\n", zero);
    return zero != 1;
}
