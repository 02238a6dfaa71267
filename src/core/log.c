/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log hook's formatting.
 */
#include "core/log.h"

#include "core/message.h"

#include <stdarg.h>
#include <stdio.h>

void tn_log_line(const tn_log_hook *log, tenon_log_level level, const char *format, ...) {
    char line[1000];
    va_list args;

    if (!tn_log_wants(log, level))
        return;
    va_start(args, format);
    if (vsnprintf(line, sizeof line, format, args) >= 0) {
        tn_text_clean(line);
        log->logger.log(log->logger.user, level, line);
    }
    va_end(args);
}
