/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packed.h: the 64 bytes that every device's packed B begins with (tenon_gemm_pack): what it was
 * made for, with a checksum. They may come from a file, so a run checks them before its kernels
 * believe anything; what follows them is each device's own.
 */
#ifndef TN_PACKED_H
#define TN_PACKED_H

#include "ops/problem.h"

typedef struct tn_packed_head {
    uint64_t magic; /* of the device's kind and of its layouts' version */
    int64_t k, n, members;
    uint64_t layout; /* the device's own words: how members are laid out */
    tn_gemm_packed_for made_for;
    uint64_t checksum; /* of the fields above */
} tn_packed_head;

tn_packed_head tn_packed_head_of(const tn_gemm_problem *p, uint64_t magic, int64_t members,
                                 uint64_t layout);

/*
 * Whether `packed`, of `bytes` bytes, begins with `expected` and has the `needed` bytes of such a
 * packed B: INVALID_ARGUMENT with the first thing that differs. `device`: "the cpu device".
 */
tenon_status tn_packed_head_check(const tn_packed_head *expected, size_t needed, const char *device,
                                  const void *packed, size_t bytes, tn_message *why);

#endif
