/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settle.h: waits until all other threads of the process sleep. For tests that fork under the address sanitizer: gcc 12's
 * keeps locks while a thread starts and hands them, locked, to the child. Without it nothing is waited for, so that a
 * fork in the middle of a start is tested too.
 */
#ifndef TEST_SETTLE_H
#define TEST_SETTLE_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"

#ifdef TEST_ASAN
static bool all_others_sleep(void) {
    DIR *tasks = opendir("/proc/self/task");
    bool asleep = tasks != NULL;
    for (struct dirent *entry; asleep && (entry = readdir(tasks));) {
        char path[64], state = 0;
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == (int)getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", entry->d_name);
        FILE *stat = fopen(path, "r");
        asleep = stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1 && state == 'S';
        if (stat)
            fclose(stat);
    }
    if (tasks)
        closedir(tasks);
    return asleep;
}
#endif

static inline void settle_threads(void) {
#ifdef TEST_ASAN
    const struct timespec pause = {0, 1000000};
    for (int ms = 0; ms < 10000 && !all_others_sleep(); ++ms)
        nanosleep(&pause, NULL);
#endif
}

#endif
