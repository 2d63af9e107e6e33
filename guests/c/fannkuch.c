/* Pancake flips over all permutations, the task of the benchmarks game: small arrays, many short loops.
 * fannkuch [n = 11], n from 2 to 12; published for 7: checksum 228, 16 flips. */
#include "guest.h"

int main(int argc, char **argv) {
    int n = size_argument(argc, argv, 1, 11, 2);
    if (n > 12) {
        fprintf(stderr, "fannkuch: n is at most 12\n");
        return 2;
    }
    int current[12], flipped[12], count[12];
    int most = 0, sign = 1, sum = 0;
    for (int i = 0; i < n; i++) current[i] = i, count[i] = i;
    for (;;) {
        if (current[0]) {
            memcpy(flipped, current, sizeof current);
            int flips = 1;
            for (int first = flipped[0]; flipped[first]; flips++) {
                for (int low = 1, high = first - 1; low < high; low++, high--) {
                    int swap = flipped[low];
                    flipped[low] = flipped[high];
                    flipped[high] = swap;
                }
                int next = flipped[first];
                flipped[first] = first;
                first = next;
            }
            if (flips > most) most = flips;
            sum += sign * flips;
        }
        /* The next permutation: swap the first two, or rotate as far in as the counters say. */
        if (sign == 1) {
            int swap = current[0];
            current[0] = current[1];
            current[1] = swap;
            sign = -1;
            continue;
        }
        int swap = current[1];
        current[1] = current[2];
        current[2] = swap;
        sign = 1;
        int i = 2;
        for (;; i++) {
            if (i >= n) goto done;
            if (count[i]) {
                count[i]--;
                break;
            }
            if (i == n - 1) goto done;
            count[i] = i;
            int first = current[0];
            memmove(current, current + 1, sizeof(int) * (size_t)(i + 1));
            current[i + 1] = first;
        }
    }
done:
    printf("%d\nPfannkuchen(%d) = %d\n", sum, n, most);
    return 0;
}
