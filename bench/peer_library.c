/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_library.c: dlopen and dlsym for the peers (see peer_library.h). A library is opened locally,
 * so that two with the same symbols can be raced in one process.
 */
#include "peer_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool peer_library_open(options_value item, peer_library *library) {
    *library = (peer_library){0};
    const char *file = item.text;
    size_t length = item.length, named = 0;
    /* An = inside a path belongs to the path. */
    while (named < length && file[named] != '=' && file[named] != '/')
        ++named;
    const bool has_name = named < length && file[named] == '=';
    if (has_name) {
        file += named + 1;
        length -= named + 1;
    }
    if (length == 0 || length >= sizeof library->file || (has_name && named == 0)) {
        complain("--vs: '%.*s' is not [NAME=]FILE", (int)item.length, item.text);
        return false;
    }
    /* A bare word stands for the library of that name: clblast for libclblast.so.1. */
    const bool bare = !memchr(file, '.', length) && !memchr(file, '/', length);
    snprintf(library->file, sizeof library->file, bare ? "lib%.*s.so.1" : "%.*s", (int)length,
             file);
    const char *slash = strrchr(library->file, '/');
    if (has_name)
        snprintf(library->name, sizeof library->name, "%.*s", (int)named, item.text);
    else
        snprintf(library->name, sizeof library->name, "%.63s", slash ? slash + 1 : library->file);

    library->handle = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);
    if (!library->handle)
        complain("--vs: %s", dlerror());
    return library->handle != NULL;
}

peer_function peer_library_find(const peer_library *library, const char *name) {
    void *address = dlsym(library->handle, name);
    /* An object pointer as a function pointer, the way POSIX sanctions: through the bytes. */
    peer_function function;
    memcpy(&function, &address, sizeof function);
    return function;
}
