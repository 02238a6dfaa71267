/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_malloc.c: finds malloc and free in a library (see peer_malloc.h). A library that replaces
 * the process's malloc when it is linked or preloaded does not do so when it is opened with dlopen:
 * its functions are then reached by address only, so several can be timed in one process.
 */
#include "peer_malloc.h"

#include <stdlib.h>
#include <string.h>

/* The library's own names first: in some builds plain malloc is an alias that does more checks. */
static const char *const names[][2] = {
    {"mi_malloc", "mi_free"},
    {"tc_malloc", "tc_free"},
    {"je_malloc", "je_free"},
    {"malloc", "free"},
};

peer_malloc peer_malloc_own(void) {
    peer_malloc own = {.name = "malloc", .allocate = malloc, .release = free};
    return own;
}

bool peer_malloc_open(options_value item, peer_malloc *peer) {
    *peer = (peer_malloc){0};
    peer_library library;
    if (!peer_library_open(item, &library))
        return false;
    memcpy(peer->name, library.name, sizeof peer->name);
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        peer->allocate = (void *(*)(size_t))peer_library_find(&library, names[i][0]);
        peer->release = (void (*)(void *))peer_library_find(&library, names[i][1]);
        if (peer->allocate && peer->release)
            return true;
    }
    complain("--vs: %s has no malloc and free", library.file);
    return false;
}
