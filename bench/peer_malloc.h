/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_malloc.h: malloc libraries, opened at run time beside the process's own, to be timed in
 * turn with tenon's pool. Nothing of them is needed to build or to run the command without --vs.
 */
#ifndef BENCH_PEER_MALLOC_H
#define BENCH_PEER_MALLOC_H

#include "peer_library.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct peer_malloc {
    char name[64]; /* what tables and JSON call it */
    void *(*allocate)(size_t bytes);
    void (*release)(void *memory);
} peer_malloc;

/* The malloc that this process itself uses. */
peer_malloc peer_malloc_own(void);

/*
 * Opens "[NAME=]FILE" and looks for mi_malloc, tc_malloc, je_malloc or malloc, and the free of the
 * same kind. False, after a sentence on stderr.
 */
bool peer_malloc_open(options_value item, peer_malloc *peer);

#endif
