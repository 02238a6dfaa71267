/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log hook: one line per event to the caller's function, nothing anywhere else.
 */
#ifndef TN_LOG_H
#define TN_LOG_H

#include <tenon/host.h>

typedef struct tn_log_hook {
    tenon_logger logger;
    tenon_log_level level;
} tn_log_hook;

/* True if a line of this level would be heard: ask before building an expensive one. */
static inline int tn_log_wants(const tn_log_hook *log, tenon_log_level level) {
    return log->logger.log && log->level >= level;
}

/* Formats (cut to 1000 bytes) and hands the line over. */
void tn_log_line(const tn_log_hook *log, tenon_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
