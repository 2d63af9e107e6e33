/* Tail calls, direct and indirect: a state machine in which every step is a jump to the next function, and no stack
 * grows. tailcall [steps = 300000000] */
#include "guest.h"

struct machine {
    uint64_t steps_left, value;
};
typedef uint64_t step(struct machine *, uint64_t, uint32_t);
static step even, odd, finish;
static step *volatile const next[2] = {even, odd};

static __attribute__((noinline)) uint64_t even(struct machine *m, uint64_t x, uint32_t salt) {
    if (m->steps_left-- == 0) __attribute__((musttail)) return finish(m, x, salt);
    x = x / 2 + salt;
    __attribute__((musttail)) return next[x & 1](m, x, salt + 1);
}
static __attribute__((noinline)) uint64_t odd(struct machine *m, uint64_t x, uint32_t salt) {
    if (m->steps_left-- == 0) __attribute__((musttail)) return finish(m, x, salt);
    x = 3 * x + 1;
    m->value ^= x;
    __attribute__((musttail)) return even(m, x, salt);
}
static __attribute__((noinline)) uint64_t finish(struct machine *m, uint64_t x, uint32_t salt) { return m->value ^ x ^ salt; }

int main(int argc, char **argv) {
    struct machine m = {.steps_left = (uint64_t)size_argument(argc, argv, 1, 300000000, 0)};
    uint64_t result = even(&m, 0x123456789abcdef, 1);
    printf("result %016llx\n", (unsigned long long)result);
    return 0;
}
