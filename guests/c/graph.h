/* A Kronecker graph in compressed sparse rows, as the Graph500 and GAP benchmarks define it:
 * 2^scale vertices, 16 edges a vertex from R-MAT with A = 0.57, B = C = 0.19, labels permuted, made undirected. */
#ifndef GRAPH_H
#define GRAPH_H
#include "guest.h"

struct graph {
    uint32_t vertices;
    uint64_t edges;      /* directed: each undirected edge is counted twice */
    uint64_t *offset;    /* vertices + 1 */
    uint32_t *neighbour; /* edges */
};

static struct graph generate_graph(int scale, uint64_t seed) {
    uint32_t vertices = 1u << scale;
    uint64_t pairs = (uint64_t)vertices * 16;
    uint32_t *ends = allocate(pairs * 2 * sizeof *ends);
    uint32_t *label = allocate(vertices * sizeof *label);
    for (uint32_t i = 0; i < vertices; i++) label[i] = i;
    for (uint32_t i = vertices - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(next_random(&seed) % (i + 1)), swap = label[i];
        label[i] = label[j];
        label[j] = swap;
    }
    const uint32_t a = 0.57 * 4294967296.0, ab = 0.76 * 4294967296.0, abc = 0.95 * 4294967296.0;
    for (uint64_t e = 0; e < pairs; e++) {
        uint32_t u = 0, v = 0;
        for (int bit = 0; bit < scale; bit++) {
            uint32_t r = (uint32_t)(next_random(&seed) >> 32);
            u = u << 1 | (r >= ab);
            v = v << 1 | ((r >= a && r < ab) || r >= abc);
        }
        ends[2 * e] = label[u];
        ends[2 * e + 1] = label[v];
    }
    free(label);
    struct graph g = {.vertices = vertices, .offset = calloc(vertices + 1, sizeof *g.offset)};
    if (!g.offset) exit(1);
    for (uint64_t i = 0; i < 2 * pairs; i += 2)
        if (ends[i] != ends[i + 1]) g.offset[ends[i] + 1]++, g.offset[ends[i + 1] + 1]++;
    for (uint32_t i = 0; i < vertices; i++) g.offset[i + 1] += g.offset[i];
    g.edges = g.offset[vertices];
    g.neighbour = allocate(g.edges * sizeof *g.neighbour);
    uint64_t *next = allocate(vertices * sizeof *next);
    memcpy(next, g.offset, vertices * sizeof *next);
    for (uint64_t i = 0; i < 2 * pairs; i += 2)
        if (ends[i] != ends[i + 1]) {
            g.neighbour[next[ends[i]]++] = ends[i + 1];
            g.neighbour[next[ends[i + 1]]++] = ends[i];
        }
    free(next);
    free(ends);
    return g;
}

static inline uint64_t degree(const struct graph *g, uint32_t v) { return g->offset[v + 1] - g->offset[v]; }

static inline void discard_graph(struct graph *g) {
    free(g->offset);
    free(g->neighbour);
}
#endif
