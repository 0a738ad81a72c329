/* What the parts of the fault shim share. Linux, glibc; one shared object, loaded by LD_PRELOAD. */
#ifndef CROSSDOCK_SHIM_H
#define CROSSDOCK_SHIM_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

/* The address of the function that our own one stands before; resolved once, at the first call. */
#define REAL(name)                                                                                                     \
    ({                                                                                                                 \
        static __typeof__(&name) real_;                                                                                \
        if (!real_)                                                                                                    \
            real_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                        \
        real_;                                                                                                         \
    })

/* One control file, mapped by every process that it speaks to; written by tests/chaos/shim.py (same layout there). */
struct control {
    char magic[8];
    _Atomic int64_t offset_ns;
    _Atomic int32_t error;
    int32_t unused;
    _Atomic uint64_t hits; /* calls that this control file made fail */
    char path_contains[1024];
};

/* The name of this process: CROSSDOCK_SHIM_NAME, and "-ROLE" for a child that was given a role. "" without a shim. */
extern char shim_label[128];

/* Nanoseconds that the wall clock of this process is ahead of the machine's. */
int64_t shim_offset_ns(void);

/* The error that a call on *path* is to fail with, or 0; counts it. */
int shim_error_for(const char *path);

/* True while any file fault is set: whoever asks may then afford to find a path. */
int shim_faulty(void);

/* The path behind *fd* in *path* (PATH_MAX bytes); 0 when it is no ordinary file (socket, pipe, device, memory). */
int shim_path_of(int fd, char *path);

/* --- points: numbered moments at which a process may be made to die (points.c) */

/* What a call is about to do to a file; taken before it, and given back after it. `key` is 0 when nobody counts it. */
struct point {
    uint64_t key, ordinal;
};

struct point point_at_fd(const char *kind, int fd);
struct point point_at_path(const char *kind, int directory, const char *path);
void point_passed(struct point point);

/* --- power: what would be on the disk if the current failed now (power.c) */

/* *fd* was synced: its content, or the entries of a directory, is what a power cut leaves. */
void power_synced(int fd);

/* The next number of a family-wide sequence. */
uint64_t points_next(void);

/* Waits for the end when the machine of this process has lost its current; else returns. */
void points_freeze(void);

/* The directory whose files count, and where their last synced state is kept; "" when neither is wanted. */
extern char points_root[4096], power_shadow[4096];

#endif
