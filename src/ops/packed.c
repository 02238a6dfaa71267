/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packed.c: see packed.h. Called by the backends, which know how large their packed forms are.
 */
#include "ops/packed.h"

#include <stddef.h>

_Static_assert(sizeof(tn_packed_head) == 64, "what follows is aligned as the whole is");

/* FNV-1a, 64 bits (draft-eastlake-fnv). */
static uint64_t sum_of(const tn_packed_head *h) {
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < offsetof(tn_packed_head, checksum); ++i)
        sum = (sum ^ ((const unsigned char *)h)[i]) * UINT64_C(0x100000001b3);
    return sum;
}

tn_packed_head tn_packed_head_of(const tn_gemm_problem *p, uint64_t magic, int64_t members,
                                 uint64_t layout) {
    tn_packed_head h = {.magic = magic,
                        .k = p->k,
                        .n = p->n,
                        .members = members,
                        .layout = layout,
                        .made_for = tn_gemm_packed_for_of(p)};
    h.checksum = sum_of(&h);
    return h;
}

tenon_status tn_packed_head_check(const tn_packed_head *expected, size_t needed, const char *device,
                                  const void *packed, size_t bytes, tn_message *why) {
    tn_packed_head found;
    if (bytes < sizeof found)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b_packed_bytes is %zu, expected at least %zu", bytes, needed);
    memcpy(&found, packed, sizeof found);
    if (found.magic != expected->magic)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b_packed was not written by tenon_gemm_pack on %s", device);
    if (found.checksum != sum_of(&found))
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b_packed's header is damaged: its checksum is %016llx, expected %016llx",
                       (unsigned long long)found.checksum, (unsigned long long)sum_of(&found));
    if (found.layout != expected->layout)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b_packed was written for another device, instruction set or compute type "
                       "(layout %llx, expected %llx)",
                       (unsigned long long)found.layout, (unsigned long long)expected->layout);
    TN_TRY(tn_gemm_packed_for_check(&found.made_for, &expected->made_for, why));
    if (bytes < needed)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b_packed_bytes is %zu, expected at least %zu", bytes, needed);
    if (memcmp(&found, expected, sizeof found) != 0)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b_packed holds %lld matrices of %lld x %lld, expected %lld of %lld x %lld",
                       (long long)found.members, (long long)found.k, (long long)found.n,
                       (long long)expected->members, (long long)expected->k,
                       (long long)expected->n);
    return TENON_OK;
}
