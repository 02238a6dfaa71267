/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading operands that hold indices: offsets, lengths, positions, block tables. Two types are
 * legal, TENON_S32 and TENON_S64. Used by validation and by every backend whose memory is the
 * host's.
 */
#ifndef TN_INDEX_H
#define TN_INDEX_H

#include <tenon/tensor.h>

static inline int64_t tn_index_get(const void *base, tenon_dtype dtype, int64_t element) {
    return dtype == TENON_S64 ? ((const int64_t *)base)[element] : ((const int32_t *)base)[element];
}

#endif
