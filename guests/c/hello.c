/* The smallest program: one line to stdout, arguments and one environment variable if given. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    puts("hello from wayfare");
    for (int i = 1; i < argc; i++) printf("argument %d: %s\n", i, argv[i]);
    const char *greeting = getenv("GREETING");
    if (greeting) printf("greeting: %s\n", greeting);
    return 0;
}
