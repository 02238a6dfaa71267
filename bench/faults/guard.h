/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.h: a call that may throw, from C. Where there is no C++ compiler (HAVE_GUARD undefined) an
 * exception ends the process, as it would any host in C.
 */
#ifndef FAULTS_GUARD_H
#define FAULTS_GUARD_H

#include <stdbool.h>

#define GUARD_WHY_BYTES 512

typedef bool (*guarded_call)(void *arg, char *why);

#ifdef __cplusplus
extern "C" {
#endif

#ifdef HAVE_GUARD
/* call(arg, why); false, with the exception's words in `why`, if it threw. */
bool guarded(guarded_call call, void *arg, char *why);
#else
static inline bool guarded(guarded_call call, void *arg, char *why) {
    return call(arg, why);
}
#endif

#ifdef __cplusplus
}
#endif
#endif
