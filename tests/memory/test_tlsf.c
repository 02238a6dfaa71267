/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block allocator against a brute-force model: a map of granules that says who holds what.
 * Random traffic of small and large blocks; no overlap, alignment, nothing lost, and everything
 * merged again at the end.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "memory/records.h"
#include "memory/tlsf.h"
#include "rng.h"
#include "suite.h"

enum { SEGMENTS = 3, GRANULES = 1 << 14, LIVE = 700 };

typedef struct bench {
    tn_tlsf tlsf;
    tn_records nodes;
    tn_tlsf_node *lowest[SEGMENTS];
    size_t segment_bytes[SEGMENTS];
    int names[SEGMENTS];              /* their addresses stand for the segments */
    uint16_t map[SEGMENTS][GRANULES]; /* 0 free, else who */
} bench;

static void add_nodes(tn_records *records) {
    size_t bytes = tn_records_slab_bytes(records, 0);
    void *slab = aligned_alloc(64, bytes);
    ck_assert_ptr_nonnull(slab);
    tn_records_add(records, slab, bytes, false);
}

static void open_bench(bench *b) {
    memset(b, 0, sizeof *b);
    tn_records_open(&b->nodes, sizeof(tn_tlsf_node), false);
    add_nodes(&b->nodes);
    for (int s = 0; s < SEGMENTS; ++s) {
        b->segment_bytes[s] = (size_t)(GRANULES - 3 * s) * TN_GRANULE;
        b->lowest[s] = tn_records_take(&b->nodes);
        tn_tlsf_add(&b->tlsf, b->lowest[s], &b->names[s], b->segment_bytes[s]);
    }
}

static void close_bench(bench *b) {
    for (tn_slab *slab; (slab = tn_records_next_slab(&b->nodes)) != NULL;)
        free(slab);
}

static int segment_of(const bench *b, const tn_tlsf_node *node) {
    return (int)((const int *)node->segment - b->names);
}

/* The neighbour lists, the map and the size classes agree. */
static void check_bench(const bench *b) {
    size_t largest = 0;
    for (int s = 0; s < SEGMENTS; ++s) {
        size_t at = 0;
        const tn_tlsf_node *below = NULL;
        for (const tn_tlsf_node *node = b->lowest[s]; node != NULL; node = node->upper) {
            bool right = node->offset == at && node->lower == below &&
                         node->segment == &b->names[s] && node->bytes > 0 &&
                         node->bytes % TN_GRANULE == 0 &&
                         (below == NULL || below->used || node->used); /* else not merged */
            for (size_t g = 0; g < node->bytes / TN_GRANULE; ++g)
                right &= (b->map[s][at / TN_GRANULE + g] != 0) == node->used;
            ck_assert_msg(right, "node at %zu of segment %d", at, s);
            if (!node->used && node->bytes > largest)
                largest = node->bytes;
            at += node->bytes;
            below = node;
        }
        ck_assert_uint_eq(at, b->segment_bytes[s]);
    }
    ck_assert_uint_eq(tn_tlsf_largest(&b->tlsf), largest);
}

/* Whether any free run of the map holds the request: what the thorough search must find. */
static bool model_fits(const bench *b, size_t bytes, size_t alignment) {
    size_t need = bytes / TN_GRANULE, step = alignment / TN_GRANULE;
    for (int s = 0; s < SEGMENTS; ++s) {
        size_t count = b->segment_bytes[s] / TN_GRANULE, run = 0;
        for (size_t g = count; g-- > 0;) {
            run = b->map[s][g] == 0 ? run + 1 : 0;
            if (g % step == 0 && run >= need)
                return true;
        }
    }
    return false;
}

static size_t random_bytes(rng *r) {
    static const int64_t most[] = {1, 4, 40, 300, 4000, GRANULES};
    return (size_t)rng_between(r, 1, most[rng_below(r, 6)]) * TN_GRANULE;
}

