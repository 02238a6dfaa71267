/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_trace.c: the recording of a pool's events, its log lines, and allocations that fail on
 * request.
 *
 * Recordings and fault rules live under the pool's lock, so their order is the order of events. Log
 * lines are written without any lock of the pool, so a logger may ask the pool for statistics.
 */
#include <stdarg.h>
#include <stdio.h>

#include "core/read_desc.h"
#include "memory/pool_state.h"

enum { LINE = 256 };

/* ---- recording ---- */

static void record_to_locked(tenon_pool *pool, tenon_text_sink sink, void *user) {
    pool->record_sink = sink;
    pool->record_user = user;
    pool->watch = sink != NULL ? pool->watch | TN_WATCH_RECORD : pool->watch & ~TN_WATCH_RECORD;
}

void tn_record_locked(tenon_pool *pool, const char *format, ...) {
    if (pool->record_sink == NULL)
        return;
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length <= 0 || (size_t)length >= sizeof line)
        return;
    line[length - 1] = '\0'; /* the end of the line, which is not to be cleaned away */
    tn_text_clean(line);
    line[length - 1] = '\n';
    if (pool->record_sink(pool->record_user, line, (size_t)length) != 0)
        record_to_locked(pool, NULL, NULL);
}

tenon_status tenon_memory_record(tenon_pool *pool, tenon_text_sink sink, void *user) {
    if (pool == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_memory_record: pool is NULL, expected a pool");
    if (!tn_enter(pool))
        return tn_fail_lost_shared(pool);
    record_to_locked(pool, sink, user);
    tn_leave(pool);
    return TENON_OK;
}

/* ---- log ---- */

void tn_log(tenon_pool *pool, tenon_log_level level, const char *format, ...) {
    if (!tn_logs(pool, level))
        return;
    char line[2 * LINE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    tn_text_clean(line);
    pool->logger.log(pool->logger.user, level, line);
}

/* ---- fault rules ---- */

/* splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): a draw
 * in [0, 1). */
static double draw(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

bool tn_fault_strikes_locked(tenon_pool *pool, size_t bytes) {
    tn_fault *fault = &pool->fault;
    if (!fault->armed)
        return false;
    const tenon_fault_rule *rule = &fault->rule;
    uint64_t n = ++fault->seen;
    /* Drawn at every allocation, so that the other parts of the rule do not shift the sequence. */
    bool chance = rule->probability > 0 && draw(&fault->random) < rule->probability;
    bool turn =
        rule->fail_nth != 0 && (n == rule->fail_nth || (rule->sticky != 0 && n > rule->fail_nth));
    bool large = rule->fail_above != 0 && bytes > rule->fail_above;
    return chance || turn || large;
}

tenon_status tenon_memory_inject(tenon_pool *pool, const tenon_fault_rule *given) {
    if (pool == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_memory_inject: pool is NULL, expected a pool");
    tn_fault fault = {.armed = given != NULL};
    tn_message message;
    tenon_status status = tn_read_desc(given, &fault.rule, sizeof fault.rule, &message);
    if (status != TENON_OK)
        return tn_fail_shared(status, "tenon_memory_inject: %s", message.text);
    if (!(fault.rule.probability >= 0 && fault.rule.probability <= 1))
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_memory_inject: probability is %g, expected 0 to 1",
                              fault.rule.probability);
    fault.random = fault.rule.seed;
    if (!tn_enter(pool))
        return tn_fail_lost_shared(pool);
    pool->fault = fault;
    pool->watch = fault.armed ? pool->watch | TN_WATCH_FAULTS : pool->watch & ~TN_WATCH_FAULTS;
    tn_leave(pool);
    return TENON_OK;
}
