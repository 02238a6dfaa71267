/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/status.h: how every fallible call answers.
 *
 * tenon never prints, exits, aborts, raises a signal or installs a handler. Whatever goes wrong is a
 * tenon_status and one sentence, which names the call, the field, its value and what was expected:
 *
 *     tenon_gemm: b.shape[0] is 5, expected 4 (k of a)
 *
 * The name of the call and a colon come first in every sentence. INVALID_ARGUMENT goes on with the field's path as C has it (or
 * the argument's name) and has "expected" behind its value; the others say what was short or missing in the same way where
 * there is a field, else in words. Programs look at statuses, people at sentences: their wording may change.
 */
#ifndef TENON_STATUS_H
#define TENON_STATUS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) && !defined(TENON_BUILDING_STATIC)
#define TENON_API __attribute__((visibility("default")))
#else
#define TENON_API
#endif
#if defined(__GNUC__)
#define TENON_MUST_CHECK __attribute__((warn_unused_result))
#else
#define TENON_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** What a call answers. Zero is success, every failure is negative. Values never change. */
typedef enum tenon_status {
    TENON_OK = 0,
    TENON_ERROR_INVALID_ARGUMENT = -1, /**< the caller's mistake; the message names the field */
    TENON_ERROR_UNSUPPORTED = -2,      /**< legal, but no device of the context does it; the message names the field */
    TENON_ERROR_OUT_OF_MEMORY = -3,    /**< the system or the device has no more memory */
    TENON_ERROR_OVER_BUDGET = -4,      /**< the pool's own budget does not allow it */
    TENON_ERROR_NO_DEVICE = -5,        /**< no device of that name is usable here */
    TENON_ERROR_DEVICE_LOST = -6,      /**< the device stopped answering; other devices go on */
    TENON_ERROR_BUSY = -7,             /**< a context was entered by two threads at once */
    TENON_ERROR_IO = -8,               /**< a file could not be read or written */
    TENON_ERROR_INTERNAL = -9          /**< a bug in tenon: please report the message */
} tenon_status;

struct tenon_context;

/** Name of a status as in this header, e.g. "TENON_ERROR_OUT_OF_MEMORY"; "unknown status" for any other value. */
TENON_API const char *tenon_status_name(tenon_status status);

/**
 * The sentence of the last call on `ctx` that did not return TENON_OK.
 *
 * For the thread that uses the context, between its calls. BUSY leaves no sentence: the context's belongs to the thread that is inside.
 * Stays valid until the next failing call on the same context or its destruction; never NULL ("" when nothing
 * has failed). With ctx == NULL: the sentence of the last failure of a call that has no context (creating a context
 * or pool, device queries); that buffer is shared by the process and written atomically enough to be read as a
 * terminated string at any time, but another thread's failure may replace it.
 */
TENON_API const char *tenon_error_message(const struct tenon_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
