/* The wall clock of this process, moved; the monotonic clock never.
 *
 * Waits until a moment of the wall clock are handed to the kernel as the moment of the machine's clock, or a step
 * of hours would make them last for hours: the kernel knows nothing of our offset. (A wait that began before a step
 * keeps its length.) Times of files are the machine's.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define WALL_CLOCK_SINCE 1000000000 /* seconds: a monotonic clock reads so much after 31 years of uptime */

static int is_wall(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

static struct timespec moved(struct timespec time, int64_t offset_ns)
{
    int64_t ns = time.tv_nsec + offset_ns % SECOND;
    time.tv_sec += offset_ns / SECOND + (ns >= SECOND) - (ns < 0);
    time.tv_nsec = ns >= SECOND ? ns - SECOND : ns < 0 ? ns + SECOND : ns;
    return time;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = REAL(clock_gettime)(clock, time);
    if (!result && is_wall(clock))
        *time = moved(*time, shim_offset_ns());
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    int result = REAL(gettimeofday)(time, zone);
    if (!result) {
        struct timespec now = moved((struct timespec){time->tv_sec, time->tv_usec * 1000}, shim_offset_ns());
        *time = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    }
    return result;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *time, int base)
{
    int result = REAL(timespec_get)(time, base);
    if (result == TIME_UTC)
        *time = moved(*time, shim_offset_ns());
    return result;
}

/* A condition may wait by either clock and does not say by which: the number does. */
static const struct timespec *machine_time(const struct timespec *until, struct timespec *room)
{
    int64_t offset = shim_offset_ns();
    if (!offset || !until || until->tv_sec < WALL_CLOCK_SINCE)
        return until;
    *room = moved(*until, -offset);
    return room;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    static __typeof__(&pthread_cond_timedwait) real; /* of the version that `pthread_cond_wait` is bound to */
    if (!real)
        real = (__typeof__(real))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real)
        real = REAL(pthread_cond_timedwait);
    struct timespec room;
    return real(condition, mutex, machine_time(until, &room));
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    struct timespec room;
    return REAL(sem_timedwait)(semaphore, machine_time(until, &room));
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
    struct timespec room;
    return REAL(pthread_mutex_timedlock)(mutex, machine_time(until, &room));
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest)
{
    struct timespec room;
    if (is_wall(clock) && flags & TIMER_ABSTIME)
        time = machine_time(time, &room);
    return REAL(clock_nanosleep)(clock, flags, time, rest);
}

/* gRPC's mutexes (absl) wait by futex, until a moment of the wall clock. */
long syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    struct timespec room;
    if (number == SYS_futex && (b & FUTEX_CLOCK_REALTIME))
        d = (long)machine_time((const struct timespec *)d, &room);
    long result = REAL(syscall)(number, a, b, c, d, e, f);
    if (number == SYS_clock_gettime && !result && is_wall((clockid_t)a))
        *(struct timespec *)b = moved(*(struct timespec *)b, shim_offset_ns());
    return result;
}
