/* Indirect calls: a table of functions of one type, a small interpreter that calls by table, callbacks from qsort and
 * bsearch, functions kept in structures. funcptr [rounds = 60] */
#include "guest.h"

typedef uint64_t operation(uint64_t, uint64_t);
static uint64_t add(uint64_t a, uint64_t b) { return a + b; }
static uint64_t subtract(uint64_t a, uint64_t b) { return a - b; }
static uint64_t multiply(uint64_t a, uint64_t b) { return a * (b | 1); }
static uint64_t rotate(uint64_t a, uint64_t b) { return a << (b & 63) | a >> (-b & 63); }
static uint64_t mix(uint64_t a, uint64_t b) { return (a ^ b) * 0x9e3779b97f4a7c15u; }
/* Loops, so that a capture can lie below an indirect call. */
static uint64_t power(uint64_t a, uint64_t b) {
    uint64_t result = 1;
    for (b &= 1023; b; b--) result = result * a + b;
    return result;
}
static operation *volatile const operations[] = {add, subtract, multiply, rotate, mix, power};

struct shape {
    double (*area)(const struct shape *);
    double a, b;
};
static double square(const struct shape *s) { return s->a * s->a; }
static double rectangle(const struct shape *s) { return s->a * s->b; }
static double ellipse(const struct shape *s) { return 3.25 * s->a * s->b; }

static long comparisons;
static int upwards(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    comparisons++;
    return (x > y) - (x < y);
}
static int downwards(const void *a, const void *b) { return upwards(b, a); }
static int by_area(const void *a, const void *b) {
    const struct shape *x = a, *y = b;
    double p = x->area(x), q = y->area(y);
    return (p > q) - (p < q);
}

int main(int argc, char **argv) {
    enum { COUNT = 20000 };
    long rounds = size_argument(argc, argv, 1, 60, 1);
    uint64_t *numbers = allocate(COUNT * sizeof *numbers), seed = 3, sum = 1;
    struct shape *shapes = allocate(COUNT * sizeof *shapes);
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < 300000; i++) {
            uint64_t r = next_random(&seed);
            sum = operations[r % 6](sum, r >> 8);
        }
        for (int i = 0; i < COUNT; i++) {
            uint64_t r = numbers[i] = next_random(&seed);
            shapes[i] = (struct shape){r % 3 == 0 ? square : r % 3 == 1 ? rectangle : ellipse, (double)(r >> 40), (double)(r & 4095)};
        }
        qsort(numbers, COUNT, sizeof *numbers, round % 2 ? upwards : downwards);
        qsort(shapes, COUNT, sizeof *shapes, by_area);
        uint64_t wanted = numbers[(size_t)round % COUNT];
        uint64_t *found = bsearch(&wanted, numbers, COUNT, sizeof *numbers, round % 2 ? upwards : downwards);
        if (!found || *found != wanted) return 1;
        sum = checksum(sum, numbers, COUNT * sizeof *numbers);
        for (int i = 0; i < COUNT; i++) {
            double area = shapes[i].area(&shapes[i]);
            sum = checksum(sum, &area, sizeof area);
        }
    }
    printf("%ld comparisons, checksum %016llx\n", comparisons, (unsigned long long)sum);
    free(numbers), free(shapes);
    return 0;
}