START_TEST(traffic_agrees_with_the_model) {
    rng r = rng_start("tlsf");
    bench *b = malloc(sizeof *b);
    open_bench(b);
    tn_tlsf_node *live[LIVE] = {NULL};
    size_t missed = 0, found = 0;
    for (int step = 0; step < 60000; ++step) {
        int slot = (int)rng_below(&r, LIVE);
        /* Phases that fill and phases that drain. */
        bool drain = (step / 3000) % 2 == 1 && rng_below(&r, 3) != 0;
        if (live[slot] != NULL) {
            tn_tlsf_node *node = live[slot];
            memset(&b->map[segment_of(b, node)][node->offset / TN_GRANULE], 0,
                   node->bytes / TN_GRANULE * sizeof(uint16_t));
            tn_tlsf_release(&b->tlsf, node, &b->nodes);
            live[slot] = NULL;
        } else if (!drain) {
            size_t bytes = random_bytes(&r), alignment = (size_t)TN_GRANULE << rng_below(&r, 7);
            tn_tlsf_place place = tn_tlsf_find(&b->tlsf, bytes, alignment);
            tn_tlsf_place thorough = tn_tlsf_find_thorough(&b->tlsf, bytes, alignment);
            ck_assert(place.node == NULL || thorough.node != NULL);
            if (step % 7 == 0 || thorough.node == NULL)
                ck_assert_int_eq(thorough.node != NULL, model_fits(b, bytes, alignment));
            missed += place.node == NULL && thorough.node != NULL;
            if (thorough.node == NULL)
                continue;
            ++found;
            if (b->nodes.free < TN_TLSF_SPLITS)
                add_nodes(&b->nodes);
            if (place.node == NULL)
                place = thorough;
            tn_tlsf_node *node = tn_tlsf_take(&b->tlsf, place, bytes, &b->nodes);
            ck_assert_uint_eq(node->offset % alignment, 0);
            ck_assert_uint_eq(node->bytes, bytes);
            uint16_t *granules = &b->map[segment_of(b, node)][node->offset / TN_GRANULE];
            bool free_before = true; /* nobody else's */
            for (size_t g = 0; g < bytes / TN_GRANULE; ++g) {
                free_before &= granules[g] == 0;
                granules[g] = (uint16_t)(slot + 1);
            }
            ck_assert(free_before);
            live[slot] = node;
        }
        if (step % 500 == 0)
            check_bench(b);
    }
    ck_assert_uint_gt(found, 10000);
    ck_assert_uint_gt(missed, 0); /* the thorough search has a purpose */
    for (int slot = 0; slot < LIVE; ++slot)
        if (live[slot] != NULL)
            tn_tlsf_release(&b->tlsf, live[slot], &b->nodes);
    memset(b->map, 0, sizeof b->map);
    check_bench(b);
    ck_assert_uint_eq(b->nodes.free + SEGMENTS, b->nodes.total); /* no node is lost */
    for (int s = 0; s < SEGMENTS; ++s) {
        ck_assert(tn_tlsf_whole(b->lowest[s]));
        ck_assert_uint_eq(b->lowest[s]->bytes, b->segment_bytes[s]);
        tn_tlsf_remove(&b->tlsf, b->lowest[s]);
    }
    ck_assert_uint_eq(b->tlsf.first_map, 0);
    ck_assert_uint_eq(tn_tlsf_largest(&b->tlsf), 0);
    close_bench(b);
    free(b);
}
END_TEST

/* Sizes that no memory has here: the nodes are all there is. */
START_TEST(large_blocks) {
    tn_tlsf *tlsf = calloc(1, sizeof *tlsf);
    tn_records nodes;
    tn_records_open(&nodes, sizeof(tn_tlsf_node), false);
    add_nodes(&nodes);
    tn_tlsf_node *lowest = tn_records_take(&nodes);
    tn_tlsf_add(tlsf, lowest, tlsf, TN_BLOCK_MOST);
    /* All of it, exactly, at the strictest alignment. */
    tn_tlsf_place place = tn_tlsf_find(tlsf, TN_BLOCK_MOST, TN_ALIGNMENT_MOST);
    ck_assert_ptr_eq(place.node, lowest);
    tn_tlsf_node *all = tn_tlsf_take(tlsf, place, TN_BLOCK_MOST, &nodes);
    ck_assert_ptr_null(tn_tlsf_find(tlsf, TN_GRANULE, TN_GRANULE).node);
    ck_assert_ptr_null(tn_tlsf_find_thorough(tlsf, TN_GRANULE, TN_GRANULE).node);
    tn_tlsf_release(tlsf, all, &nodes);
    /* A freed block of any size serves the same size again in constant time. */
    for (size_t bytes = TN_GRANULE; bytes <= TN_BLOCK_MOST / 4; bytes += bytes / 3 / 64 * 64 + 64) {
        tn_tlsf_node *a = tn_tlsf_take(tlsf, tn_tlsf_find(tlsf, bytes, 64), bytes, &nodes);
        tn_tlsf_node *fence = tn_tlsf_take(tlsf, tn_tlsf_find(tlsf, 64, 64), 64, &nodes);
        size_t offset = a->offset;
        tn_tlsf_release(tlsf, a, &nodes);
        place = tn_tlsf_find(tlsf, bytes, 64);
        ck_assert_ptr_nonnull(place.node);
        ck_assert_uint_eq(place.offset, offset);
        tn_tlsf_release(tlsf, fence, &nodes);
        ck_assert(tn_tlsf_whole(lowest));
    }
    close_bench(&(bench){.nodes = nodes});
    free(tlsf);
}
END_TEST

START_TEST(records_come_back_in_the_order_asked_for) {
    for (int patient = 0; patient < 2; ++patient) {
        tn_records records;
        tn_records_open(&records, 96, patient);
        ck_assert_ptr_null(tn_records_take(&records));
        add_nodes(&records);
        void *first = tn_records_take(&records), *second = tn_records_take(&records);
        tn_records_give(&records, first);
        tn_records_give(&records, second);
        void *again = tn_records_take(&records);
        if (patient)
            ck_assert(again != first && again != second);
        else
            ck_assert_ptr_eq(again, second);
        size_t count = 1;
        while (tn_records_take(&records) != NULL)
            ++count;
        ck_assert_uint_eq(count, records.total);
        ck_assert_uint_eq(records.free, 0);
        free(tn_records_next_slab(&records));
        ck_assert_ptr_null(tn_records_next_slab(&records));
    }
}
END_TEST

static Suite *tlsf_suite(void) {
    Suite *suite = suite_create("tlsf");
    TCase *tcase = tcase_create("tlsf");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, traffic_agrees_with_the_model);
    tcase_add_test(tcase, large_blocks);
    tcase_add_test(tcase, records_come_back_in_the_order_asked_for);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(tlsf_suite());
}
