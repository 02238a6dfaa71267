/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c: cores, caches and memory read from Linux's sched_getaffinity, sysfs and procfs. Used
 * by the peak probes to size their buffers and by `tenon info`. Whatever cannot be read is reported
 * as unknown, never as an error.
 */
#include "machine.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* First line of a small system file; false when it is not there. */
static bool read_line(const char *path, char *line, size_t capacity) {
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    const bool ok = fgets(line, (int)capacity, file) != NULL;
    fclose(file);
    if (ok)
        line[strcspn(line, "\n")] = '\0';
    return ok;
}

/* Cores' worth of time that the control group allows, rounded up; INT_MAX without a quota. */
static int quota_cores(void) {
    char line[64];
    double quota = 0, period = 0;
    if (read_line("/sys/fs/cgroup/cpu.max", line, sizeof line)) {
        if (sscanf(line, "%lf %lf", &quota, &period) != 2)
            return INT_MAX;
    } else if (read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", line, sizeof line)) {
        quota = atof(line);
        if (read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", line, sizeof line))
            period = atof(line);
    }
    return quota > 0 && period > 0 ? (int)ceil(quota / period) : INT_MAX;
}

int machine_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    const int online = (int)sysconf(_SC_NPROCESSORS_ONLN), quota = quota_cores();
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : online;
    cores = cores < quota ? cores : quota;
    return cores > 0 ? cores : 1;
}

size_t machine_cache_bytes(int level) {
    for (int index = 0; index < 8; ++index) {
        char path[96], line[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (!read_line(path, line, sizeof line))
            break;
        if (atoi(line) != level)
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        if (!read_line(path, line, sizeof line) || strcmp(line, "Instruction") == 0)
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (!read_line(path, line, sizeof line))
            continue;
        char *unit = NULL;
        const size_t number = (size_t)strtoull(line, &unit, 10);
        return number << (*unit == 'K' ? 10 : *unit == 'M' ? 20 : 0);
    }
#ifdef _SC_LEVEL3_CACHE_SIZE
    const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    if (level >= 1 && level <= 3) {
        const int64_t bytes = sysconf(names[level - 1]);
        return bytes > 0 ? (size_t)bytes : 0;
    }
#endif
    return 0;
}

size_t machine_caches_bytes(int threads) {
    /* L3 is counted once: a process on several sockets has more, which the factor callers take
     * covers. */
    return machine_cache_bytes(3) + (size_t)threads * machine_cache_bytes(2);
}

/* A field of a "Name:   value" file such as /proc/meminfo, its value copied to `value`. */
static bool read_field(const char *path, const char *name, char *value, size_t capacity) {
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    bool found = false;
    char line[256];
    const size_t length = strlen(name);
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, length) != 0)
            continue;
        const char *colon = strchr(line + length, ':');
        if (!colon)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(value, capacity, "%.*s", (int)strcspn(colon, "\n"), colon);
        found = true;
    }
    fclose(file);
    return found;
}

static size_t memory_field(const char *name) {
    char value[64];
    return read_field("/proc/meminfo", name, value, sizeof value)
               ? (size_t)strtoull(value, NULL, 10) << 10
               : 0;
}

size_t machine_memory_total(void) {
    return memory_field("MemTotal");
}

size_t machine_memory_available(void) {
    return memory_field("MemAvailable");
}

void machine_processor(char *text, size_t capacity) {
    if (!read_field("/proc/cpuinfo", "model name", text, capacity))
        snprintf(text, capacity, "unknown");
}

bool machine_pin(int index) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(getpid(), sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) == 0)
        return false;
    int skip = index % CPU_COUNT(&allowed);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed) || skip-- > 0)
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        return sched_setaffinity(0, sizeof one, &one) == 0;
    }
    return false;
}
