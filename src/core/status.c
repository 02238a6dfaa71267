/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of statuses, and the version.
 */
#include <tenon/context.h>

const char *tenon_status_name(tenon_status status) {
    switch (status) {
    case TENON_OK:
        return "TENON_OK";
    case TENON_ERROR_INVALID_ARGUMENT:
        return "TENON_ERROR_INVALID_ARGUMENT";
    case TENON_ERROR_UNSUPPORTED:
        return "TENON_ERROR_UNSUPPORTED";
    case TENON_ERROR_OUT_OF_MEMORY:
        return "TENON_ERROR_OUT_OF_MEMORY";
    case TENON_ERROR_OVER_BUDGET:
        return "TENON_ERROR_OVER_BUDGET";
    case TENON_ERROR_NO_DEVICE:
        return "TENON_ERROR_NO_DEVICE";
    case TENON_ERROR_DEVICE_LOST:
        return "TENON_ERROR_DEVICE_LOST";
    case TENON_ERROR_BUSY:
        return "TENON_ERROR_BUSY";
    case TENON_ERROR_IO:
        return "TENON_ERROR_IO";
    case TENON_ERROR_INTERNAL:
        return "TENON_ERROR_INTERNAL";
    }
    return "unknown status";
}

int tenon_version(void) {
    return TENON_VERSION_MAJOR * 10000 + TENON_VERSION_MINOR * 100 + TENON_VERSION_PATCH;
}
