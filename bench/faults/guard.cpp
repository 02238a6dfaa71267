/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.cpp: lets a C++ exception that a library throws through its C interface count as an error it
 * told, as a host in C++ could take it. A host in C would be ended by it. Called by driver.c.
 */
#include "guard.h"

#include <cstdio>
#include <exception>

bool guarded(guarded_call call, void *arg, char *why) {
    try {
        return call(arg, why);
    } catch (const std::exception &error) {
        std::snprintf(why, GUARD_WHY_BYTES, "C++ exception: %s", error.what());
    } catch (...) {
        std::snprintf(why, GUARD_WHY_BYTES, "C++ exception");
    }
    return false;
}
