/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sentence that goes with a failure. Internal functions that can fail take a tn_message (NULL:
 * nobody listens) and return through tn_fail; contexts own one, calls without a context share one
 * per process.
 *
 * What a caller reads is `call: field is value, expected …` (include/tenon/status.h). Sentences are
 * made without the first part, by functions that many calls use; the public call puts its name
 * before them, at the one place where it ends: tn_context_leave, or tn_fail_shared.
 */
#ifndef TN_MESSAGE_H
#define TN_MESSAGE_H

#include <tenon/status.h>

#include <stddef.h>

#define TN_MESSAGE_BYTES 512

typedef struct tn_message {
    char text[TN_MESSAGE_BYTES];
} tn_message;

/* Formats the sentence, one line of UTF-8 (cut to fit), and returns `status`:
 * `return tn_fail(m, TENON_ERROR_…, "a.rank is %d, …", r);` */
tenon_status tn_fail(tn_message *message, tenon_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * As tn_fail, for the public calls that have no context: into the process's sentence, which the
 * format begins with the call's name ("tenon_pool_create: %s" before what an internal function
 * said).
 */
tenon_status tn_fail_shared(tenon_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * For a call whose allocation hooks gave nothing (tn_host_alloc_watched): INVALID_ARGUMENT if they
 * answered with `stray`, which is not a multiple of `alignment`; else OUT_OF_MEMORY. Wanted were
 * `bytes` bytes for `what`.
 */
tenon_status tn_fail_host(tn_message *message, const char *what, size_t bytes, const void *stray,
                          size_t alignment);

/*
 * Length of the UTF-8 character at `at`, which ends with 0 somewhere: 1 to 4; 0 if there is none
 * (an end, a stray or missing byte, an overlong form, half of a surrogate pair).
 */
int tn_text_character(const char *at);

/* Makes a line of a text that names may have brought anything into: control characters and bytes
 * that are no UTF-8 become '?'. */
void tn_text_clean(char *text);

/* The message of calls without a context; what tenon_error_message(NULL) reads. */
const char *tn_message_shared(void);

/*
 * The functions that every planned product goes through lie side by side. Spread over the library,
 * they meet in the same sets of the caches for instructions wherever the linker happens to put them
 * so: 20 to 25 ns of 115 (4 x 4 x 4, Zen 3).
 */
#define TN_HOT __attribute__((hot))

/* Leaves the function with the status of a call that failed. Only while nothing is held. */
#define TN_TRY(call)                                                                               \
    do {                                                                                           \
        const tenon_status tn_try_status = (call);                                                 \
        if (tn_try_status != TENON_OK)                                                             \
            return tn_try_status;                                                                  \
    } while (0)

#endif
