/* Copies stdin to stdout, each read written before the next, and ends with the stream. cat [bytes a read = 4096] */
#include "guest.h"
#include <unistd.h>

int main(int argc, char **argv) {
    size_t room = (size_t)size_argument(argc, argv, 1, 4096, 1);
    char *buffer = allocate(room);
    for (ssize_t got; (got = read(0, buffer, room)) != 0;) {
        if (got < 0) {
            perror("cat: read");
            return 1;
        }
        for (ssize_t done = 0, put; done < got; done += put)
            if ((put = write(1, buffer + done, (size_t)(got - done))) < 0) {
                perror("cat: write");
                return 1;
            }
    }
    free(buffer);
    return 0;
}
