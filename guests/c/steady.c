/* Changes its memory at a steady pace and says what is in it: each step sums up some pages of noise, writes to a few, and
 * prints. What it prints depends on nothing but its arguments, so a step that was lost, doubled or computed on another
 * memory shows, however often the task was moved or cut off; and it lasts as long as a test needs it.
 * steady [mebibytes = 8] [steps = 100] [milliseconds between steps = 20] [text, printed first and kept in memory] */
#include "guest.h"
#include <time.h>

enum { PAGE = 4096, READ = 32, WRITTEN = 8, TEXT_EVERY = 16 };

int main(int argc, char **argv) {
    size_t pages = (size_t)size_argument(argc, argv, 1, 8, 1) * 256;
    long steps = size_argument(argc, argv, 2, 100, 0), pause = size_argument(argc, argv, 3, 20, 0);
    const char *text = argc > 4 ? argv[4] : "steady";
    unsigned char *memory = allocate(pages * PAGE);
    uint64_t seed = 11, sum = CHECKSUM_START;
    for (size_t i = 0; i < pages * PAGE; i += 8) {
        uint64_t word = next_random(&seed);
        memcpy(memory + i, &word, 8);
    }
    size_t length = strlen(text) < PAGE ? strlen(text) : PAGE;
    for (size_t i = 0; i < pages; i += TEXT_EVERY) memcpy(memory + i * PAGE, text, length);
    printf("%s\n", text);
    fflush(stdout);
    for (long step = 1; step <= steps; step++) {
        for (int i = 0; i < READ; i++) sum = checksum(sum, memory + next_random(&seed) % pages * PAGE, PAGE);
        for (int i = 0; i < WRITTEN; i++) memcpy(memory + next_random(&seed) % pages * PAGE + PAGE / 2, &sum, 8);
        printf("step %ld: %016llx\n", step, (unsigned long long)sum);
        fflush(stdout);
        struct timespec t = {.tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000000};
        if (pause) nanosleep(&t, NULL);
    }
    printf("whole: %016llx\n", (unsigned long long)checksum(sum, memory, pages * PAGE));
    free(memory);
    return 0;
}
