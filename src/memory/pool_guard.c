/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_guard.c: debug pools, which notice writes outside of blocks and after their end.
 *
 * In a debug pool every free byte is POISON, every byte around a live block is GUARD, and a new
 * block is FRESH, a NaN in every floating-point type. Checked when a block is made, freed, on
 * tenon_memory_check and at the end. What is found is counted and told to the logger; nothing
 * aborts. Everything is done under the pool's lock: a debug pool may be slow.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory/pool_state.h"

enum { POISON = 0xDD, GUARD = 0xFB, FRESH = 0xFF };

static bool all_are(const unsigned char *bytes, size_t count, unsigned char value) {
    return count == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, count - 1) == 0);
}

static unsigned char *first_byte(const tn_block_record *record) {
    return (unsigned char *)tn_segment_of(record)->memory.address + record->node.offset;
}

static size_t tail_bytes(const tn_block_record *record) {
    return record->node.bytes - record->buffer.lead - record->buffer.bytes;
}

void tn_finding_add_locked(tenon_pool *pool, tn_finding *finding, const char *format, ...) {
    ++pool->info.damages;
    if (finding->count++ != 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->line, sizeof finding->line, format, arguments);
    va_end(arguments);
}

void tn_finding_tell(tenon_pool *pool, const tn_finding *finding) {
    if (finding->count > 1)
        tn_log(pool, TENON_LOG_WARNING, "pool %s: %s (and %u more)", pool->device, finding->line,
               finding->count - 1);
    else if (finding->count == 1)
        tn_log(pool, TENON_LOG_WARNING, "pool %s: %s", pool->device, finding->line);
}

static void check_free_locked(tenon_pool *pool, const tn_block_record *record,
                              tn_finding *finding) {
    if (!all_are(first_byte(record), record->node.bytes, POISON))
        tn_finding_add_locked(pool, finding,
                              "free memory was written: %zu bytes at offset %zu of their segment",
                              record->node.bytes, record->node.offset);
}

static void check_used_locked(tenon_pool *pool, const tn_block_record *record,
                              tn_finding *finding) {
    const unsigned char *at = first_byte(record);
    const size_t lead = record->buffer.lead, asked = record->buffer.bytes;
    bool before = !all_are(at, lead, GUARD);
    bool after = !all_are(at + lead + asked, tail_bytes(record), GUARD);
    if (before || after)
        tn_finding_add_locked(pool, finding, "block %llu of %zu bytes for '%.64s' was overrun %s",
                              (unsigned long long)record->id, asked,
                              pool->owners[record->buffer.owner].name,
                              before && after ? "at both ends"
                              : before        ? "before its first byte"
                                              : "after its last byte");
}

/* A segment that nobody else knows yet. */
void tn_guard_segment(const tn_segment_memory *memory) {
    memset(memory->address, POISON, memory->bytes);
}

/* A record that was just taken and filled in. */
void tn_guard_open_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding) {
    check_free_locked(pool, record, finding);
    unsigned char *at = first_byte(record);
    const size_t lead = record->buffer.lead, asked = record->buffer.bytes;
    memset(at, GUARD, lead);
    memset(at + lead, FRESH, asked);
    memset(at + lead + asked, GUARD, tail_bytes(record));
}

/* A record that is about to be released. */
void tn_guard_close_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding) {
    check_used_locked(pool, record, finding);
    memset(first_byte(record), POISON, record->node.bytes);
}

void tn_guard_sweep_locked(tenon_pool *pool, tn_finding *finding) {
    for (const tn_segment *segment = pool->segments; segment != NULL; segment = segment->next)
        for (const tn_tlsf_node *node = &segment->lowest->node; node != NULL; node = node->upper)
            if (node->used && !node->hole)
                check_used_locked(pool, (const tn_block_record *)node, finding);
            else if (!node->used)
                check_free_locked(pool, (const tn_block_record *)node, finding);
}

tenon_status tenon_memory_check(tenon_pool *pool) {
    if (pool == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_memory_check: pool is NULL, expected a pool");
    if (!tn_guarded(pool))
        return tn_fail_shared(TENON_ERROR_UNSUPPORTED,
                              "tenon_memory_check: pool is one of device %s without guards, "
                              "expected TENON_POOL_DEBUG and host memory",
                              pool->device);
    tn_finding finding = {0};
    if (!tn_enter(pool))
        return tn_fail_lost_shared(pool);
    tn_guard_sweep_locked(pool, &finding);
    tn_leave(pool);
    if (finding.count == 0)
        return TENON_OK;
    tn_finding_tell(pool, &finding);
    return tn_fail_shared(
        TENON_ERROR_INVALID_ARGUMENT,
        "tenon_memory_check: pool of device %s was found damaged, expected none: %s (%u in all)",
        pool->device, finding.line, finding.count);
}
