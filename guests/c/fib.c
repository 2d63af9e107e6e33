/* Naive recursion: nothing but calls, so it shows what a check after every call costs. fib [n = 42] */
#include "guest.h"

static __attribute__((noinline)) uint64_t fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

int main(int argc, char **argv) {
    unsigned n = size_argument(argc, argv, 1, 42, 0);
    printf("fib(%u) = %llu\n", n, (unsigned long long)fib(n));
    return 0;
}
