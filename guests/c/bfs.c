/* Breadth-first search on a Kronecker graph, as GAP's `bfs -g scale`: random reads over a large memory.
 * bfs [scale = 19] [sources = 16]; every search is checked: a parent is a neighbour one level up. */
#include "graph.h"

#define UNSEEN UINT32_MAX

/* Fills parent and level; gives the number of vertices reached. */
static uint32_t search(const struct graph *g, uint32_t source, uint32_t *parent, uint32_t *level, uint32_t *queue) {
    for (uint32_t v = 0; v < g->vertices; v++) parent[v] = UNSEEN;
    uint32_t head = 0, tail = 0;
    parent[source] = source;
    level[source] = 0;
    queue[tail++] = source;
    while (head < tail) {
        uint32_t u = queue[head++];
        for (uint64_t e = g->offset[u]; e < g->offset[u + 1]; e++) {
            uint32_t v = g->neighbour[e];
            if (parent[v] != UNSEEN) continue;
            parent[v] = u;
            level[v] = level[u] + 1;
            queue[tail++] = v;
        }
    }
    return tail;
}

static int is_search_tree(const struct graph *g, uint32_t source, const uint32_t *parent, const uint32_t *level) {
    for (uint32_t v = 0; v < g->vertices; v++) {
        int parent_is_neighbour = v == source;
        for (uint64_t e = g->offset[v]; e < g->offset[v + 1]; e++) {
            uint32_t u = g->neighbour[e];
            if ((parent[u] == UNSEEN) != (parent[v] == UNSEEN)) return 0;
            if (parent[v] == UNSEEN) continue;
            if (level[u] > level[v] + 1 || level[v] > level[u] + 1) return 0;
            if (u == parent[v] && level[v] == level[u] + 1) parent_is_neighbour = 1;
        }
        if (parent[v] != UNSEEN && !parent_is_neighbour) return 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    int scale = size_argument(argc, argv, 1, 19, 1);
    long sources = size_argument(argc, argv, 2, 16, 1);
    struct graph g = generate_graph(scale, 27491095);
    printf("%u vertices, %llu edges\n", g.vertices, (unsigned long long)g.edges);
    uint32_t *parent = allocate(g.vertices * sizeof *parent), *level = allocate(g.vertices * sizeof *level);
    uint32_t *queue = allocate(g.vertices * sizeof *queue);
    uint64_t random = 7, sum = CHECKSUM_START;
    for (long i = 0; i < sources; i++) {
        uint32_t source;
        do source = (uint32_t)(next_random(&random) % g.vertices);
        while (degree(&g, source) == 0);
        uint32_t reached = search(&g, source, parent, level, queue);
        if (!is_search_tree(&g, source, parent, level)) {
            printf("source %u: not a search tree\n", source);
            return 1;
        }
        sum = checksum(sum, parent, g.vertices * sizeof *parent);
        printf("source %u: %u reached, deepest level %u\n", source, reached, level[queue[reached - 1]]);
    }
    printf("checksum %016llx\n", (unsigned long long)sum);
    free(parent), free(level), free(queue);
    discard_graph(&g);
    return 0;
}
