/* The Jovian planets by a symplectic integrator, the task of the benchmarks game: doubles, square roots, a small
 * hot loop. nbody [steps = 50000000] */
#include "guest.h"
#include <math.h>

#define BODIES 5
#define DAYS_PER_YEAR 365.24
static const double solar_mass = 4 * M_PI * M_PI;

struct body {
    double x[3], v[3], mass;
};

/* Positions in au, velocities in au/day, masses in solar masses; scaled to years by `prepare`. */
static struct body bodies[BODIES] = {
    {{0, 0, 0}, {0, 0, 0}, 1}, /* Sun */
    {{4.84143144246472090e+00, -1.16032004402742839e+00, -1.03622044471123109e-01}, /* Jupiter */
     {1.66007664274403694e-03, 7.69901118419740425e-03, -6.90460016972063023e-05}, 9.54791938424326609e-04},
    {{8.34336671824457987e+00, 4.12479856412430479e+00, -4.03523417114321381e-01}, /* Saturn */
     {-2.76742510726411899e-03, 4.99852801234917238e-03, 2.30417297573763929e-05}, 2.85885980666130812e-04},
    {{1.28943695621391310e+01, -1.51111514016986312e+01, -2.23307578892655734e-01}, /* Uranus */
     {2.96460137564761618e-03, 2.37847173959480950e-03, -2.96589568540237556e-05}, 4.36624404335156298e-05},
    {{1.53796971148509165e+01, -2.59193146099879641e+01, 1.79258772950371181e-01}, /* Neptune */
     {2.68067772490389322e-03, 1.62824170038242295e-03, -9.51592254519715870e-05}, 5.15138902046611451e-05},
};

/* Years, solar masses of 4 pi^2, and a centre of mass at rest. */
static void prepare(void) {
    double momentum[3] = {0, 0, 0};
    for (int i = 0; i < BODIES; i++) {
        bodies[i].mass *= solar_mass;
        for (int k = 0; k < 3; k++) {
            bodies[i].v[k] *= DAYS_PER_YEAR;
            momentum[k] += bodies[i].v[k] * bodies[i].mass;
        }
    }
    for (int k = 0; k < 3; k++) bodies[0].v[k] = -momentum[k] / solar_mass;
}

static void advance(double dt) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3], square = 0;
            for (int k = 0; k < 3; k++) {
                d[k] = bodies[i].x[k] - bodies[j].x[k];
                square += d[k] * d[k];
            }
            double magnitude = dt / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].v[k] -= d[k] * bodies[j].mass * magnitude;
                bodies[j].v[k] += d[k] * bodies[i].mass * magnitude;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) bodies[i].x[k] += dt * bodies[i].v[k];
}

static double energy(void) {
    double e = 0;
    for (int i = 0; i < BODIES; i++) {
        const struct body *b = &bodies[i];
        e += 0.5 * b->mass * (b->v[0] * b->v[0] + b->v[1] * b->v[1] + b->v[2] * b->v[2]);
        for (int j = i + 1; j < BODIES; j++) {
            double square = 0;
            for (int k = 0; k < 3; k++) square += (b->x[k] - bodies[j].x[k]) * (b->x[k] - bodies[j].x[k]);
            e -= b->mass * bodies[j].mass / sqrt(square);
        }
    }
    return e;
}

int main(int argc, char **argv) {
    long steps = size_argument(argc, argv, 1, 50000000, 0);
    prepare();
    printf("%.9f\n", energy());
    for (long i = 0; i < steps; i++) advance(0.01);
    printf("%.9f\n", energy());
    printf("state %016llx\n", (unsigned long long)checksum(CHECKSUM_START, bodies, sizeof bodies));
    return 0;
}
