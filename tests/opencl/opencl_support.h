/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opencl_support.h: the stand-in's controls, and whether there is a driver, for the tests of this
 * room.
 */
#ifndef OPENCL_SUPPORT_H
#define OPENCL_SUPPORT_H

#include <tenon/tenon.h>

#include <check.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "product.h"
#include "stand_in_opencl.h"
#include "suite.h"

/* True if the environment's TENON_REQUIRE lists `name`: then its lack is a failure, not a skip. */
static inline bool is_required(const char *name) {
    const char *list = getenv("TENON_REQUIRE");
    return list && strstr(list, name) != NULL;
}

static inline const stand_in_calls *stand_in_controls(void) {
    void *library = dlopen(getenv("TENON_OPENCL_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "stand_in") : NULL;
    stand_in_function *function;
    if (!symbol) { /* also called outside of tests */
        fprintf(stderr, "TENON_OPENCL_LIBRARY must name the stand-in\n");
        exit(EXIT_FAILURE);
    }
    memcpy(&function, &symbol, sizeof function);
    return function();
}

/* 77, which means skipped, where no driver is installed and none is required; 0 to go on. */
static inline int need_driver(void) {
    tenon_device_info info = {.struct_size = sizeof info};
    for (int i = 0; i < tenon_device_count(); ++i) {
        if (tenon_device_get(i, &info) != TENON_OK || strcmp(info.backend, "opencl") != 0)
            continue;
        if (info.usable)
            return 0;
        printf("no OpenCL device: %s\n", info.reason);
    }
    return is_required("pocl") ? 1 : 77;
}

#endif
