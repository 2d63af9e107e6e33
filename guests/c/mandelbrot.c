/* The Mandelbrot set on an n x n grid, 50 iterations, one bit a point: doubles in a loop without memory.
 * mandelbrot [n = 6000] [--image]: a checksum of the bitmap, or the bitmap itself as PBM. */
#include "guest.h"

int main(int argc, char **argv) {
    long n = size_argument(argc, argv, 1, 6000, 1);
    int image = argc > 2 && strcmp(argv[2], "--image") == 0;
    size_t row_bytes = (size_t)(n + 7) / 8;
    unsigned char *row = allocate(row_bytes);
    uint64_t sum = CHECKSUM_START;
    long inside = 0;
    if (image) printf("P4\n%ld %ld\n", n, n);
    for (long y = 0; y < n; y++) {
        memset(row, 0, row_bytes);
        double ci = 2.0 * (double)y / (double)n - 1.0;
        for (long x = 0; x < n; x++) {
            double cr = 2.0 * (double)x / (double)n - 1.5;
            double zr = 0, zi = 0, rr = 0, ii = 0;
            int i = 0;
            for (; i < 50 && rr + ii <= 4.0; i++) {
                zi = 2 * zr * zi + ci;
                zr = rr - ii + cr;
                rr = zr * zr;
                ii = zi * zi;
            }
            if (rr + ii <= 4.0) {
                row[x / 8] |= (unsigned char)(0x80 >> (x % 8));
                inside++;
            }
        }
        if (image) fwrite(row, 1, row_bytes, stdout);
        sum = checksum(sum, row, row_bytes);
    }
    if (!image) printf("%ld of %ld points inside, checksum %016llx\n", inside, n * n, (unsigned long long)sum);
    free(row);
    return 0;
}
