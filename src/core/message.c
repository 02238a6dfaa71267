/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formatting of failure sentences, and the one process-wide sentence of calls that have no context.
 * vsnprintf with plain conversions does not allocate. Sentences are one line of UTF-8, whatever the
 * names in them are.
 */
#include "core/message.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static atomic_char shared_text[TN_MESSAGE_BYTES];

int tn_text_character(const char *at) {
    const unsigned char *c = (const unsigned char *)at;
    const int length = c[0] == 0     ? 0
                       : c[0] < 0x80 ? 1
                       : c[0] < 0xC2 ? 0
                       : c[0] < 0xE0 ? 2
                       : c[0] < 0xF0 ? 3
                       : c[0] < 0xF5 ? 4
                                     : 0;
    for (int i = 1; i < length; ++i)
        if ((c[i] & 0xC0) != 0x80)
            return 0;
    const bool overlong = (c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xF0 && c[1] < 0x90);
    const bool beyond = (c[0] == 0xED && c[1] >= 0xA0) || (c[0] == 0xF4 && c[1] >= 0x90);
    return overlong || beyond ? 0 : length;
}

void tn_text_clean(char *text) {
    for (int length; *text; text += length) {
        const unsigned char *c = (const unsigned char *)text;
        length = tn_text_character(text);
        const bool control = c[0] < 0x20 || c[0] == 0x7F || (c[0] == 0xC2 && c[1] < 0xA0);
        if (length != 0 && !control)
            continue;
        length += length == 0;
        memset(text, '?', (size_t)length);
    }
}

static void format_text(tn_message *message, const char *format, va_list args) {
    if (vsnprintf(message->text, sizeof message->text, format, args) < 0)
        message->text[0] = 0;
    tn_text_clean(message->text);
}

tenon_status tn_fail(tn_message *message, tenon_status status, const char *format, ...) {
    if (message) {
        va_list args;
        va_start(args, format);
        format_text(message, format, args);
        va_end(args);
    }
    return status;
}

/*
 * What tenon_error_message(NULL) reads. Byte-wise atomics: a reader may see two failures mixed,
 * never an unterminated string (the last byte stays 0).
 */
static void publish(const tn_message *message) {
    for (size_t i = 0; i + 1 < TN_MESSAGE_BYTES; ++i) {
        atomic_store_explicit(&shared_text[i], message->text[i], memory_order_relaxed);
        if (message->text[i] == 0)
            break;
    }
}

tenon_status tn_fail_shared(tenon_status status, const char *format, ...) {
    tn_message message;
    va_list args;
    va_start(args, format);
    format_text(&message, format, args);
    va_end(args);
    publish(&message);
    return status;
}

tenon_status tn_fail_host(tn_message *message, const char *what, size_t bytes, const void *stray,
                          size_t alignment) {
    if (stray)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "allocator.alloc returned %p for %s, expected a multiple of %zu", stray,
                       what, alignment);
    return tn_fail(message, TENON_ERROR_OUT_OF_MEMORY, "no memory for %s of %zu bytes", what,
                   bytes);
}

const char *tn_message_shared(void) {
    return (const char *)shared_text;
}
