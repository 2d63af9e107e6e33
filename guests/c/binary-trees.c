/* Builds, walks and frees binary trees, the task of the benchmarks game: malloc, free, recursion over pointers.
 * binary-trees [depth = 20] */
#include "guest.h"

struct node {
    struct node *left, *right;
};

static struct node *build(int depth) {
    struct node *node = allocate(sizeof *node);
    node->left = depth ? build(depth - 1) : NULL;
    node->right = depth ? build(depth - 1) : NULL;
    return node;
}

static long count(const struct node *node) { return node->left ? 1 + count(node->left) + count(node->right) : 1; }

static void discard(struct node *node) {
    if (node->left) {
        discard(node->left);
        discard(node->right);
    }
    free(node);
}

int main(int argc, char **argv) {
    int smallest = 4, largest = size_argument(argc, argv, 1, 20, 0);
    if (largest < smallest + 2) largest = smallest + 2;
    struct node *stretch = build(largest + 1);
    printf("stretch tree of depth %d\t check: %ld\n", largest + 1, count(stretch));
    discard(stretch);
    struct node *lasting = build(largest);
    for (int depth = smallest; depth <= largest; depth += 2) {
        long trees = 1L << (largest - depth + smallest), check = 0;
        for (long i = 0; i < trees; i++) {
            struct node *tree = build(depth);
            check += count(tree);
            discard(tree);
        }
        printf("%ld\t trees of depth %d\t check: %ld\n", trees, depth, check);
    }
    printf("long lived tree of depth %d\t check: %ld\n", largest, count(lasting));
    discard(lasting);
    return 0;
}
