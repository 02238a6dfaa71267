/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_support.h: what the memory tests share: pools made and asked, hooks that count and fail,
 * sinks that collect, a JSON checker.
 */
#ifndef TEST_MEMORY_SUPPORT_H
#define TEST_MEMORY_SUPPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <tenon/memory.h>

/* A pool of this descriptor, and its statistics; the test fails where there are none. */
tenon_pool *make_pool(tenon_pool_desc desc);
tenon_memory_info info_of(tenon_pool *pool);

/* Allocation hooks that count, and fail on request. Thread-safe. */
typedef struct counted {
    atomic_llong calls; /* of alloc, those that failed included */
    atomic_llong live;  /* blocks */
    atomic_llong live_bytes;
    atomic_llong most_bytes;
    long long fail_nth; /* the n-th call from fail_from on fails; 0: none */
    bool sticky;        /* and every later one */
    bool blank;         /* memory is not filled, so that large blocks cost nothing */
    bool stray;         /* those that fail are answered, with memory that is misaligned */
    long long fail_from;
    size_t limit; /* bytes live at once that are to be had; 0: any */
} counted;

tenon_allocator counted_hooks(counted *c);

/* The n-th call from now fails. */
void counted_fail(counted *c, long long nth, bool sticky);

/* A growing text; its functions are a sink and a logger. */
typedef struct gathered {
    char *bytes;
    size_t length;
} gathered;

int gathered_sink(void *user, const char *piece, size_t bytes);
void gathered_log(void *user, tenon_log_level level, const char *line);
void gathered_free(gathered *t);

/* True if the text holds `part`. */
bool gathered_has(const gathered *t, const char *part);

/* True if the text is one whole JSON value (RFC 8259) and nothing after it but white space. */
bool json_valid(const char *json);

#endif
