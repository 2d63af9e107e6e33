/* Quicksort and mergesort over random 64-bit numbers: recursion with live locals around both calls.
 * sort [elements = 10000000] */
#include "guest.h"

static void insertion_sort(uint64_t *a, size_t n) {
    for (size_t i = 1; i < n; i++) {
        uint64_t moving = a[i];
        size_t j = i;
        for (; j > 0 && a[j - 1] > moving; j--) a[j] = a[j - 1];
        a[j] = moving;
    }
}

static void quicksort(uint64_t *a, size_t n) {
    if (n <= 16) {
        insertion_sort(a, n);
        return;
    }
    uint64_t x = a[0], y = a[n / 2], z = a[n - 1];
    uint64_t pivot = x < y ? (y < z ? y : x < z ? z : x) : (x < z ? x : y < z ? z : y);
    size_t i = 0, j = n - 1;
    for (;; i++, j--) {
        while (a[i] < pivot) i++;
        while (a[j] > pivot) j--;
        if (i >= j) break;
        uint64_t swap = a[i];
        a[i] = a[j];
        a[j] = swap;
    }
    quicksort(a, j + 1);
    quicksort(a + j + 1, n - j - 1);
}

static void mergesort_into(uint64_t *restrict a, uint64_t *restrict spare, size_t n) {
    if (n <= 16) {
        insertion_sort(a, n);
        return;
    }
    size_t half = n / 2, left = 0, right = half;
    mergesort_into(a, spare, half);
    mergesort_into(a + half, spare, n - half);
    memcpy(spare, a, half * sizeof *a);
    for (size_t out = 0; left < half; out++) a[out] = right < n && a[right] < spare[left] ? a[right++] : spare[left++];
}

static void fill(uint64_t *a, size_t n) {
    uint64_t seed = 2024;
    for (size_t i = 0; i < n; i++) a[i] = next_random(&seed);
}

static int report(const char *name, const uint64_t *a, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (a[i - 1] > a[i]) {
            printf("%s: out of order at %zu\n", name, i);
            return 1;
        }
    printf("%s: %zu in order, checksum %016llx\n", name, n, (unsigned long long)checksum(CHECKSUM_START, a, n * sizeof *a));
    return 0;
}

int main(int argc, char **argv) {
    size_t n = (size_t)size_argument(argc, argv, 1, 10000000, 1);
    uint64_t *a = allocate(n * sizeof *a), *spare = allocate((n / 2 + 1) * sizeof *a);
    fill(a, n);
    quicksort(a, n);
    int wrong = report("quicksort", a, n);
    fill(a, n);
    mergesort_into(a, spare, n);
    wrong |= report("mergesort", a, n);
    free(a), free(spare);
    return wrong;
}
