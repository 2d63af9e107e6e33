// A TCP service: sends back what its clients send, to each its own. The listening socket is descriptor 3, or the number
// given. With "count" it answers each line with its number and the number of all lines so far, of all clients: state that
// must come along when the service moves.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 64, ROOM = 16384 };

struct client {
    int fd;
    int ended;          // the client has sent all
    size_t from, to;    // what is to be sent back
    unsigned long lines;
    char data[ROOM];
};

static struct client clients[CLIENTS];
static unsigned long lines;
static int counts;

static void drop(struct client *c) {
    close(c->fd);
    c->fd = -1;
}

// In: bytes of the client; out: what it gets for them, in place or after them.
static void answer(struct client *c, ssize_t got, char *bytes) {
    if (!counts) {
        c->to += got;
        return;
    }
    char text[ROOM];
    size_t len = 0;
    for (ssize_t i = 0; i < got; i++)
        if (bytes[i] == '\n') {
            lines++, c->lines++;
            len += snprintf(text + len, sizeof text - len, "%lu %lu\n", c->lines, lines);
        }
    memcpy(c->data + c->to, text, len);
    c->to += len;
}

static void receive(struct client *c) {
    // Counting needs room for an answer to each byte.
    size_t room = (ROOM - c->to) / (counts ? 48 : 1);
    char bytes[ROOM];
    ssize_t got = recv(c->fd, counts ? bytes : c->data + c->to, room, 0);
    if (got < 0 && errno != EAGAIN)
        drop(c);
    else if (got == 0)
        c->ended = 1;
    else if (got > 0)
        answer(c, got, bytes);
}

static void transmit(struct client *c) {
    ssize_t sent = send(c->fd, c->data + c->from, c->to - c->from, 0);
    if (sent < 0 && errno != EAGAIN) {
        drop(c);
        return;
    }
    if (sent > 0)
        c->from += sent;
    if (c->from == c->to)
        c->from = c->to = 0;
}

int main(int argc, char **argv) {
    int listener = 3;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "count"))
            counts = 1;
        else
            listener = atoi(argv[i]);
    for (int i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    puts("serving");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[CLIENTS + 1] = {{listener, POLLIN, 0}};
        struct client *of[CLIENTS + 1] = {0};
        int n = 1;
        for (int i = 0; i < CLIENTS; i++) {
            struct client *c = &clients[i];
            if (c->fd < 0)
                continue;
            short events = 0;
            if (!c->ended && ROOM - c->to >= 1024)
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
        for (int i = 1; i < n; i++) {
            if (fds[i].revents & (POLLIN | POLLHUP) && of[i]->fd >= 0 && !of[i]->ended)
                receive(of[i]);
            if (of[i]->fd >= 0 && of[i]->to > of[i]->from)
                transmit(of[i]);
            if (of[i]->fd >= 0 && of[i]->ended && of[i]->to == of[i]->from)
                drop(of[i]);
        }
        if (fds[0].revents & POLLIN) {
            int fd = accept(listener, 0, 0);
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
