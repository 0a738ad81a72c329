/* Calls that change files: each may fail as on a full or a broken disk, and is a moment at which to die. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

/* True, with errno set, when a call on *fd* is to fail now. */
static int fails(int fd)
{
    char path[PATH_MAX];
    int error = shim_faulty() && shim_path_of(fd, path) ? shim_error_for(path) : 0;
    if (error)
        errno = error;
    return error;
}

/* The same of a name; a relative one is looked at as it was given. Removing a name needs no space. */
static int fails_at(const char *path, int needs_space)
{
    int error = shim_faulty() ? shim_error_for(path) : 0;
    if (error == ENOSPC && !needs_space)
        return 0;
    if (error)
        errno = error;
    return error;
}

/* Dies before or after it if so planned; fails if so told; else does what the real one does. */
#define ON_FD(kind, type, name, parameters, arguments, then)                                                           \
    type name parameters                                                                                               \
    {                                                                                                                  \
        struct point point = point_at_fd(kind, fd);                                                                    \
        if (fails(fd))                                                                                                 \
            return -1;                                                                                                 \
        type result = REAL(name) arguments;                                                                            \
        if (result >= 0) {                                                                                             \
            then;                                                                                                      \
            point_passed(point);                                                                                       \
        }                                                                                                              \
        return result;                                                                                                 \
    }
#define WRITES(name, parameters, arguments) ON_FD("write", ssize_t, name, parameters, arguments, )
#define SYNCS(name) ON_FD("sync", int, name, (int fd), (fd), power_synced(fd))

WRITES(write, (int fd, const void *data, size_t size), (fd, data, size))
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
WRITES(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
WRITES(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
WRITES(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at))
WRITES(pwritev2, (int fd, const struct iovec *parts, int count, off_t at, int flags), (fd, parts, count, at, flags))
WRITES(pwritev64v2, (int fd, const struct iovec *parts, int count, off64_t at, int flags), (fd, parts, count, at, flags))
WRITES(sendfile, (int fd, int from, off_t *at, size_t size), (fd, from, at, size))
WRITES(sendfile64, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))
WRITES(copy_file_range, (int from, off64_t *at, int fd, off64_t *to, size_t size, unsigned flags),
       (from, at, fd, to, size, flags))
SYNCS(fsync)
SYNCS(fdatasync)
ON_FD("truncate", int, ftruncate, (int fd, off_t size), (fd, size), )
ON_FD("truncate", int, ftruncate64, (int fd, off64_t size), (fd, size), )

/* Says its error, and leaves errno alone. */
int posix_fallocate(int fd, off_t at, off_t size)
{
    int error = fails(fd);
    return error ? error : REAL(posix_fallocate)(fd, at, size);
}

int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    int error = fails(fd);
    return error ? error : REAL(posix_fallocate64)(fd, at, size);
}

#define ON_NAMES(name, parameters, arguments, to_directory)                                                             \
    int name parameters                                                                                                \
    {                                                                                                                  \
        struct point point = point_at_path("rename", to_directory, to);                                                \
        if (fails_at(from, 1) || fails_at(to, 1))                                                                      \
            return -1;                                                                                                 \
        int result = REAL(name) arguments;                                                                             \
        if (!result)                                                                                                   \
            point_passed(point);                                                                                       \
        return result;                                                                                                 \
    }
#define REMOVES(name, parameters, arguments, directory)                                                                \
    int name parameters                                                                                                \
    {                                                                                                                  \
        struct point point = point_at_path("unlink", directory, path);                                                 \
        if (fails_at(path, 0))                                                                                         \
            return -1;                                                                                                 \
        int result = REAL(name) arguments;                                                                             \
        if (!result)                                                                                                   \
            point_passed(point);                                                                                       \
        return result;                                                                                                 \
    }

ON_NAMES(rename, (const char *from, const char *to), (from, to), AT_FDCWD)
ON_NAMES(renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to), to_fd)
ON_NAMES(renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
         (from_fd, from, to_fd, to, flags), to_fd)
REMOVES(unlink, (const char *path), (path), AT_FDCWD)
REMOVES(unlinkat, (int fd, const char *path, int flags), (fd, path, flags), fd)
