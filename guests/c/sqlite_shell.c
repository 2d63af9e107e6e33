/* SQLite over an in-memory database: inserts, joins, sorts, aggregates, updates on rows from a fixed generator.
 * A large real program with indirect calls, deep call chains and a heap of its own.
 * sqlite [rows = 300000] [rounds = 1]; prints result rows and a checksum of all rows of every query.
 *
 * SQLite is built with SQLITE_OS_OTHER: the VFS below has no files, since nothing here may leave linear memory. */
#include "guest.h"
#include "sqlite3.h"

static int no_file_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags) {
    (void)vfs, (void)name, (void)flags, (void)out_flags;
    file->pMethods = NULL;
    return SQLITE_CANTOPEN;
}
static int no_file_delete(sqlite3_vfs *vfs, const char *name, int sync) {
    (void)vfs, (void)name, (void)sync;
    return SQLITE_OK;
}
static int no_file_access(sqlite3_vfs *vfs, const char *name, int flags, int *out) {
    (void)vfs, (void)name, (void)flags;
    *out = 0;
    return SQLITE_OK;
}
static int plain_path(sqlite3_vfs *vfs, const char *name, int size, char *out) {
    (void)vfs;
    sqlite3_snprintf(size, out, "%s", name);
    return SQLITE_OK;
}
static int fixed_randomness(sqlite3_vfs *vfs, int size, char *out) {
    static uint64_t state = 1;
    (void)vfs;
    for (int i = 0; i < size; i++) out[i] = (char)next_random(&state);
    return size;
}
static int no_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return microseconds;
}
static int fixed_time(sqlite3_vfs *vfs, double *julian_day) {
    (void)vfs;
    *julian_day = 2451544.5;
    return SQLITE_OK;
}
static int last_error(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs, (void)size, (void)out;
    return 0;
}
int sqlite3_os_init(void) {
    static sqlite3_vfs vfs = {.iVersion = 1, .szOsFile = sizeof(sqlite3_file), .mxPathname = 512, .zName = "none",
                              .xOpen = no_file_open, .xDelete = no_file_delete, .xAccess = no_file_access,
                              .xFullPathname = plain_path, .xRandomness = fixed_randomness, .xSleep = no_sleep,
                              .xCurrentTime = fixed_time, .xGetLastError = last_error};
    return sqlite3_vfs_register(&vfs, 1);
}
int sqlite3_os_end(void) { return SQLITE_OK; }

static sqlite3 *db;
static uint64_t total = CHECKSUM_START;

static void fail(const char *what) {
    fprintf(stderr, "sqlite: %s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static void run(const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) fail(sql);
}

/* Runs one query; prints its first rows, sums all of them. */
static void query(const char *sql, int rows_shown) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) fail(sql);
    long rows = 0;
    int status;
    while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const char *text = (const char *)sqlite3_column_text(statement, i);
            if (!text) text = "NULL";
            total = checksum(total, text, strlen(text) + 1);
            if (rows < rows_shown) printf("%s%s", i ? "|" : "", text);
        }
        if (rows++ < rows_shown) putchar('\n');
    }
    if (status != SQLITE_DONE) fail(sql);
    sqlite3_finalize(statement);
    printf("-- %ld rows, checksum %016llx\n", rows, (unsigned long long)total);
}

static void insert_rows(long people, long orders) {
    static const char *const cities[] = {"Athens", "Berlin", "Cork", "Delft", "Espoo", "Faro", "Ghent", "Haifa"};
    uint64_t random = 42;
    sqlite3_stmt *insert;
    run("BEGIN");
    if (sqlite3_prepare_v2(db, "INSERT INTO person VALUES (?, ?, ?, ?)", -1, &insert, NULL) != SQLITE_OK) fail("insert");
    for (long i = 0; i < people; i++) {
        char name[32];
        snprintf(name, sizeof name, "person-%08llx", (unsigned long long)(next_random(&random) >> 32));
        sqlite3_bind_int64(insert, 1, i);
        sqlite3_bind_text(insert, 2, name, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(insert, 3, cities[next_random(&random) % 8], -1, SQLITE_STATIC);
        sqlite3_bind_int64(insert, 4, (sqlite3_int64)(next_random(&random) % 100));
        if (sqlite3_step(insert) != SQLITE_DONE) fail("insert person");
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    if (sqlite3_prepare_v2(db, "INSERT INTO purchase VALUES (?, ?, ?, ?)", -1, &insert, NULL) != SQLITE_OK) fail("insert");
    for (long i = 0; i < orders; i++) {
        sqlite3_bind_int64(insert, 1, i);
        sqlite3_bind_int64(insert, 2, (sqlite3_int64)(next_random(&random) % (uint64_t)people));
        sqlite3_bind_double(insert, 3, (double)(next_random(&random) % 100000) / 100);
        sqlite3_bind_int64(insert, 4, (sqlite3_int64)(next_random(&random) % 365));
        if (sqlite3_step(insert) != SQLITE_DONE) fail("insert purchase");
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    run("COMMIT");
}

int main(int argc, char **argv) {
    long orders = size_argument(argc, argv, 1, 300000, 10);
    long rounds = size_argument(argc, argv, 2, 1, 1);
    for (long round = 0; round < rounds; round++) {
        if (sqlite3_open(":memory:", &db) != SQLITE_OK) fail("open");
        run("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, city TEXT, age INTEGER);"
            "CREATE TABLE purchase (id INTEGER PRIMARY KEY, person INTEGER, amount REAL, day INTEGER)");
        insert_rows(orders / 10 + 1, orders);
        run("CREATE INDEX by_person ON purchase (person); CREATE INDEX by_day ON purchase (day, amount)");
        query("SELECT count(*), sum(age), min(name), max(name) FROM person", 1);
        query("SELECT city, count(*), printf('%.2f', sum(amount)), printf('%.4f', avg(age)) FROM purchase "
              "JOIN person ON person.id = purchase.person GROUP BY city ORDER BY sum(amount) DESC", 8);
        query("SELECT name, printf('%.2f', sum(amount)) AS spent, count(*) FROM person JOIN purchase "
              "ON person.id = purchase.person GROUP BY person.id ORDER BY sum(amount) DESC, name LIMIT 20", 5);
        query("SELECT id, amount FROM purchase ORDER BY amount DESC, id", 3);
        query("SELECT day, printf('%.2f', sum(amount) OVER (ORDER BY day ROWS 6 PRECEDING)) FROM "
              "(SELECT day, sum(amount) AS amount FROM purchase GROUP BY day) ORDER BY day", 3);
        query("WITH RECURSIVE chain(n, x) AS (VALUES (1, 7) UNION ALL SELECT n + 1, (x * 1103515245 + 12345) % 2147483648 "
              "FROM chain WHERE n < 20000) SELECT count(*), sum(x) FROM chain", 1);
        run("BEGIN; UPDATE purchase SET amount = amount * 2 WHERE day % 7 = 0; DELETE FROM purchase WHERE id % 11 = 3; COMMIT");
        query("SELECT p.city, q.day, printf('%.2f', max(amount)) FROM purchase q JOIN person p ON p.id = q.person "
              "WHERE p.name LIKE '%a%' GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2", 3);
        query("PRAGMA integrity_check", 1);
        if (sqlite3_close(db) != SQLITE_OK) fail("close");
    }
    printf("checksum %016llx\n", (unsigned long long)total);
    return 0;
}
