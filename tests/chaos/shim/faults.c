/* Calls that change files, each of which may fail as on a full or a broken disk. */
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

#define ON_FD(type, name, parameters, arguments)                                                                       \
    type name parameters                                                                                               \
    {                                                                                                                  \
        return fails(fd) ? -1 : REAL(name) arguments;                                                                  \
    }

ON_FD(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
ON_FD(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
ON_FD(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at))
ON_FD(ssize_t, pwritev2, (int fd, const struct iovec *parts, int count, off_t at, int flags), (fd, parts, count, at, flags))
ON_FD(ssize_t, pwritev64v2, (int fd, const struct iovec *parts, int count, off64_t at, int flags), (fd, parts, count, at, flags))
ON_FD(ssize_t, sendfile, (int fd, int from, off_t *at, size_t size), (fd, from, at, size))
ON_FD(ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))
ON_FD(ssize_t, copy_file_range, (int from, off64_t *at, int fd, off64_t *to, size_t size, unsigned flags), (from, at, fd, to, size, flags))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))

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

int rename(const char *from, const char *to)
{
    return fails_at(from, 1) || fails_at(to, 1) ? -1 : REAL(rename)(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return fails_at(from, 1) || fails_at(to, 1) ? -1 : REAL(renameat)(from_fd, from, to_fd, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    return fails_at(from, 1) || fails_at(to, 1) ? -1 : REAL(renameat2)(from_fd, from, to_fd, to, flags);
}

int unlink(const char *path)
{
    return fails_at(path, 0) ? -1 : REAL(unlink)(path);
}

int unlinkat(int fd, const char *path, int flags)
{
    return fails_at(path, 0) ? -1 : REAL(unlinkat)(fd, path, flags);
}
