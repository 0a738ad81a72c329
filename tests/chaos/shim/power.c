/* What a power cut leaves: for each file its content at its last sync, for each directory its entries at its last.
 *
 * CROSSDOCK_SHIM_SHADOW holds inodes/ID (content of a file when it was last synced) and entries/NUMBER (first line: the
 * directory; then "name<TAB>ID" each), numbered in order of the syncs. An ID is inode and time of birth, since inodes are
 * used again. The harness puts there, before the start, what lay on the disk then.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void broken(const char *what, const char *path)
{
    fprintf(stderr, "fault shim: cannot %s %s: %s\n", what, path, strerror(errno));
    _exit(97);
}

static void identify(int directory, const char *name, char *id, size_t size)
{
    struct statx facts;
    if (statx(directory, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &facts)) {
        snprintf(id, size, "gone");
        return;
    }
    snprintf(id, size, "%llu-%lld.%09u", (unsigned long long)facts.stx_ino, (long long)facts.stx_btime.tv_sec,
             facts.stx_btime.tv_nsec);
}

static void put(int to, const char *data, size_t size, const char *path)
{
    if (REAL(write)(to, data, size) != (ssize_t)size)
        broken("write", path);
}

/* A file of the shadow is whole or not there: this process may be killed while it writes it. */
static int begin(char *part, size_t size)
{
    snprintf(part, size, "%s/part-%d-%d", power_shadow, getpid(), gettid());
    int to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0)
        broken("make", part);
    return to;
}

static void finish(int to, const char *part, const char *path)
{
    close(to);
    if (REAL(rename)(part, path))
        broken("name", path);
}

static void keep_content(const char *from, int fd)
{
    char id[64], part[PATH_MAX + 64], path[PATH_MAX + 80], data[65536];
    identify(fd, "", id, sizeof id);
    int to = begin(part, sizeof part), source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        broken("read", from);
    ssize_t size;
    while ((size = read(source, data, sizeof data)) > 0)
        put(to, data, (size_t)size, part);
    close(source);
    snprintf(path, sizeof path, "%s/inodes/%s", power_shadow, id);
    finish(to, part, path);
}

static void keep_entries(const char *directory)
{
    char part[PATH_MAX + 64], path[PATH_MAX + 80], line[PATH_MAX + 2], id[64];
    DIR *entries = opendir(directory);
    if (!entries)
        broken("list", directory);
    int to = begin(part, sizeof part);
    put(to, line, (size_t)snprintf(line, sizeof line, "%s\n", directory), part);
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (entry->d_type != DT_REG)
            continue;
        identify(dirfd(entries), entry->d_name, id, sizeof id);
        put(to, line, (size_t)snprintf(line, sizeof line, "%s\t%s\n", entry->d_name, id), part);
    }
    closedir(entries);
    snprintf(path, sizeof path, "%s/entries/%012lu", power_shadow, (unsigned long)points_next());
    finish(to, part, path);
}

void power_synced(int fd)
{
    char path[PATH_MAX], self[64];
    struct stat facts;
    if (!power_shadow[0] || !shim_path_of(fd, path))
        return;
    if (strncmp(path, points_root, strlen(points_root)) && strncmp(path, points_root, strlen(points_root) - 1))
        return;
    int error = errno;
    points_freeze();
    if (fstat(fd, &facts) == 0 && S_ISDIR(facts.st_mode)) {
        keep_entries(path);
    } else {
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd); /* opened anew: the descriptor may be for writing only */
        keep_content(self, fd);
    }
    errno = error;
}
