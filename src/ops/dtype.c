/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of element types. A new type is a row here, a value in tensor.h and a pair of
 * conversions in the backends. Block layouts are GGUF's (ggml-common.h); 4-bit floats: OCP
 * Microscaling Formats 1.0, section 5.
 */
#include "ops/dtype.h"

#include <string.h>

static const tn_dtype_info types[] = {
    {TENON_F64, 8, 1, 8, "f64"},         {TENON_F32, 4, 1, 4, "f32"},
    {TENON_F16, 2, 1, 2, "f16"},         {TENON_BF16, 2, 1, 2, "bf16"},
    {TENON_F8_E4M3, 1, 1, 1, "f8_e4m3"}, {TENON_F8_E5M2, 1, 1, 1, "f8_e5m2"},
    {TENON_S8, 1, 1, 1, "s8"},           {TENON_U8, 1, 1, 1, "u8"},
    {TENON_S32, 4, 1, 4, "s32"},         {TENON_S64, 8, 1, 8, "s64"},
    {TENON_BOOL, 1, 1, 1, "bool"},       {TENON_Q8_0, 2, 32, 34, "q8_0"},
    {TENON_Q4_0, 2, 32, 18, "q4_0"},     {TENON_Q4_1, 2, 32, 20, "q4_1"},
    {TENON_Q5_0, 2, 32, 22, "q5_0"},     {TENON_Q5_1, 2, 32, 24, "q5_1"},
    {TENON_Q4_K, 2, 256, 144, "q4_k"},   {TENON_Q5_K, 2, 256, 176, "q5_k"},
    {TENON_Q6_K, 2, 256, 210, "q6_k"},   {TENON_IQ4_NL, 2, 32, 18, "iq4_nl"},
    {TENON_MXFP4, 1, 32, 17, "mxfp4"}, /* bytes only, blocks of odd size: no alignment to ask for */
    {TENON_NVFP4, 1, 64, 36, "nvfp4"},
};

enum { TYPES = sizeof types / sizeof types[0] };

/* Rows stand in the order of the values, which have one gap: before the block types. */
const tn_dtype_info *tn_dtype_find(tenon_dtype dtype) {
    const int plain = TENON_BOOL, value = (int)dtype,
              row = value < TENON_Q8_0 ? value - 1 : plain + value - TENON_Q8_0;
    return row >= 0 && row < TYPES && types[row].dtype == dtype ? &types[row] : NULL;
}

const char *tenon_dtype_name(tenon_dtype dtype) {
    const tn_dtype_info *info = tn_dtype_find(dtype);
    if (info)
        return info->name;
    return dtype == TENON_DTYPE_NONE ? "none" : "?";
}

tenon_dtype tenon_dtype_from_name(const char *name) {
    for (int i = 0; name && i < TYPES; ++i)
        if (strcmp(types[i].name, name) == 0)
            return types[i].dtype;
    return TENON_DTYPE_NONE;
}

tenon_status tenon_dtype_block(tenon_dtype dtype, int64_t *elements, size_t *bytes) {
    const tn_dtype_info *info = tn_dtype_find(dtype);
    if (!info)
        return TENON_ERROR_INVALID_ARGUMENT;
    if (elements)
        *elements = info->elements;
    if (bytes)
        *bytes = (size_t)info->bytes;
    return TENON_OK;
}
