/* Who this process is, and the control files that tell it which faults to have.
 *
 * A process maps two files of CROSSDOCK_SHIM_DIR: NAME.ctl speaks to it and to all its children, NAME-ROLE.ctl to
 * the children of that role alone. Offsets add up; a fault of either counts. Both are read by plain loads at every
 * call, so that a change is seen at once and costs nothing while there is none.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char shim_label[128];
static struct control *family, *own;

/* "--role X" on the command line, or the agent's "helper TASK", makes a child another process than its parent. */
static const char *role_of_command_line(char *text, size_t size)
{
    const char *end = text + size;
    for (const char *word = text; word < end; word += strlen(word) + 1) {
        if (strcmp(word, "--role") == 0 && word + 7 < end)
            return word + 7;
        if (strcmp(word, "helper") == 0)
            return word;
    }
    return NULL;
}

static void find_label(const char *name)
{
    static char line[8192];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0)
        close(fd);
    const char *role = getenv("CROSSDOCK_SHIM_ROLE"); /* whoever starts it may say */
    if (!role)
        role = role_of_command_line(line, size > 0 ? (size_t)size : 0);
    snprintf(shim_label, sizeof shim_label, role ? "%s-%s" : "%s", name, role);
}

static struct control *map(const char *directory, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.ctl", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) || (facts.st_size < (off_t)sizeof(struct control) &&
                                        REAL(ftruncate)(fd, sizeof(struct control)))) {
        fprintf(stderr, "fault shim: cannot use %s: %s\n", path, strerror(errno));
        _exit(97); /* a run without its faults would prove nothing */
    }
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) {
        fprintf(stderr, "fault shim: cannot map %s: %s\n", path, strerror(errno));
        _exit(97);
    }
    return mapped;
}

__attribute__((constructor)) static void start(void)
{
    const char *directory = getenv("CROSSDOCK_SHIM_DIR"), *name = getenv("CROSSDOCK_SHIM_NAME");
    if (!directory || !name)
        return;
    find_label(name);
    if (strcmp(shim_label, name) != 0)
        own = map(directory, shim_label);
    family = map(directory, name);
}

int64_t shim_offset_ns(void)
{
    return (family ? family->offset_ns : 0) + (own ? own->offset_ns : 0);
}

int shim_faulty(void)
{
    return (family && family->error) || (own && own->error);
}

static int error_of(struct control *control, const char *path)
{
    int error = control ? control->error : 0;
    if (error && strstr(path, control->path_contains)) {
        control->hits++;
        return error;
    }
    return 0;
}

int shim_error_for(const char *path)
{
    int error = error_of(own, path);
    return error ? error : error_of(family, path);
}

/* No cache: a link is read in a microsecond, beside a write or a sync, and is right however descriptors are reused. */
int shim_path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = REAL(readlink)(link, path, PATH_MAX - 1);
    if (size <= 0 || path[0] != '/')
        return 0;
    path[size] = 0;
    if (strncmp(path, "/dev/", 5) == 0)
        return strncmp(path, "/dev/shm/", 9) == 0; /* a tmpfs like any other */
    return strncmp(path, "/proc/", 6) && strncmp(path, "/memfd:", 7);
}
