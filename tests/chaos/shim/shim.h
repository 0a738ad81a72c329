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

#endif
