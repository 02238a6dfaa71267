/* SPDX-License-Identifier: Apache-2.0 */
/* on_standin.c: see on_standin.h. Programs of this suite run without any CUDA too, so they link
 * nothing of the stand-in. */
#include "on_standin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/standin.h"

static struct {
    __typeof__(standin_configure) *configure;
    __typeof__(standin_seed) *seed;
    __typeof__(standin_count) *count;
    __typeof__(standin_at) *at;
    __typeof__(standin_kind_name) *kind_name;
} standin;

static bool find(void *library, const char *name, void *function) {
    void *const symbol = library ? dlsym(library, name) : NULL;
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static unsigned long long number(const char *name, unsigned long long otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

bool standin_begin(void) {
    const char *path = getenv("TENON_CUDA_LIBRARY");
    void *library = path && path[0] ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!find(library, "standin_configure", &standin.configure) ||
        !find(library, "standin_seed", &standin.seed) ||
        !find(library, "standin_count", &standin.count) ||
        !find(library, "standin_at", &standin.at) ||
        !find(library, "standin_kind_name", &standin.kind_name)) {
        standin.count = NULL;
        return false;
    }
    const standin_device device = {.arch = (int)number("STANDIN_ARCH", 80),
                                   .multiprocessors = (int)number("STANDIN_MULTIPROCESSORS", 0)};
    standin.configure(&device);
    standin.seed(number("STANDIN_SEED", 1));
    return true;
}

int standin_end(void) {
    const size_t count = standin.count ? standin.count() : 0;
    for (size_t i = 0; i < count && i < 40; ++i) {
        const standin_finding *f = standin.at(i);
        printf(
            "%s, %s line %u, %llu times, first in block %u,%u,%u warp %d lane %d at 0x%llx: %s\n",
            standin.kind_name(f->kind), f->kernel[0] ? f->kernel : "no kernel", f->line,
            (unsigned long long)f->times, f->block[0], f->block[1], f->block[2], (int)f->warp,
            (int)f->lane, (unsigned long long)f->address, f->text);
    }
    return (int)count;
}
