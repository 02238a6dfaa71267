/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_report.c: what a pool tells about itself: statistics, owners, snapshot, the figures of a
 * failure.
 *
 * Allocates nothing, so that it can be asked when memory is short. Owners are told apart by the
 * address of their name, which costs a pointer comparison per allocation; equal texts at different
 * addresses are joined here.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/read_desc.h"
#include "memory/pool_state.h"

/* ---- owners ---- */

/*
 * The slot of a name: where this name was last, or by looking through the table, which is short. A
 * slot without blocks keeps its name, to be found again, but the name is only known to live as long
 * as its blocks: it is compared, never read.
 */
uint32_t tn_owner_find_locked(tenon_pool *pool, const char *name) {
    uint8_t *near = &pool->owner_near[(uintptr_t)name * UINT64_C(0x9E3779B97F4A7C15) >> 58];
    if (pool->owners[*near].name == name)
        return *near;
    uint32_t at = TN_OWNERS; /* "others", when the table is full */
    for (uint32_t i = 0; i < TN_OWNERS; ++i) {
        if (pool->owners[i].name == name) {
            at = i;
            break;
        }
        if (at == TN_OWNERS && pool->owners[i].blocks == 0)
            at = i;
    }
    pool->owners[at].name = at < TN_OWNERS ? name : "others";
    *near = (uint8_t)at;
    return at;
}

/* Copies the owners into `sorted` (TN_OWNERS + 1 places), joined by text, largest first; returns
 * how many. */
static size_t sort_owners_locked(const tenon_pool *pool, tenon_memory_owner *sorted) {
    size_t count = 0;
    for (size_t i = 0; i <= TN_OWNERS; ++i) {
        const tn_owner *slot = &pool->owners[i];
        if (slot->blocks == 0)
            continue;
        size_t at = 0;
        while (at < count && strcmp(sorted[at].owner, slot->name) != 0)
            ++at;
        if (at == count)
            sorted[count++] = (tenon_memory_owner){slot->name, 0, 0};
        sorted[at].bytes += slot->bytes;
        sorted[at].blocks += slot->blocks;
    }
    for (size_t i = 1; i < count; ++i) {
        tenon_memory_owner one = sorted[i];
        size_t at = i;
        for (; at > 0 && sorted[at - 1].bytes < one.bytes; --at)
            sorted[at] = sorted[at - 1];
        sorted[at] = one;
    }
    return count;
}

size_t tenon_memory_owners(tenon_pool *pool, tenon_memory_owner *owners, size_t capacity) {
    if (pool == NULL)
        return 0;
    tenon_memory_owner sorted[TN_OWNERS + 1];
    if (!tn_enter(pool))
        return 0;
    size_t count = sort_owners_locked(pool, sorted);
    tn_leave(pool);
    if (owners != NULL)
        memcpy(owners, sorted, (count < capacity ? count : capacity) * sizeof *owners);
    return count;
}

/* ---- statistics ---- */

static size_t largest_free_locked(tenon_pool *pool) {
    tn_settle_locked(pool);
    size_t largest = tn_tlsf_largest(&pool->tlsf);
    size_t guards = tn_guarded(pool) ? 2 * TN_GRANULE : 0;
    return largest > guards ? largest - guards : 0;
}

tenon_status tenon_memory_stats(tenon_pool *pool, tenon_memory_info *info) {
    if (pool == NULL || info == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_memory_stats: %s is NULL, expected an address",
                              pool == NULL ? "pool" : "info");
    if (!tn_enter(pool))
        return tn_fail_lost_shared(pool);
    tenon_memory_info now = pool->info;
    now.largest_free = largest_free_locked(pool);
    now.blocks = tn_blocks_locked(pool);
    tn_leave(pool);
    return tn_write_info("memory stats", info, &now, sizeof now);
}

void tn_count_failure_locked(tenon_pool *pool, size_t bytes) {
    ++pool->info.ladder.failures;
    tn_record_locked(pool, "fail %zu\n", bytes);
}

/* The sentence of a request that is refused, which is counted unless it was tentative. Returns
 * `status`. */
tenon_status tn_fail_short_locked(tenon_pool *pool, const tn_request *request, tenon_status status,
                                  const char *why, tn_message *message) {
    if (!request->tentative)
        tn_count_failure_locked(pool, request->asked);
    tenon_memory_owner sorted[TN_OWNERS + 1];
    size_t count = sort_owners_locked(pool, sorted);
    char owners[200] = "nobody";
    size_t length = 0;
    for (size_t i = 0; i < count && i < 3; ++i) {
        int more = snprintf(owners + length, sizeof owners - length, "%s'%.32s' %zu",
                            i == 0 ? "" : ", ", sorted[i].owner, sorted[i].bytes);
        if (more > 0 && (size_t)more < sizeof owners - length)
            length += (size_t)more;
    }
    char budget[48] = "none";
    if (pool->info.budget != 0)
        snprintf(budget, sizeof budget, "%zu%s", pool->info.budget,
                 pool->limited_by_system ? " (the system's)" : "");
    return tn_fail(message, status,
                   "pool %s: no block of %zu bytes for '%.32s' (%s): in use %zu, reserved %zu, "
                   "budget %s, largest free block %zu; held by %s",
                   pool->device, request->asked, request->owner, why, pool->info.in_use,
                   pool->info.reserved, budget, largest_free_locked(pool), owners);
}

