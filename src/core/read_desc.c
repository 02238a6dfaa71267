/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and filling of structs by their struct_size. All of this release's structs are the first
 * release's.
 */
#include "core/read_desc.h"

#include <string.h>

/* Larger than any descriptor will ever be: a larger struct_size is an uninitialised one. */
#define MAX_STRUCT_BYTES 65536

tenon_status tn_read_desc(const void *desc, void *full, size_t size, tn_message *message) {
    const unsigned char *bytes = desc;
    size_t given;

    memset(full, 0, size);
    if (!desc)
        return TENON_OK;
    if ((uintptr_t)desc % sizeof(void *) != 0)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "desc is %p, expected an address aligned to %zu bytes", desc,
                       sizeof(void *));
    memcpy(&given, desc, sizeof given);
    if (given == 0)
        given = size;
    if (given < sizeof given || given > MAX_STRUCT_BYTES)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "struct_size is %zu, expected 0 or the size of the struct (%zu here)", given,
                       size);
    for (size_t i = size; i < given; ++i)
        if (bytes[i] != 0)
            return tn_fail(message, TENON_ERROR_UNSUPPORTED,
                           "struct_size is %zu and byte %zu is set, expected 0 behind the first "
                           "%zu bytes, which are all that this version of tenon knows",
                           given, i, size);
    memcpy(full, desc, given < size ? given : size);
    return TENON_OK;
}

tenon_status tn_write_info(const char *call, void *to, const void *from, size_t size) {
    size_t given;
    memcpy(&given, to, sizeof given);
    const size_t wanted = given == 0 || given > size ? size : given;
    if (wanted < sizeof given)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: struct_size is %zu, expected 0 or sizeof the struct (%zu)", call,
                              given, size);
    memcpy(to, from, wanted);
    memcpy(to, &given, sizeof given);
    return TENON_OK;
}
