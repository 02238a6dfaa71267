/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_malloc.c: finds malloc and free in a library (see peer_malloc.h). A library that replaces the
 * process's malloc when it is linked or preloaded does not do so when it is opened with dlopen: its
 * functions are then reached by address only, so several can be timed in one process.
 */
#include "peer_malloc.h"

#include "options.h"

#include <dlfcn.h>
#include <stdio.h>
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

bool peer_malloc_open(const char *argument, peer_malloc *peer) {
    *peer = (peer_malloc){0};
    /* An = inside a path belongs to the path. */
    const char *equals = argument[strcspn(argument, "=/")] == '=' ? strchr(argument, '=') : NULL;
    const char *file = equals ? equals + 1 : argument;
    const char *slash = strrchr(file, '/');
    if (equals)
        snprintf(peer->name, sizeof peer->name, "%.*s", (int)(equals - argument), argument);
    else
        snprintf(peer->name, sizeof peer->name, "%s", slash ? slash + 1 : file);

    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        complain("--vs: %s", dlerror());
        return false;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        void *allocate = dlsym(library, names[i][0]), *release = dlsym(library, names[i][1]);
        if (!allocate || !release)
            continue;
        /* Object pointers as function pointers, the way POSIX sanctions: through the bytes. */
        memcpy(&peer->allocate, &allocate, sizeof allocate);
        memcpy(&peer->release, &release, sizeof release);
        return true;
    }
    complain("--vs: %s has no malloc and free", file);
    return false;
}
