/* NAS kernel CG, conjugate gradient (RNR-94-007, section 2.2.3): the smallest eigenvalue of a large sparse random
 * matrix by inverse power iteration; each step solves a system by 25 steps of CG. npb_cg [S|W|A = W] */
#include "npb.h"

static const struct {
    int order, nonzeros;
    double shift, zeta;
} classes[] = {{1400, 7, 10, 8.5971775078648}, {7000, 8, 12, 10.362595087124}, {14000, 11, 20, 17.130235054029}};

#define OUTER 15
#define INNER 25
#define CONDITION 0.1 /* the reciprocal of the matrix's condition number */
#define MOST_NONZEROS 12

static int n;
static int *row, *column; /* compressed rows: row[i] .. row[i + 1] index column and value */
static double *value;

/* A sparse vector with random values at random, distinct places, and 0.5 at `own`. */
struct sparse_vector {
    int length, place[MOST_NONZEROS];
    double value[MOST_NONZEROS];
};

static void random_vector(struct sparse_vector *vector, int nonzeros, int own, uint64_t *seed) {
    int power = 1;
    while (power < n) power *= 2;
    vector->length = 0;
    while (vector->length < nonzeros) {
        double element = npb_random(seed, NPB_MULTIPLIER);
        int place = (int)(npb_random(seed, NPB_MULTIPLIER) * power), taken = place >= n;
        for (int i = 0; i < vector->length; i++) taken |= vector->place[i] == place;
        if (taken) continue;
        vector->place[vector->length] = place;
        vector->value[vector->length++] = element;
    }
    for (int i = 0; i < vector->length; i++)
        if (vector->place[i] == own) {
            vector->value[i] = 0.5;
            return;
        }
    vector->place[vector->length] = own;
    vector->value[vector->length++] = 0.5;
}

/* A = sum over i of w_i x_i x_i^T + (CONDITION - shift) I, with w_i falling geometrically from 1 to CONDITION. */
static void make_matrix(int nonzeros, double shift, uint64_t *seed) {
    struct sparse_vector *vectors = allocate((size_t)n * sizeof *vectors);
    int *room = calloc((size_t)n + 1, sizeof *room), *used = calloc((size_t)n, sizeof *used);
    if (!room || !used) exit(1);
    for (int i = 0; i < n; i++) {
        random_vector(&vectors[i], nonzeros, i, seed);
        for (int k = 0; k < vectors[i].length; k++) room[vectors[i].place[k] + 1] += vectors[i].length;
    }
    for (int i = 0; i < n; i++) room[i + 1] += room[i];
    column = allocate((size_t)room[n] * sizeof *column);
    value = allocate((size_t)room[n] * sizeof *value);
    double weight = 1, ratio = pow(CONDITION, 1.0 / n);
    for (int i = 0; i < n; i++, weight *= ratio)
        for (int k = 0; k < vectors[i].length; k++) {
            int r = vectors[i].place[k];
            double scaled = weight * vectors[i].value[k];
            for (int l = 0; l < vectors[i].length; l++) {
                int c = vectors[i].place[l], first = room[r], at = first + used[r];
                double element = vectors[i].value[l] * scaled;
                if (c == r && r == i) element += CONDITION - shift;
                while (at > first && column[at - 1] > c) at--;
                if (at > first && column[at - 1] == c) {
                    value[at - 1] += element;
                    continue;
                }
                size_t behind = (size_t)(first + used[r] - at);
                memmove(&column[at + 1], &column[at], behind * sizeof *column);
                memmove(&value[at + 1], &value[at], behind * sizeof *value);
                column[at] = c;
                value[at] = element;
                used[r]++;
            }
        }
    /* Rows shrank where elements met: close the gaps. */
    row = allocate(((size_t)n + 1) * sizeof *row);
    row[0] = 0;
    for (int i = 0; i < n; i++) {
        memmove(&column[row[i]], &column[room[i]], (size_t)used[i] * sizeof *column);
        memmove(&value[row[i]], &value[room[i]], (size_t)used[i] * sizeof *value);
        row[i + 1] = row[i] + used[i];
    }
    free(vectors), free(room), free(used);
}

static void multiply(double *restrict out, const double *restrict in) {
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = row[i]; k < row[i + 1]; k++) sum += value[k] * in[column[k]];
        out[i] = sum;
    }
}

static double dot(const double *a, const double *b) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Solves A z = x; gives the norm of the residual. */
static double solve(const double *x, double *z, double *p, double *q, double *r) {
    for (int i = 0; i < n; i++) z[i] = 0, r[i] = p[i] = x[i];
    double rho = dot(r, r);
    for (int step = 0; step < INNER; step++) {
        multiply(q, p);
        double alpha = rho / dot(p, q);
        for (int i = 0; i < n; i++) {
            z[i] += alpha * p[i];
            r[i] -= alpha * q[i];
        }
        double before = rho;
        rho = dot(r, r);
        double beta = rho / before;
        for (int i = 0; i < n; i++) p[i] = r[i] + beta * p[i];
    }
    multiply(r, z);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (x[i] - r[i]) * (x[i] - r[i]);
    return sqrt(sum);
}

int main(int argc, char **argv) {
    int class = npb_class(argc, argv, "CG");
    n = classes[class].order;
    uint64_t seed = 314159265;
    npb_random(&seed, NPB_MULTIPLIER); /* the specification's sequence starts one further on */
    make_matrix(classes[class].nonzeros, classes[class].shift, &seed);
    printf("order %d, %d nonzeros\n", n, row[n]);
    size_t bytes = (size_t)n * sizeof(double);
    double *x = allocate(bytes), *z = allocate(bytes), *p = allocate(bytes), *q = allocate(bytes), *r = allocate(bytes);
    double zeta = 0;
    for (int i = 0; i < n; i++) x[i] = 1, z[i] = p[i] = q[i] = r[i] = 0;
    npb_begin();
    for (int iteration = 1; iteration <= OUTER; iteration++) {
        double residual = solve(x, z, p, q, r), length = sqrt(dot(z, z));
        zeta = classes[class].shift + 1 / dot(x, z);
        printf("%4d  %20.14e %20.13f\n", iteration, residual, zeta);
        for (int i = 0; i < n; i++) x[i] = z[i] / length;
    }
    npb_end();
    free(x), free(z), free(p), free(q), free(r), free(row), free(column), free(value);
    printf("zeta %.13f, published %.13f\n", zeta, classes[class].zeta);
    return npb_verdict(fabs(zeta - classes[class].zeta) / classes[class].zeta <= 1e-10);
}
