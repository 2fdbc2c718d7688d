// Preloaded into a process, shifts its wall clock by the seconds that stand in the file CLOCK_JUMP names, as they
// change; the monotonic clock stays. What a machine does when its clock is set.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *jump;

__attribute__((constructor)) static void map_jump(void) {
    int file = open(getenv("CLOCK_JUMP"), O_RDONLY);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *jump, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) _exit(99);
    close(file);
    jump = mapped;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, id, now);
    int wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (result == 0 && wall && jump) now->tv_sec += *jump;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec told;
    clock_gettime(CLOCK_REALTIME, &told);
    now->tv_sec = told.tv_sec;
    now->tv_usec = told.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec told;
    clock_gettime(CLOCK_REALTIME, &told);
    if (out) *out = told.tv_sec;
    return told.tv_sec;
}
