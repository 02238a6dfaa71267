/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guarded.c: see guarded.h. A buffer's mapping is [record page][forbidden][data pages][forbidden].
 */
#include "guarded.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct record {
    struct record *next;
    size_t mapped; /* bytes of the whole mapping */
    unsigned char *pages, *pages_end;
    unsigned char *data;
    size_t bytes;
} record;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static record *records;

/* Changes from byte to byte, so that a shifted copy is noticed too. */
static unsigned char pattern(uintptr_t at) {
    return (unsigned char)(0xa5u ^ (at * 29u));
}

void canary_fill(void *memory, size_t bytes) {
    unsigned char *at = memory;
    for (size_t i = 0; i < bytes; ++i)
        at[i] = pattern((uintptr_t)(at + i));
}

bool canary_intact(const void *memory, size_t bytes) {
    const unsigned char *at = memory;
    for (size_t i = 0; i < bytes; ++i)
        if (at[i] != pattern((uintptr_t)(at + i)))
            return false;
    return true;
}

void *guard_alloc(size_t bytes, size_t alignment, bool at_end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t data_pages = (bytes + page - 1) / page * page;
    if (data_pages == 0)
        data_pages = page;
    size_t mapped = data_pages + 3 * page;
    unsigned char *base =
        mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + page, page, PROT_NONE) != 0 ||
        mprotect(base + mapped - page, page, PROT_NONE) != 0) {
        fprintf(stderr, "guard_alloc: no memory for %zu bytes\n", bytes);
        exit(99);
    }
    record *r = (record *)(void *)base;
    r->mapped = mapped;
    r->pages = base + 2 * page;
    r->pages_end = r->pages + data_pages;
    r->bytes = bytes;
    r->data = at_end ? r->pages_end - (bytes + alignment - 1) / alignment * alignment : r->pages;
    canary_fill(r->pages, data_pages);
    pthread_mutex_lock(&lock);
    r->next = records;
    records = r;
    pthread_mutex_unlock(&lock);
    return r->data;
}

static bool intact(const record *r) {
    unsigned char *end = r->data + r->bytes;
    return canary_intact(r->pages, (size_t)(r->data - r->pages)) &&
           canary_intact(end, (size_t)(r->pages_end - end));
}

bool guard_intact(const void *buffer) {
    pthread_mutex_lock(&lock);
    record *r = records;
    while (r && r->data != buffer)
        r = r->next;
    bool result = r && intact(r);
    pthread_mutex_unlock(&lock);
    return result;
}

bool guard_free(void *buffer) {
    if (!buffer)
        return true;
    pthread_mutex_lock(&lock);
    record **link = &records;
    while (*link && (*link)->data != buffer)
        link = &(*link)->next;
    record *r = *link;
    bool result = r && intact(r);
    if (r) {
        *link = r->next;
        munmap(r, r->mapped);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

bool guard_free_all(void) {
    bool result = true;
    while (records)
        result &= guard_free(records->data);
    return result;
}
