/* Waits inside host calls, so that a capture has to interrupt one.
 * blocked read                 waits in read for each line of stdin, and numbers it
 * blocked poll [milliseconds]  the same, waiting in poll, with a time-out (default 60000) after which it says so and ends
 * blocked sleep [milliseconds] one long sleep (default 5000), checked against the monotonic clock */
#include "guest.h"
#include <poll.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Reads a byte at a time: nothing may be held in a buffer while the task waits. Gives 0 at the end of the stream. */
static int next_line(char *line, size_t room, long timeout) {
    for (size_t used = 0; used + 1 < room;) {
        if (timeout >= 0) {
            struct pollfd waiting = {.fd = 0, .events = POLLIN};
            int64_t start = now();
            int ready = poll(&waiting, 1, (int)timeout);
            if (ready == 0) {
                printf(now() - start >= timeout ? "timed out\n" : "timed out too soon\n");
                exit(3);
            }
            if (ready < 0) {
                perror("blocked: poll");
                exit(1);
            }
        }
        ssize_t got = read(0, line + used, 1);
        if (got < 0) {
            perror("blocked: read");
            exit(1);
        }
        if (got) used++;
        line[used] = 0;
        if (got == 0 || line[used - 1] == '\n') return used > 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *how = argc > 1 ? argv[1] : "read";
    if (strcmp(how, "sleep") == 0) {
        long length = size_argument(argc, argv, 2, 5000, 0);
        int64_t start = now();
        puts("sleeping");
        struct timespec t = {.tv_sec = length / 1000, .tv_nsec = length % 1000 * 1000000};
        if (nanosleep(&t, NULL)) perror("blocked: sleep");
        /* Milliseconds are cut off at both ends, so one may be missing. */
        puts(now() - start + 1 >= length ? "slept" : "woke too soon");
        return 0;
    }
    if (strcmp(how, "read") && strcmp(how, "poll")) {
        fprintf(stderr, "usage: blocked [read | poll [ms] | sleep [ms]]\n");
        return 2;
    }
    long timeout = strcmp(how, "poll") ? -1 : size_argument(argc, argv, 2, 60000, 0), count = 0;
    static char line[65536];
    puts("waiting");
    while (next_line(line, sizeof line, timeout)) {
        line[strcspn(line, "\n")] = 0;
        printf("%ld: %s\n", ++count, line);
    }
    printf("%ld lines\n", count);
    return 0;
}
