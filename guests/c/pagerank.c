/* PageRank on a Kronecker graph, pulling from the neighbours, as GAP's `pr -g scale`: damping 0.85, up to 20 rounds,
 * done when the ranks change by less than 1e-4 in sum. pagerank [scale = 20] [repeats = 4] */
#include "graph.h"
#include <math.h>

/* Gives the number of rounds. */
static int rank_pages(const struct graph *g, double *rank, double *share, double *error) {
    const double damping = 0.85, base = (1 - damping) / g->vertices;
    for (uint32_t v = 0; v < g->vertices; v++) {
        rank[v] = 1.0 / g->vertices;
        share[v] = degree(g, v) ? rank[v] / (double)degree(g, v) : 0;
    }
    for (int round = 1;; round++) {
        *error = 0;
        for (uint32_t u = 0; u < g->vertices; u++) {
            double pulled = 0;
            for (uint64_t e = g->offset[u]; e < g->offset[u + 1]; e++) pulled += share[g->neighbour[e]];
            double next = base + damping * pulled;
            *error += fabs(next - rank[u]);
            rank[u] = next;
            share[u] = degree(g, u) ? next / (double)degree(g, u) : 0; /* at once: Gauss-Seidel, as GAP does */
        }
        if (*error < 1e-4 || round == 20) return round;
    }
}

int main(int argc, char **argv) {
    int scale = size_argument(argc, argv, 1, 20, 1);
    long repeats = size_argument(argc, argv, 2, 4, 1);
    struct graph g = generate_graph(scale, 27491095);
    printf("%u vertices, %llu edges\n", g.vertices, (unsigned long long)g.edges);
    double *rank = allocate(g.vertices * sizeof *rank), *share = allocate(g.vertices * sizeof *share), error = 0;
    int rounds = 0;
    for (long i = 0; i < repeats; i++) rounds = rank_pages(&g, rank, share, &error);
    uint32_t best = 0;
    double total = 0;
    for (uint32_t v = 0; v < g.vertices; v++) {
        total += rank[v];
        if (rank[v] > rank[best]) best = v;
    }
    printf("%d rounds, error %.9f, total rank %.9f\n", rounds, error, total);
    printf("highest: vertex %u, %.9f\n", best, rank[best]);
    printf("checksum %016llx\n", (unsigned long long)checksum(CHECKSUM_START, rank, g.vertices * sizeof *rank));
    free(rank), free(share);
    discard_graph(&g);
    return 0;
}
