/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared validation; see tensor_check.h. All arithmetic on a caller's numbers is checked here once,
 * so that what comes after (problems, drivers, kernels) may add and multiply extents and strides
 * freely.
 */
#include "ops/tensor_check.h"

#include "core/checked.h"
#include "memory/buffer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/*
 * Strides of 0 make tensors that no memory bounds. With this bound whatever is derived from extents
 * (workspaces: elements times bytes times at most 1024 workers) fits 64 bits; 2^48 elements are far
 * beyond what any machine holds or computes.
 */
#define MAX_ELEMENTS (INT64_C(1) << 48)

tenon_status tn_check_enum(tn_message *m, const char *field, int64_t value, int64_t last) {
    if (value >= 0 && value <= last)
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s is %lld, expected 0 to %lld", field,
                   (long long)value, (long long)last);
}

tenon_status tn_check_finite(tn_message *m, const char *field, double value) {
    if (isfinite(value))
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s is %g, expected a finite number", field,
                   value);
}

tenon_status tn_check_not_negative(tn_message *m, const char *field, double value) {
    if (isfinite(value) && value >= 0)
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "%s is %g, expected a finite number of at least 0", field, value);
}

tenon_status tn_check_window(tn_message *m, const tenon_window *window) {
    TN_TRY(tn_check_enum(m, "window.enabled", window->enabled, 1));
    TN_TRY(tn_check_enum(m, "window.reserved", window->reserved, 0));
    if (window->enabled || (window->left == 0 && window->right == 0))
        return TENON_OK;
    const bool left = window->left != 0;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "window.%s is %lld beside window.enabled of 0, expected 0, or enabled to be 1",
                   left ? "left" : "right", (long long)(left ? window->left : window->right));
}

/* ---------------------------------------------------------------- shapes */

tn_shape_text tn_shape_format(int32_t rank, const int64_t *shape) {
    tn_shape_text s;
    int at = snprintf(s.text, sizeof s.text, "(");
    for (int32_t d = 0; d < rank && d < TENON_MAX_RANK; ++d)
        at += snprintf(s.text + at, sizeof s.text - (size_t)at, d ? ", %lld" : "%lld",
                       (long long)shape[d]);
    snprintf(s.text + at, sizeof s.text - (size_t)at, rank == 1 ? ",)" : ")");
    return s;
}

bool tn_tensor_empty(const tenon_tensor *t) {
    for (int32_t d = 0; d < t->rank; ++d)
        if (t->shape[d] == 0)
            return true;
    return false;
}

void tn_tensor_fill_strides(tenon_tensor *t) {
    int64_t stride = 1;
    for (int32_t d = 0; d < t->rank; ++d)
        if (t->stride[d] != 0)
            return;
    for (int32_t d = t->rank - 1; d >= 0; --d) {
        t->stride[d] = stride;
        stride *= t->shape[d] > 0 ? t->shape[d] : 1;
    }
}

/* A tensor in bytes: blocks where the type has blocks, dimensions of extent 1 left out. */
typedef struct layout {
    int32_t rank;
    bool empty;
    int64_t extent[TENON_MAX_RANK];
    int64_t stride[TENON_MAX_RANK]; /* bytes */
    int64_t low, high;              /* bytes from the start: first, and one after the last */
    int64_t width;                  /* bytes of one element or block */
} layout;

/*
 * False if a byte offset does not fit int64_t. Block types: the dimension of stride 1 counts
 * blocks.
 */
static bool layout_of(const tenon_tensor *t, const tn_dtype_info *type, layout *out) {
    memset(out, 0, sizeof *out);
    out->empty = tn_tensor_empty(t);
    out->width = out->high = type->bytes;
    if (out->empty) {
        out->high = 0;
        return true;
    }
    for (int32_t d = 0; d < t->rank; ++d) {
        const bool along_block = type->elements > 1 && t->stride[d] == 1;
        const int64_t extent = along_block ? t->shape[d] / type->elements : t->shape[d];
        int64_t stride = t->stride[d], reach;
        if (extent <= 1)
            continue;
        if (type->elements > 1)
            stride = along_block ? 1 : stride / type->elements;
        if (!tn_mul_i64(stride, type->bytes, &stride) || !tn_mul_i64(stride, extent - 1, &reach))
            return false;
        if (!tn_add_i64(reach < 0 ? out->low : out->high, reach,
                        reach < 0 ? &out->low : &out->high))
            return false;
        out->extent[out->rank] = extent;
        out->stride[out->rank++] = stride;
    }
    return out->low >= -INT64_MAX / 2 && out->high <= INT64_MAX / 2;
}

