/* Digits of pi by a spigot (Rabinowitz and Wagon 1995): one long row of remainders, a 64-bit division for each.
 * pi [decimals = 30000]; time grows with the square.
 *
 * pi = 2 + 1/3 (2 + 2/5 (2 + 3/7 (2 + ...))): the row holds the digits of pi to the mixed base 1/3, 2/5, 3/7, ..., and each time
 * it is multiplied by 10^9 nine more decimals come out at its front. Prints the last ten decimals and a checksum of them all. */
#include "guest.h"

#define GROUP 9
#define BASE 1000000000u

/* Nine decimals more: multiplies the first `terms` of the row, from the back, and gives what is carried out at the front. */
static uint64_t next_group(uint64_t *row, size_t terms) {
    uint64_t carry = 0;
    for (size_t i = terms - 1; i > 0; i--) {
        uint64_t x = row[i] * BASE + carry, weight = 2 * i + 1;
        row[i] = x % weight;
        carry = x / weight * i;
    }
    uint64_t x = row[0] * BASE + carry;
    row[0] = x % BASE;
    return x / BASE;
}

int main(int argc, char **argv) {
    long decimals = argument(argc, argv, 1, 30000, 10, 1000000);
    no_more_arguments(argc, argv, 1);
    /* Each term is worth a bit, log2(10) = 3.3220 of them a decimal; some decimals more, so that those asked for are right. */
    size_t groups = (size_t)decimals / GROUP + 3, terms = groups * GROUP * 3322 / 1000 + 2;
    uint64_t *row = allocate(terms * sizeof *row), *group = allocate(groups * sizeof *group);
    for (size_t i = 0; i < terms; i++) row[i] = 2;
    /* What is behind the decimals that are left to find is no longer looked at. */
    for (size_t i = 0; i < groups; i++) group[i] = next_group(row, (groups - i) * GROUP * 3322 / 1000 + 2);
    /* A group may come out as 10^9 or more: the excess belongs to those before it. */
    for (size_t i = groups - 1; i > 0; i--) {
        group[i - 1] += group[i] / BASE;
        group[i] %= BASE;
    }
    char *text = allocate(groups * GROUP + 1);
    for (size_t i = 0; i < groups; i++) sprintf(text + i * GROUP, "%09u", (unsigned)group[i]);
    /* The first group is the 3. */
    const char *digits = text + GROUP;
    printf("pi %ld: %.10s %016llx\n", decimals, digits + decimals - 10,
           (unsigned long long)checksum(CHECKSUM_START, digits, (size_t)decimals));
    free(row), free(group), free(text);
    return 0;
}
