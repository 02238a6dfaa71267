/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_support.c: see memory_support.h.
 */
#include "memory_support.h"

#include <check.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- pools ---- */

tenon_pool *make_pool(tenon_pool_desc desc) {
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    return pool;
}

tenon_memory_info info_of(tenon_pool *pool) {
    tenon_memory_info info = {0};
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    return info;
}

/* ---- hooks ---- */

/* Kept before each block, so that a free with the wrong size is seen. */
typedef struct header {
    size_t bytes, pad;
} header;

static void *counted_alloc(void *user, size_t bytes, size_t alignment) {
    counted *c = user;
    long long n = atomic_fetch_add(&c->calls, 1) + 1 - c->fail_from;
    bool fails = c->fail_nth != 0 && (n == c->fail_nth || (c->sticky && n > c->fail_nth));
    if (fails && !c->stray)
        return NULL;
    if (c->limit != 0 && (size_t)atomic_load(&c->live_bytes) + bytes > c->limit)
        return NULL;
    size_t pad = alignment < sizeof(header) ? sizeof(header) : alignment;
    const size_t off = fails ? sizeof(size_t) : 0;
    unsigned char *memory;
    if (posix_memalign((void **)&memory, pad, bytes + pad + off) != 0)
        return NULL;
    pad += off;
    memory += pad;
    header *h = (header *)memory - 1;
    *h = (header){bytes, pad};
    if (!c->blank)
        memset(memory, 0xA5, bytes);
    atomic_fetch_add(&c->live, 1);
    long long now = atomic_fetch_add(&c->live_bytes, (long long)bytes) + (long long)bytes;
    long long most = atomic_load(&c->most_bytes);
    while (now > most && !atomic_compare_exchange_weak(&c->most_bytes, &most, now))
        continue;
    return memory;
}

static void counted_free(void *user, void *memory, size_t bytes) {
    counted *c = user;
    const header *h = (const header *)memory - 1;
    ck_assert_uint_eq(h->bytes, bytes);
    atomic_fetch_sub(&c->live, 1);
    atomic_fetch_sub(&c->live_bytes, (long long)bytes);
    free((unsigned char *)memory - h->pad);
}

tenon_allocator counted_hooks(counted *c) {
    return (tenon_allocator){.user = c, .alloc = counted_alloc, .free = counted_free};
}

void counted_fail(counted *c, long long nth, bool sticky) {
    c->fail_nth = nth;
    c->sticky = sticky;
    c->fail_from = atomic_load(&c->calls);
}

/* ---- texts ---- */

int gathered_sink(void *user, const char *piece, size_t bytes) {
    gathered *t = user;
    char *longer = realloc(t->bytes, t->length + bytes + 1);
    ck_assert_ptr_nonnull(longer);
    memcpy(longer + t->length, piece, bytes);
    t->bytes = longer;
    t->length += bytes;
    t->bytes[t->length] = '\0';
    return 0;
}

void gathered_log(void *user, tenon_log_level level, const char *line) {
    static const char *const names[] = {"none", "warning", "info", "dispatch", "debug"};
    ck_assert_ptr_null(strchr(line, '\n'));
    gathered_sink(user, names[level], strlen(names[level]));
    gathered_sink(user, ": ", 2);
    gathered_sink(user, line, strlen(line));
    gathered_sink(user, "\n", 1);
}

void gathered_free(gathered *t) {
    free(t->bytes);
    *t = (gathered){0};
}

bool gathered_has(const gathered *t, const char *part) {
    return t->bytes != NULL && strstr(t->bytes, part) != NULL;
}

/* ---- JSON ---- */

static const char *skip_space(const char *at) {
    while (*at != '\0' && strchr(" \t\r\n", *at) != NULL)
        ++at;
    return at;
}

static const char *json_value(const char *at);

/* Only whether each lead byte has its followers: the rest is test_pool_tell's. */
static const char *utf8_tail(const char *at) {
    const unsigned char lead = (unsigned char)*at;
    const int more = lead < 0x80 ? 0 : lead < 0xC0 ? -1 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    for (int i = 0; i < more; ++i)
        if (((unsigned char)*++at & 0xC0) != 0x80)
            return NULL;
    return more < 0 ? NULL : at;
}

static const char *json_text(const char *at) {
    if (*at++ != '"')
        return NULL;
    for (; *at != '"'; ++at) {
        if ((at = utf8_tail(at)) == NULL)
            return NULL;
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at != '\\')
            continue;
        ++at;
        if (*at == 'u') {
            for (int i = 1; i <= 4; ++i)
                if (!isxdigit((unsigned char)at[i]))
                    return NULL;
            at += 4;
        } else if (*at == '\0' || strchr("\"\\/bfnrt", *at) == NULL) {
            return NULL;
        }
    }
    return at + 1;
}

/* An object (with names) or an array, after its bracket. */
static const char *json_members(const char *at, bool names, char end) {
    at = skip_space(at);
    if (*at == end)
        return at + 1;
    for (;;) {
        at = skip_space(at);
        if (names) {
            if ((at = json_text(at)) == NULL)
                return NULL;
            at = skip_space(at);
            if (*at++ != ':')
                return NULL;
        }
        if ((at = json_value(at)) == NULL)
            return NULL;
        at = skip_space(at);
        if (*at == end)
            return at + 1;
        if (*at++ != ',')
            return NULL;
    }
}

static const char *json_value(const char *at) {
    at = skip_space(at);
    if (*at == '{')
        return json_members(at + 1, true, '}');
    if (*at == '[')
        return json_members(at + 1, false, ']');
    if (*at == '"')
        return json_text(at);
    if (strncmp(at, "true", 4) == 0 || strncmp(at, "null", 4) == 0)
        return at + 4;
    if (strncmp(at, "false", 5) == 0)
        return at + 5;
    const char *start = at;
    at += *at == '-';
    if (!isdigit((unsigned char)*at) || (*at == '0' && isdigit((unsigned char)at[1])))
        return NULL;
    char *end;
    strtod(start, &end);
    return end;
}

bool json_valid(const char *json) {
    const char *end = json_value(json);
    return end != NULL && *skip_space(end) == '\0';
}