int64_t tn_tensor_reach(const tenon_tensor *t, int64_t *low, int64_t *high) {
    const tn_dtype_info *type = tn_dtype_find(t->dtype);
    layout l;
    (void)layout_of(t, type, &l); /* checked shapes always fit */
    *low = l.low;
    *high = l.high;
    return type->alignment;
}

/*
 * Whether no two elements share a byte: strides, ascending, each step over all that the smaller
 * ones span. Sufficient, and necessary for nested layouts.
 */
static bool is_injective(const layout *l) {
    int64_t span = l->width;
    bool used[TENON_MAX_RANK] = {false};
    for (int32_t n = 0; n < l->rank; ++n) {
        int32_t least = -1;
        for (int32_t d = 0; d < l->rank; ++d)
            if (!used[d] && (least < 0 || l->stride[d] < l->stride[least]))
                least = d;
        used[least] = true;
        if (l->stride[least] < span)
            return false;
        span += l->stride[least] * (l->extent[least] - 1);
    }
    return true;
}

static tenon_status check_type(tn_message *m, const char *field, const tenon_tensor *t,
                               tn_dtypes dtypes, const tn_dtype_info **type) {
    char expected[160] = "";
    *type = tn_dtype_find(t->dtype);
    if (*type && dtypes & TN_DTYPE_BIT(t->dtype))
        return TENON_OK;
    for (int value = 1, at = 0; value <= TENON_NVFP4; ++value)
        if ((value < 16 || value >= TENON_Q8_0) && dtypes & TN_DTYPE_BIT(value))
            at += snprintf(expected + at, sizeof expected - (size_t)at, " %s",
                           tenon_dtype_name((tenon_dtype)value));
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s.dtype is %s (%d), expected one of%s", field,
                   tenon_dtype_name(t->dtype), (int)t->dtype, expected);
}

static tenon_status check_extents(tn_message *m, const char *field, const tenon_tensor *t) {
    int64_t count = 1;
    for (int32_t d = 0; d < t->rank; ++d) {
        if (t->shape[d] < 0)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "%s.shape[%d] is %lld, expected at least 0", field, (int)d,
                           (long long)t->shape[d]);
        if (t->shape[d] > 0 && (!tn_mul_i64(count, t->shape[d], &count) || count > MAX_ELEMENTS))
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "%s.shape is %s, expected at most 2^48 elements in all", field,
                           tn_shape_format(t->rank, t->shape).text);
    }
    return TENON_OK;
}

/* Blocks lie along one dimension of stride 1, and everything else steps over whole blocks. */
static tenon_status check_blocks(tn_message *m, const char *field, const tenon_tensor *t,
                                 const tn_dtype_info *type) {
    int32_t along = 0;
    if (tn_tensor_empty(t))
        return TENON_OK;
    for (int32_t d = 0; d < t->rank; ++d)
        along += t->stride[d] == 1 && t->shape[d] > 1;
    for (int32_t d = 0; d < t->rank && along <= 1; ++d) {
        const int64_t number = t->stride[d] == 1 ? t->shape[d] : t->stride[d];
        if (t->shape[d] > 1 && number % type->elements != 0)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "%s.%s[%d] is %lld, expected a multiple of %d, the block of %s", field,
                           t->stride[d] == 1 ? "shape" : "stride", (int)d, (long long)number,
                           (int)type->elements, type->name);
    }
    if (along == 1)
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "%s.stride is %s, expected one dimension of stride 1 (blocks of %s)", field,
                   tn_shape_format(t->rank, t->stride).text, type->name);
}

static tenon_status check_output(tn_message *m, const char *field, const tenon_tensor *t,
                                 const layout *l) {
    for (int32_t d = 0; d < t->rank && !l->empty; ++d)
        if (t->shape[d] > 1 && t->stride[d] < 1)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "%s.stride[%d] is %lld, expected at least 1 for an output", field,
                           (int)d, (long long)t->stride[d]);
    if (l->empty || is_injective(l))
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "%s.stride is %s with shape %s, expected strides with which an output does "
                   "not overlap itself",
                   field, tn_shape_format(t->rank, t->stride).text,
                   tn_shape_format(t->rank, t->shape).text);
}

