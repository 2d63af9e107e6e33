/* Sleeps and looks at the clocks: monotonic time never goes backwards, no sleep is shorter than asked for, and
 * the time between a tick's end and the next one's start stays small, however long the task lay captured.
 * sleeper [ticks = 50] [milliseconds = 100] [longest gap in milliseconds, 0 = do not check, default 0] */
#include "guest.h"
#include <errno.h>
#include <time.h>

static int64_t now(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) {
        perror("clock_gettime");
        exit(1);
    }
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_for(int64_t nanoseconds, int64_t start, int absolute) {
    int64_t target = absolute ? start + nanoseconds : nanoseconds;
    struct timespec t = {.tv_sec = target / 1000000000, .tv_nsec = (long)(target % 1000000000)};
    int error = absolute ? clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) : nanosleep(&t, NULL) ? errno : 0;
    if (error) {
        printf("sleep: %s\n", strerror(error));
        exit(1);
    }
}

int main(int argc, char **argv) {
    long ticks = size_argument(argc, argv, 1, 50, 1);
    int64_t length = (int64_t)size_argument(argc, argv, 2, 100, 0) * 1000000;
    int64_t gap = (int64_t)size_argument(argc, argv, 3, 0, 0) * 1000000, last = now(CLOCK_MONOTONIC);
    int wrong = 0;
    for (long tick = 0; tick < ticks; tick++) {
        int64_t start = now(CLOCK_MONOTONIC);
        if (start < last) wrong = printf("tick %ld: time went back by %lld ns\n", tick, (long long)(last - start));
        if (gap && start - last > gap) wrong = printf("tick %ld: %lld ns passed unseen\n", tick, (long long)(start - last));
        sleep_for(length, start, tick % 2);
        last = now(CLOCK_MONOTONIC);
        if (last - start < length)
            wrong = printf("tick %ld: slept %lld ns of %lld\n", tick, (long long)(last - start), (long long)length);
        if (gap && last - start > length + gap)
            wrong = printf("tick %ld: overslept, %lld ns\n", tick, (long long)(last - start));
        printf("tick %ld\n", tick);
        fflush(stdout);
    }
    if (now(CLOCK_REALTIME) < (int64_t)1577836800 * 1000000000) wrong = puts("wall clock is before 2020");
    puts(wrong ? "time was wrong" : "time was right");
    return wrong != 0;
}
