/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_library.h: libraries that --vs names, opened at run time to be timed beside tenon: what an
 * item of the option says, and the look-up of functions. What a peer must export is decided by who
 * opens it (peer_gemm.c, peer_malloc.c).
 */
#ifndef BENCH_PEER_LIBRARY_H
#define BENCH_PEER_LIBRARY_H

#include "options.h"

#include <stdbool.h>

#define PEER_MOST OPTIONS_MOST_VALUES

typedef struct peer_library {
    char name[64];   /* what tables and JSON call it: as given, or the file's own name */
    char file[4096]; /* as given */
    void *handle;
} peer_library;

/* To be cast to the function's own type before it is called. */
typedef void (*peer_function)(void);

/*
 * Opens "[NAME=]FILE". False, after a sentence on stderr. A library stays loaded to the end of the
 * process: many leave threads behind that run its code.
 */
bool peer_library_open(options_value item, peer_library *library);

/* The function of that name in the library or in what it depends on, or NULL. */
peer_function peer_library_find(const peer_library *library, const char *name);

#endif
