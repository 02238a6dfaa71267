/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formatting of failure sentences, and the one process-wide sentence of calls that have no context.
 * vsnprintf with plain conversions does not allocate.
 */
#include "core/message.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_char shared_text[TN_MESSAGE_BYTES];

tenon_status tn_fail(tn_message *message, tenon_status status, const char *format, ...) {
    if (message) {
        va_list args;
        va_start(args, format);
        if (vsnprintf(message->text, sizeof message->text, format, args) < 0)
            message->text[0] = 0;
        va_end(args);
    }
    return status;
}

tenon_status tn_fail_shared(tenon_status status, const char *format, ...) {
    tn_message message;
    va_list args;
    va_start(args, format);
    if (vsnprintf(message.text, sizeof message.text, format, args) < 0)
        message.text[0] = 0;
    va_end(args);
    tn_message_publish(&message);
    return status;
}

tenon_status tn_fail_host(tn_message *message, const char *call, const char *what, size_t bytes,
                          const void *stray, size_t alignment) {
    if (stray)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "%s: allocator.alloc returned %p for %s, expected a multiple of %zu", call,
                       stray, what, alignment);
    return tn_fail(message, TENON_ERROR_OUT_OF_MEMORY, "%s: no memory for %s of %zu bytes", call,
                   what, bytes);
}

/*
 * Byte-wise atomics: a reader may see two failures mixed, never an unterminated string (the last byte stays 0).
 */
void tn_message_publish(const tn_message *message) {
    for (size_t i = 0; i + 1 < TN_MESSAGE_BYTES; ++i) {
        atomic_store_explicit(&shared_text[i], message->text[i], memory_order_relaxed);
        if (message->text[i] == 0)
            break;
    }
}

const char *tn_message_shared(void) {
    return (const char *)shared_text;
}
