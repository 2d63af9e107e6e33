/* NAS kernel EP, "embarrassingly parallel" (RNR-94-007, section 2.2.1): Gaussian pairs by the polar method, counted in
 * square annuli. npb_ep [S|W|A = W] */
#include "npb.h"

#define BATCH (1 << 16)

int main(int argc, char **argv) {
    static const struct {
        int log_pairs;
        double x, y;
    } classes[] = {{24, -3.247834652034740e+3, -6.958407078382297e+3},
                   {25, -2.863319731645753e+3, -6.320053679109499e+3},
                   {28, -4.295875165629892e+3, -1.580732573678431e+4}};
    int class = npb_class(argc, argv, "EP");
    uint64_t batches = (UINT64_C(1) << classes[class].log_pairs) / BATCH;
    double *uniform = allocate(2 * BATCH * sizeof *uniform);
    double sum_x = 0, sum_y = 0, annulus[10] = {0};
    for (int i = 0; i < 2 * BATCH; i++) uniform[i] = 0;
    npb_begin();
    for (uint64_t batch = 0; batch < batches; batch++) {
        uint64_t seed = npb_random_after(271828183, NPB_MULTIPLIER, batch * 2 * BATCH);
        for (int i = 0; i < 2 * BATCH; i++) uniform[i] = npb_random(&seed, NPB_MULTIPLIER);
        for (int i = 0; i < BATCH; i++) {
            double x = 2 * uniform[2 * i] - 1, y = 2 * uniform[2 * i + 1] - 1, t = x * x + y * y;
            if (t > 1) continue;
            double scale = sqrt(-2 * log(t) / t);
            x *= scale;
            y *= scale;
            annulus[(int)fmax(fabs(x), fabs(y))] += 1;
            sum_x += x;
            sum_y += y;
        }
    }
    npb_end();
    free(uniform);
    double pairs = 0;
    for (int i = 0; i < 10; i++) pairs += annulus[i];
    printf("sums %25.15e %25.15e\n%.0f Gaussian pairs\n", sum_x, sum_y, pairs);
    for (int i = 0; i < 10; i++) printf("%3d %15.0f\n", i, annulus[i]);
    return npb_verdict(fabs((sum_x - classes[class].x) / classes[class].x) <= 1e-8 &&
                       fabs((sum_y - classes[class].y) / classes[class].y) <= 1e-8);
}
