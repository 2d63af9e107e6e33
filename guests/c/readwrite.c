/* Files and streams: spreads stdin's lines over files below a preopened directory, reads them back in every way C has,
 * and prints checksums. readwrite [directory = /data] [files = 4] [rounds = 1]
 *
 * In each round the files are written, read, seeked in, appended to, renamed, listed; the last round leaves them
 * for a look from outside, with descriptors that stay open over rounds in between. */
#include "guest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *directory;

static void fail(const char *what, const char *name) {
    printf("readwrite: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static char *path(char buffer[512], const char *stem, long number) {
    snprintf(buffer, 512, "%s/%s-%ld.txt", directory, stem, number);
    return buffer;
}

static uint64_t sum_of_file(const char *name, long long *size) {
    FILE *file = fopen(name, "rb");
    if (!file) fail("open", name);
    char chunk[333]; /* no power of two, so that reads and pages do not line up */
    uint64_t sum = CHECKSUM_START;
    *size = 0;
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0; *size += (long long)got) sum = checksum(sum, chunk, got);
    if (ferror(file)) fail("read", name);
    fclose(file);
    return sum;
}

/* Lines are kept, since every round wants them and stdin comes once. */
static char **read_lines(long *count) {
    char **lines = NULL, *line = NULL;
    size_t room = 0, capacity = 0;
    *count = 0;
    while (getline(&line, &room, stdin) >= 0) {
        if ((size_t)*count == capacity) lines = realloc(lines, sizeof *lines * (capacity = capacity ? 2 * capacity : 64));
        if (!lines) exit(1);
        lines[(*count)++] = strdup(line);
    }
    free(line);
    return lines;
}

static void write_files(char **lines, long count, long files) {
    FILE **out = allocate((size_t)files * sizeof *out);
    char name[512];
    for (long i = 0; i < files; i++)
        if (!(out[i] = fopen(path(name, "part", i), "wb"))) fail("create", name);
    for (long i = 0; i < count; i++)
        if (fputs(lines[i], out[i % files]) < 0) fail("write", "part");
    for (long i = 0; i < files; i++)
        if (fclose(out[i])) fail("close", "part");
    free(out);
}

/* Reads backwards in blocks with pread, then overwrites the middle with what is there already, then appends. */
static void seek_and_append(const char *name) {
    int fd = open(name, O_RDWR);
    if (fd < 0) fail("reopen", name);
    struct stat about;
    if (fstat(fd, &about)) fail("stat", name);
    uint64_t sum = CHECKSUM_START;
    char block[100];
    for (off_t at = about.st_size; at > 0;) {
        off_t from = at > (off_t)sizeof block ? at - (off_t)sizeof block : 0;
        ssize_t got = pread(fd, block, (size_t)(at - from), from);
        if (got != at - from) fail("pread", name);
        sum = checksum(sum, block, (size_t)got);
        at = from;
    }
    char middle[16];
    off_t half = lseek(fd, about.st_size / 2, SEEK_SET);
    ssize_t got = read(fd, middle, sizeof middle);
    if (got < 0 || lseek(fd, half, SEEK_SET) != half || write(fd, middle, (size_t)got) != got) fail("overwrite", name);
    if (lseek(fd, 0, SEEK_END) != about.st_size) fail("seek", name);
    dprintf(fd, "backwards %016llx\n", (unsigned long long)sum);
    close(fd);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(void) {
    char *names[4096];
    int count = 0;
    DIR *dir = opendir(directory);
    if (!dir) fail("list", directory);
    for (struct dirent *entry; (entry = readdir(dir)) && count < 4096;)
        if (strncmp(entry->d_name, "whole-", 6) == 0 || strncmp(entry->d_name, "part-", 5) == 0)
            names[count++] = strdup(entry->d_name);
    closedir(dir);
    qsort(names, (size_t)count, sizeof *names, by_name);
    for (int i = 0; i < count; i++) {
        printf("  %s\n", names[i]);
        free(names[i]);
    }
}

int main(int argc, char **argv) {
    directory = argc > 1 ? argv[1] : "/data";
    long files = size_argument(argc, argv, 2, 4, 1), rounds = size_argument(argc, argv, 3, 1, 1), count;
    char **lines = read_lines(&count), name[512], renamed[512];
    printf("%ld lines\n", count);
    path(name, "log", 0);
    FILE *log = fopen(name, "w+b"); /* open from the first round to the last */
    if (!log) fail("create", name);
    for (long round = 0; round < rounds; round++) {
        write_files(lines, count, files);
        for (long i = 0; i < files; i++) {
            seek_and_append(path(name, "part", i));
            if (rename(name, path(renamed, "whole", i))) fail("rename", name);
            long long size;
            uint64_t sum = sum_of_file(renamed, &size);
            printf("round %ld: file %ld: %lld bytes, checksum %016llx\n", round, i, size, (unsigned long long)sum);
            fprintf(log, "%ld %ld %016llx\n", round, i, (unsigned long long)sum);
        }
        if (round + 1 == rounds) list();
        else
            for (long i = 0; i < files; i++)
                if (unlink(path(name, "whole", i))) fail("unlink", name);
    }
    rewind(log);
    uint64_t sum = CHECKSUM_START;
    for (int c; (c = getc(log)) != EOF;) sum = checksum(sum, &(char){(char)c}, 1);
    fclose(log);
    printf("log checksum %016llx\n", (unsigned long long)sum);
    for (long i = 0; i < count; i++) free(lines[i]);
    free(lines);
    return 0;
}