/* ---- snapshot ---- */

typedef struct json {
    tenon_text_sink sink;
    void *user;
    bool stopped;
    size_t length;
    char text[1024];
} json;

static void json_flush(json *out) {
    if (out->length != 0 && !out->stopped)
        out->stopped = out->sink(out->user, out->text, out->length) != 0;
    out->length = 0;
}

/* Appends a piece shorter than 256 bytes. */
static void json_write(json *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void json_write(json *out, const char *format, ...) {
    if (sizeof out->text - out->length < 256)
        json_flush(out);
    va_list arguments;
    va_start(arguments, format);
    int more =
        vsnprintf(out->text + out->length, sizeof out->text - out->length, format, arguments);
    va_end(arguments);
    if (more > 0 && (size_t)more < sizeof out->text - out->length)
        out->length += (size_t)more;
}

static void json_string(json *out, const char *text) {
    json_write(out, "\"");
    for (int length; *text != '\0'; text += length) {
        const unsigned char c = (unsigned char)*text;
        length = tn_text_character(text);
        if (length == 0) { /* no UTF-8: the replacement character stands for each byte */
            json_write(out, "\\ufffd");
            length = 1;
        } else if (c == '"' || c == '\\') {
            json_write(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7F) {
            json_write(out, "\\u%04x", (unsigned)c);
        } else {
            json_write(out, "%.*s", length, text);
        }
    }
    json_write(out, "\"");
}

static void json_number(json *out, const char *key, uint64_t value) {
    json_write(out, "\"%s\":%llu,", key, (unsigned long long)value);
}

static void write_statistics(json *out, tenon_pool *pool) {
    const tenon_memory_info *info = &pool->info;
    const tenon_ladder_stats *ladder = &info->ladder;
    json_write(out, "{\"device\":");
    json_string(out, pool->device);
    json_write(out, ",");
    json_number(out, "budget", info->budget);
    json_number(out, "reserved", info->reserved);
    json_number(out, "in_use", info->in_use);
    json_number(out, "peak_reserved", info->peak_reserved);
    json_number(out, "peak_in_use", info->peak_in_use);
    json_number(out, "largest_free", largest_free_locked(pool));
    json_number(out, "blocks", tn_blocks_locked(pool));
    json_number(out, "allocations", info->allocations);
    json_number(out, "frees", info->frees);
    json_number(out, "damages", info->damages);
    json_write(out, "\"ladder\":{");
    json_number(out, "coalesced", ladder->coalesced);
    json_number(out, "segments_given", ladder->segments_given);
    json_number(out, "caches_dropped", ladder->caches_dropped);
    json_number(out, "smaller_plans", ladder->smaller_plans);
    json_number(out, "waits", ladder->waits);
    json_number(out, "device_changes", ladder->device_changes);
    json_write(out, "\"failures\":%llu}", (unsigned long long)ladder->failures);
}

static void write_block(json *out, const tenon_pool *pool, const tn_block_record *record) {
    json_write(out, "{\"offset\":%zu,\"bytes\":%zu,", record->node.offset, record->node.bytes);
    if (!record->node.used || record->node.hole) {
        json_write(out, record->node.hole ? "\"hole\":true}" : "\"free\":true}");
        return;
    }
    json_write(out, "\"id\":%llu,\"asked\":%zu,\"owner\":", (unsigned long long)record->id,
               record->buffer.bytes);
    json_string(out, pool->owners[record->buffer.owner].name);
    json_write(out, "}");
}

tenon_status tenon_memory_snapshot(tenon_pool *pool, tenon_text_sink sink, void *user) {
    if (pool == NULL || sink == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_memory_snapshot: %s is NULL, expected an address",
                              pool == NULL ? "pool" : "sink");
    json out = {.sink = sink, .user = user};
    tenon_memory_owner sorted[TN_OWNERS + 1];

    if (!tn_enter(pool))
        return tn_fail_lost_shared(pool);
    write_statistics(&out, pool);
    json_write(&out, ",\"owners\":[");
    size_t count = sort_owners_locked(pool, sorted);
    for (size_t i = 0; i < count; ++i) {
        json_write(&out, "%s{\"owner\":", i == 0 ? "" : ",");
        json_string(&out, sorted[i].owner);
        json_write(&out, ",\"bytes\":%zu,\"blocks\":%llu}", sorted[i].bytes,
                   (unsigned long long)sorted[i].blocks);
    }
    json_write(&out, "],\"segments\":[");
    for (const tn_segment *segment = pool->segments; segment != NULL && !out.stopped;
         segment = segment->next) {
        json_write(&out, "%s{\"bytes\":%zu,\"blocks\":[", segment == pool->segments ? "" : ",",
                   segment->memory.bytes);
        const tn_tlsf_node *node = &segment->lowest->node;
        for (; node != NULL && !out.stopped; node = node->upper) {
            write_block(&out, pool, (const tn_block_record *)node);
            json_write(&out, "%s", node->upper != NULL ? "," : "");
        }
        json_write(&out, "]}");
    }
    json_write(&out, "]}\n");
    json_flush(&out);
    tn_leave(pool);
    if (out.stopped)
        return tn_fail_shared(TENON_ERROR_IO, "tenon_memory_snapshot: the sink asked to stop");
    return TENON_OK;
}