tenon_status tn_check_tensor(tn_message *m, const char *field, tenon_tensor *t, tn_dtypes dtypes,
                             int32_t min_rank, int32_t max_rank, unsigned flags) {
    const tn_dtype_info *type;
    layout l;
    if (!tn_tensor_present(t)) {
        if (flags & TN_TENSOR_OPTIONAL)
            return TENON_OK;
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s is absent (rank is 0 and data NULL), expected a tensor", field);
    }
    if (t->rank < min_rank || t->rank > max_rank || t->rank > TENON_MAX_RANK)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       min_rank == max_rank ? "%s.rank is %d, expected %d"
                                            : "%s.rank is %d, expected %d to %d",
                       field, (int)t->rank, (int)min_rank, (int)max_rank);
    TN_TRY(check_type(m, field, t, dtypes, &type));
    TN_TRY(check_extents(m, field, t));
    tn_tensor_fill_strides(t);
    if (type->elements > 1)
        TN_TRY(check_blocks(m, field, t, type));
    if (!layout_of(t, type, &l) || t->offset > TN_MAX_OFFSET)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.shape is %s with stride %s and offset %zu, expected less than 2^62 "
                       "bytes in all",
                       field, tn_shape_format(t->rank, t->shape).text,
                       tn_shape_format(t->rank, t->stride).text, t->offset);
    return flags & TN_TENSOR_OUTPUT ? check_output(m, field, t, &l) : TENON_OK;
}

tenon_status tn_check_blocks_along(tn_message *m, const char *field, const tenon_tensor *t,
                                   int32_t dim, const char *meaning) {
    const tn_dtype_info *type = tn_dtype_find(t->dtype);
    if (type->elements == 1)
        return TENON_OK;
    if (t->shape[dim] % type->elements != 0)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.shape[%d] is %lld, expected a multiple of %d, the block of %s", field,
                       (int)dim, (long long)t->shape[dim], (int)type->elements, type->name);
    if (t->stride[dim] != 1 && !tn_tensor_empty(t))
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.stride[%d] is %lld, expected 1, blocks of %s along %s", field, (int)dim,
                       (long long)t->stride[dim], type->name, meaning);
    return TENON_OK;
}

tenon_status tn_check_extent(tn_message *m, const char *field, const tenon_tensor *t, int32_t dim,
                             int64_t expected, const char *meaning) {
    if (t->shape[dim] == expected)
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s.shape[%d] is %lld, expected %lld (%s)",
                   field, (int)dim, (long long)t->shape[dim], (long long)expected, meaning);
}

tenon_status tn_check_shape(tn_message *m, const char *field, const tenon_tensor *t, int32_t rank,
                            const int64_t *shape, const char *meaning) {
    if (t->rank == rank &&
        (rank == 0 || memcmp(t->shape, shape, (size_t)rank * sizeof *shape) == 0))
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s.shape is %s, expected %s (%s)", field,
                   tn_shape_format(t->rank, t->shape).text, tn_shape_format(rank, shape).text,
                   meaning);
}

tenon_status tn_check_broadcast(tn_message *m, const char *field, const tenon_tensor *t,
                                int32_t rank, const int64_t *shape, const char *meaning,
                                int64_t *stride) {
    const int32_t lead = rank - t->rank;
    bool fits = lead >= 0;
    for (int32_t d = 0; d < rank && fits; ++d) {
        const bool repeats = d < lead || t->shape[d - lead] == 1;
        stride[d] = repeats ? 0 : t->stride[d - lead];
        fits = repeats || t->shape[d - lead] == shape[d];
    }
    if (fits)
        return TENON_OK;
    return tn_fail(
        m, TENON_ERROR_INVALID_ARGUMENT, "%s.shape is %s, expected one that broadcasts to %s = %s",
        field, tn_shape_format(t->rank, t->shape).text, meaning, tn_shape_format(rank, shape).text);
}

/* ---------------------------------------------------------------- addresses */

static tenon_status check_in_buffer(tn_message *m, const char *field, const tenon_tensor *t,
                                    const layout *l, void **address) {
    if (!tn_buffer_live(t->buffer))
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s.buffer %s, expected a live buffer",
                       field, tn_buffer_fault(t->buffer));
    const size_t size = tenon_buffer_size(t->buffer);
    const int64_t offset = (int64_t)t->offset;
    char *start = tn_buffer_address(t->buffer);
    if (t->data)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.data is %p, expected NULL beside %s.buffer", field, t->data, field);
    if (offset + l->low < 0 || (uint64_t)(offset + l->high) > size)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.offset is %zu and the tensor covers bytes %lld to %lld, expected "
                       "them within %s.buffer's %zu bytes",
                       field, t->offset, (long long)(offset + l->low),
                       (long long)(offset + l->high), field, size);
    *address = start ? start + t->offset : NULL;
    return TENON_OK;
}

