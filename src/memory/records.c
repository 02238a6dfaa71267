/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.c: slabs of equal records on one free list.
 *
 * Decides how slabs grow and in which order records are used again. Never allocates: the pool
 * brings the slabs.
 */
#include "memory/records.h"

#include <stdint.h>

enum {
    SLAB_HEADER = 64,      /* keeps the first record on a cache line of its own */
    SLAB_LEAST = 8 * 1024, /* about a hundred nodes: enough for a small program for ever */
    SLAB_MOST = 256 * 1024 /* above that the cost of a slab is already spread over thousands */
};

void tn_records_open(tn_records *records, size_t record_bytes, bool patient) {
    *records = (tn_records){.record_bytes = record_bytes, .patient = patient};
}

size_t tn_records_slab_bytes(const tn_records *records, size_t count) {
    size_t bytes = SLAB_HEADER + count * records->record_bytes;
    if (count == 0) /* grow by half of what there is: constant cost per record, little waste */
        bytes += records->total / 2 * records->record_bytes;
    if (count == 0 && bytes > SLAB_MOST)
        bytes = SLAB_MOST;
    if (bytes < SLAB_LEAST)
        bytes = SLAB_LEAST;
    return (bytes + 63) & ~(size_t)63;
}

void tn_records_add(tn_records *records, void *memory, size_t bytes, bool borrowed) {
    tn_slab *slab = memory;
    *slab = (tn_slab){.next = records->slabs, .bytes = bytes, .borrowed = borrowed};
    records->slabs = slab;
    size_t count = (bytes - SLAB_HEADER) / records->record_bytes;
    unsigned char *at = (unsigned char *)memory + SLAB_HEADER;
    records->total += count;
    for (size_t i = 0; i < count; ++i, at += records->record_bytes)
        tn_records_give(records, at);
}

tn_slab *tn_records_next_slab(tn_records *records) {
    tn_slab *slab = records->slabs;
    if (slab != NULL)
        records->slabs = slab->next;
    records->first = records->last = NULL;
    records->free = records->total = 0;
    return slab;
}
