/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.h: bookkeeping objects of one size, from slabs that somebody else provides.
 *
 * The pool's block nodes and buffer handles come from here, so an allocation from a pool needs the
 * system's heap only once per slab, and freeing never does. Not thread-safe: the pool calls it
 * under its lock. A record that was given back keeps its bytes apart from the first word until it
 * is taken again.
 */
#ifndef TN_MEMORY_RECORDS_H
#define TN_MEMORY_RECORDS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct tn_record {
    struct tn_record *next;
} tn_record;

typedef struct tn_slab {
    struct tn_slab *next;
    size_t bytes;
    bool borrowed; /* lies in the pool's own segment and is not given back by itself */
} tn_slab;

typedef struct tn_records {
    size_t record_bytes; /* a multiple of the alignment of any record */
    bool patient;        /* take the one freed longest ago, so that a second free meets its mark */
    tn_record *first, *last; /* last is of no meaning while first is NULL */
    size_t free, total;
    tn_slab *slabs;
} tn_records;

void tn_records_open(tn_records *records, size_t record_bytes, bool patient);

/* Bytes that a slab for at least `count` more records has; count 0: a good size for growing. */
size_t tn_records_slab_bytes(const tn_records *records, size_t count);

/* Cuts `memory` (aligned to 64) into free records. It stays until tn_records_close. */
void tn_records_add(tn_records *records, void *memory, size_t bytes, bool borrowed);

/* A record, contents undefined; NULL when there is none. */
static inline void *tn_records_take(tn_records *records) {
    tn_record *record = records->first;
    if (record == NULL)
        return NULL;
    records->first = record->next;
    --records->free;
    return record;
}

static inline void tn_records_give(tn_records *records, void *memory) {
    tn_record *record = memory;
    if (records->patient && records->first != NULL) {
        record->next = NULL;
        records->last->next = record;
        records->last = record;
    } else {
        record->next = records->first;
        if (records->first == NULL)
            records->last = record;
        records->first = record;
    }
    ++records->free;
}

/* Takes the next slab out, for its memory to be freed; NULL when there are no more. All records are
 * gone then. */
tn_slab *tn_records_next_slab(tn_records *records);

#endif