tenon_status tn_check_address(tn_message *m, const char *field, const tenon_tensor *t,
                              void **address) {
    const tn_dtype_info *type = tn_dtype_find(t->dtype);
    layout l;
    *address = NULL;
    if (!tn_tensor_present(t) || !type || !layout_of(t, type, &l))
        return TENON_OK; /* absent: checked shapes always fit */
    if (t->buffer) {
        TN_TRY(check_in_buffer(m, field, t, &l, address));
    } else {
        const uintptr_t start = (uintptr_t)t->data;
        if (l.empty && !t->data)
            return TENON_OK;
        if (!t->data)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s.data is NULL, expected an address",
                           field);
        if (start > UINTPTR_MAX - t->offset ||
            (l.high > 0 && start + t->offset > UINTPTR_MAX - (uintptr_t)l.high) ||
            start + t->offset < (uintptr_t)-l.low)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "%s.data is %p with offset %zu and shape %s, expected memory inside "
                           "the address space",
                           field, t->data, t->offset, tn_shape_format(t->rank, t->shape).text);
        *address = (char *)t->data + t->offset;
    }
    if ((uintptr_t)*address % (uintptr_t)type->alignment == 0)
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "%s.data is %p and %s.offset %zu, expected an address aligned to %d bytes (%s)",
                   field, t->buffer ? tn_buffer_address(t->buffer) : t->data, field, t->offset,
                   (int)type->alignment, type->name);
}

/*
 * Bytes spanned by the dimensions whose stride is not a multiple of `pitch`; `below` of them before
 * the start.
 */
static int64_t span_within(const layout *l, int64_t pitch, int64_t *below) {
    int64_t span = l->width;
    *below = 0;
    for (int32_t d = 0; d < l->rank; ++d) {
        const int64_t reach = l->stride[d] * (l->extent[d] - 1);
        if (l->stride[d] % pitch == 0)
            continue;
        span += reach < 0 ? -reach : reach;
        if (reach < 0)
            *below -= reach;
    }
    return span;
}

/*
 * Whether two layouts stay apart within each period of `pitch` bytes, `distance` bytes lying
 * between their starts (b after a).
 */
static bool apart_within(const layout *a, const layout *b, int64_t distance, int64_t pitch) {
    int64_t below_a, below_b;
    const int64_t span_a = span_within(a, pitch, &below_a),
                  span_b = span_within(b, pitch, &below_b);
    int64_t gap = (distance - below_b + below_a) % pitch;
    if (gap < 0)
        gap += pitch;
    return span_a <= gap && span_b <= pitch - gap;
}

tenon_status tn_check_apart(tn_message *m, const char *out_field, const tenon_tensor *out,
                            const void *out_address, const char *field, const tenon_tensor *t,
                            const void *address, bool may_be_same) {
    const tn_dtype_info *out_type = tn_dtype_find(out->dtype), *type = tn_dtype_find(t->dtype);
    layout a, b;
    if (!out_address || !address || !layout_of(out, out_type, &a) || !layout_of(t, type, &b) ||
        a.empty || b.empty)
        return TENON_OK;
    /*
     * In range by tn_check_address; both below 2^63 on every platform with 48- or 57-bit addresses.
     */
    const int64_t distance = (int64_t)((uintptr_t)address - (uintptr_t)out_address);
    if (distance + b.low >= a.high || distance + b.high <= a.low)
        return TENON_OK;
    if (may_be_same && distance == 0 && out->dtype == t->dtype && a.rank == b.rank &&
        memcmp(a.extent, b.extent, sizeof a.extent) == 0 &&
        memcmp(a.stride, b.stride, sizeof a.stride) == 0)
        return TENON_OK;
    for (int32_t d = 0; d < a.rank + b.rank; ++d) {
        const int64_t stride = d < a.rank ? a.stride[d] : b.stride[d - a.rank];
        if (stride != 0 && apart_within(&a, &b, distance, stride < 0 ? -stride : stride))
            return TENON_OK;
    }
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "%s at %p overlaps %s at %p in memory, expected them apart%s", out_field,
                   out_address, field, address,
                   may_be_same ? " or the same with the same type and strides" : "");
}

/* ---------------------------------------------------------------- lengths and offsets */

tenon_status tn_check_offsets(tn_message *m, const char *field, tenon_dtype dtype,
                              const void *address, int64_t stride, int64_t count, int64_t total) {
    int64_t before = 0;
    for (int64_t i = 0; i <= count; ++i) {
        const int64_t value = tn_index_get(address, dtype, i * stride);
        if (value < before || value > total || (i == 0 && value != 0))
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "%s[%lld] is %lld, expected %lld to %lld", field, (long long)i,
                           (long long)value, (long long)before, (long long)(i == 0 ? 0 : total));
        before = value;
    }
    return TENON_OK;
}
