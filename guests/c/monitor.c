// A monitor as stands beside a patient: a TCP service that reads numbered samples, a line each, keeps a running analysis of
// them, and answers each with its number and what it makes of all so far. The listening socket is descriptor 3.
//
//   client: N VALUE
//   here:   N COUNT MEAN DEVIATION SMOOTHED ALARM     COUNT: samples so far; ALARM: 1 where VALUE is far from what is usual
//
// A sample that is lost, doubled or out of order shows in the next answer, and so does an analysis that went on from another
// state than the one that the last answer was made of.
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 16, LINE = 128, ROOM = LINE * LINE, HISTORY = 1 << 18 };

struct client {
    int fd;
    int ended;
    unsigned long count;
    double mean, squares, smoothed;
    size_t in, from, to;
    char line[LINE], out[ROOM];
};

static struct client clients[CLIENTS];
// All samples of late: what the state of a monitor is made of.
static double history[HISTORY];
static size_t recorded;

static void drop(struct client *c) {
    close(c->fd);
    c->fd = -1;
}

static void sample(struct client *c, unsigned long number, double value) {
    double deviation = c->count > 1 ? sqrt(c->squares / (double)(c->count - 1)) : 0;
    int alarm = c->count > 10 && fabs(value - c->mean) > 3 * deviation;
    double distance = value - c->mean;
    c->count++;
    c->mean += distance / (double)c->count;
    c->squares += distance * (value - c->mean);
    c->smoothed += (value - c->smoothed) / 8;
    history[recorded++ % HISTORY] = value;
    deviation = c->count > 1 ? sqrt(c->squares / (double)(c->count - 1)) : 0;
    c->to += (size_t)snprintf(c->out + c->to, ROOM - c->to, "%lu %lu %.6f %.6f %.6f %d\n", number, c->count, c->mean,
                              deviation, c->smoothed, alarm);
}

static void receive(struct client *c) {
    ssize_t got = recv(c->fd, c->line + c->in, LINE - c->in, 0);
    if (got < 0 && errno != EAGAIN)
        return drop(c);
    if (got <= 0) {
        c->ended = got == 0;
        return;
    }
    c->in += (size_t)got;
    for (char *end; (end = memchr(c->line, '\n', c->in));) {
        char *rest;
        *end = 0;
        unsigned long number = strtoul(c->line, &rest, 10);
        // So that an answer is never longer than a line.
        sample(c, number, fmin(fmax(strtod(rest, NULL), -1e9), 1e9));
        size_t used = (size_t)(end + 1 - c->line);
        memmove(c->line, end + 1, c->in -= used);
    }
    // A line that is none.
    if (c->in == LINE)
        drop(c);
}

static void transmit(struct client *c) {
    ssize_t sent = send(c->fd, c->out + c->from, c->to - c->from, 0);
    if (sent < 0 && errno != EAGAIN)
        return drop(c);
    if (sent > 0)
        c->from += (size_t)sent;
    if (c->from == c->to)
        c->from = c->to = 0;
}

int main(void) {
    for (int i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    puts("watching");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[CLIENTS + 1] = {{3, POLLIN, 0}};
        struct client *of[CLIENTS + 1] = {0};
        nfds_t n = 1;
        for (int i = 0; i < CLIENTS; i++) {
            struct client *c = &clients[i];
            if (c->fd < 0)
                continue;
            short events = 0;
            // A line's worth of the shortest samples has half as many answers as it has bytes.
            if (!c->ended && ROOM - c->to >= ROOM / 2)
                events |= POLLIN;
            if (c->to > c->from)
                events |= POLLOUT;
            fds[n] = (struct pollfd){c->fd, events, 0};
            of[n++] = c;
        }
        if (poll(fds, n, -1) < 0) {
            perror("poll");
            return 1;
        }
        for (nfds_t i = 1; i < n; i++) {
            struct client *c = of[i];
            if (fds[i].revents & (POLLIN | POLLHUP) && !c->ended)
                receive(c);
            if (c->fd >= 0 && c->to > c->from)
                transmit(c);
            if (c->fd >= 0 && c->ended && c->to == c->from)
                drop(c);
        }
        if (fds[0].revents & POLLIN) {
            int fd = accept(3, 0, 0);
            struct client *free = 0;
            for (int i = 0; i < CLIENTS && !free; i++)
                if (clients[i].fd < 0)
                    free = &clients[i];
            if (fd >= 0 && free)
                *free = (struct client){.fd = fd};
            else if (fd >= 0)
                close(fd);
        }
    }
}
