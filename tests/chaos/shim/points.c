/* Every change that a process makes to its files is a numbered point, at which it can be killed: before or after it.
 *
 * A point is (process, kind, name of the file, ordinal). The file NAME.points of CROSSDOCK_SHIM_DIR, mapped by all
 * processes of a family, counts them and holds the one at which to die; a killed process finds there that it has
 * happened, and runs on. NAME.events lists them. Without NAME.points nothing is counted.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS 1024
#define BEFORE 1
#define AFTER 2

/* The same layout as in tests/chaos/points.py. */
struct points {
    char magic[8];
    uint64_t key, ordinal; /* where to die; ordinal 0: nowhere */
    uint32_t moment, cut;  /* BEFORE or AFTER; 1: the whole machine loses its current */
    _Atomic uint32_t fired, frozen;
    _Atomic uint64_t sequence;
    struct {
        _Atomic uint64_t key, count;
    } slots[SLOTS];
};

char points_root[4096], power_shadow[4096];
static struct points *points;
static int events = -1;

__attribute__((constructor(1000))) static void start(void)
{
    const char *directory = getenv("CROSSDOCK_SHIM_DIR"), *name = getenv("CROSSDOCK_SHIM_NAME");
    const char *root = getenv("CROSSDOCK_SHIM_ROOT"), *shadow = getenv("CROSSDOCK_SHIM_SHADOW");
    if (!directory || !name || !root)
        return;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.points", directory, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof(struct points), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    snprintf(path, sizeof path, "%s/%s.events", directory, name);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    events = fcntl(fd, F_DUPFD_CLOEXEC, 800); /* out of the way of whoever counts descriptors */
    close(fd);
    if (mapped == MAP_FAILED || events < 0) {
        fprintf(stderr, "fault shim: cannot use %s\n", path);
        _exit(97);
    }
    snprintf(points_root, sizeof points_root, "%s/", root);
    snprintf(power_shadow, sizeof power_shadow, "%s", shadow ? shadow : "");
    points = mapped;
}

static uint64_t hashed(uint64_t hash, const char *text) /* FNV-1a */
{
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3ULL;
    return (hash ^ '|') * 0x100000001b3ULL;
}

static uint64_t count(uint64_t key)
{
    for (size_t i = 0; i < SLOTS; i++) {
        size_t slot = (key + i) % SLOTS;
        uint64_t there = 0;
        if (__atomic_compare_exchange_n((uint64_t *)&points->slots[slot].key, &there, key, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST) ||
            there == key)
            return ++points->slots[slot].count;
    }
    fprintf(stderr, "fault shim: more than %d sorts of points\n", SLOTS);
    _exit(97);
}

void points_freeze(void)
{
    while (points && points->frozen)
        pause(); /* until the harness, which knows, kills us */
}

uint64_t points_next(void)
{
    return ++points->sequence;
}

static void die_if_due(struct point point, uint32_t moment)
{
    if (point.key != points->key || point.ordinal != points->ordinal || moment != points->moment || points->fired)
        return;
    points->frozen = points->cut;
    points->fired = 1;
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* The last part of *path*, with '#' for numbers and for long random names in hex, so that a run counts the same names as
 * the one before it. */
static void name_of(const char *path, char *name, size_t size)
{
    const char *last = strrchr(path, '/');
    size_t used = 0;
    for (last = last ? last + 1 : path; *last && used < size - 1;) {
        size_t hex = strspn(last, "0123456789abcdef"), digits = strspn(last, "0123456789");
        size_t replaced = hex >= 12 ? hex : digits;
        name[used++] = replaced ? '#' : *last;
        last += replaced ? replaced : 1;
    }
    name[used] = 0;
}

static int ends(const char *path, const char *with)
{
    size_t long_ = strlen(path), short_ = strlen(with);
    return long_ >= short_ && strcmp(path + long_ - short_, with) == 0;
}

static struct point point_at(const char *kind, const char *path)
{
    struct point point = {0, 0};
    if (strncmp(path, points_root, strlen(points_root)) || ends(path, "-shm"))
        return point;
    points_freeze();
    char name[128], line[512];
    name_of(path, name, sizeof name);
    point.key = hashed(hashed(hashed(0xcbf29ce484222325ULL, shim_label), kind), name);
    point.ordinal = count(point.key);
    int size = snprintf(line, sizeof line, "%s\t%s\t%s\t%lu\n", shim_label, kind, name, (unsigned long)point.ordinal);
    if (REAL(write)(events, line, (size_t)size) != size)
        _exit(97);
    die_if_due(point, BEFORE);
    return point;
}

struct point point_at_fd(const char *kind, int fd)
{
    char path[PATH_MAX];
    struct point none = {0, 0};
    if (!points || fd == events || !shim_path_of(fd, path))
        return none;
    return point_at(kind, path);
}

struct point point_at_path(const char *kind, int directory, const char *path)
{
    char whole[2 * PATH_MAX], base[PATH_MAX];
    struct point none = {0, 0};
    if (!points)
        return none;
    if (path[0] == '/')
        return point_at(kind, path);
    if (directory == AT_FDCWD ? !getcwd(base, sizeof base) : !shim_path_of(directory, base))
        return none;
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return point_at(kind, whole);
}

void point_passed(struct point point)
{
    if (point.key)
        die_if_due(point, AFTER);
}
