/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoders of the block types, each the formula of its type element by element; see blocks.h for
 * the layouts. Products are exact in f32 (11 bits of d, at most 7 of a scale, 5 of a quant), so
 * what is left to round is the one addition of types with a minimum.
 */
#include "ops/blocks.h"

static void decode_q8_0(const void *block, float *out) {
    const tn_block_q8_0 *b = block;
    const float d = tn_half_value(b->d);
    for (int i = 0; i < 32; ++i)
        out[i] = d * (float)b->q[i];
}

static void decode_q4_0(const void *block, float *out) {
    const tn_block_q4_0 *b = block;
    const float d = tn_half_value(b->d);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * (float)((b->qs[i] & 15) - 8);
        out[i + 16] = d * (float)((b->qs[i] >> 4) - 8);
    }
}

static void decode_q4_1(const void *block, float *out) {
    const tn_block_q4_1 *b = block;
    const float d = tn_half_value(b->d), m = tn_half_value(b->m);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * (float)(b->qs[i] & 15) + m;
        out[i + 16] = d * (float)(b->qs[i] >> 4) + m;
    }
}

/* Element i of 32 whose low bits are nibbles and whose fifth are the bits of qh. */
static int five_bits(const uint8_t qh[4], const uint8_t qs[16], int i) {
    const int low = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
    return low | (qh[i / 8] >> i % 8 & 1) << 4;
}

static void decode_q5_0(const void *block, float *out) {
    const tn_block_q5_0 *b = block;
    const float d = tn_half_value(b->d);
    for (int i = 0; i < 32; ++i)
        out[i] = d * (float)(five_bits(b->qh, b->qs, i) - 16);
}

static void decode_q5_1(const void *block, float *out) {
    const tn_block_q5_1 *b = block;
    const float d = tn_half_value(b->d), m = tn_half_value(b->m);
    for (int i = 0; i < 32; ++i)
        out[i] = d * (float)five_bits(b->qh, b->qs, i) + m;
}

/* Run r of Q4_K or, with qh, of Q5_K. */
static void decode_k_run(uint16_t d, uint16_t dmin, const uint8_t scales[12], const uint8_t *qh,
                         const uint8_t *qs, int r, float *out) {
    int scale, minimum;
    tn_block_k_scales(scales, r, &scale, &minimum);
    const float dl = tn_half_value(d) * (float)scale, ml = tn_half_value(dmin) * (float)minimum;
    for (int i = 0; i < 32; ++i) {
        const int low = qs[r / 2 * 32 + i] >> r % 2 * 4 & 15, high = qh ? (qh[i] >> r & 1) << 4 : 0;
        out[i] = dl * (float)(low | high) - ml;
    }
}

static void decode_q4_k(const void *block, float *out) {
    const tn_block_q4_k *b = block;
    for (int r = 0; r < 8; ++r)
        decode_k_run(b->d, b->dmin, b->scales, NULL, b->qs, r, out + 32 * r);
}

static void decode_q5_k(const void *block, float *out) {
    const tn_block_q5_k *b = block;
    for (int r = 0; r < 8; ++r)
        decode_k_run(b->d, b->dmin, b->scales, b->qh, b->qs, r, out + 32 * r);
}

static void decode_q6_k(const void *block, float *out) {
    const tn_block_q6_k *b = block;
    for (int r = 0; r < 16; ++r) {
        const float d = tn_half_value(b->d) * (float)b->scales[r];
        const int half = r / 8, quarter = r % 8 / 2, first = r % 2 * 16;
        for (int i = first; i < first + 16; ++i) {
            const int low = b->ql[half * 64 + quarter % 2 * 32 + i] >> quarter / 2 * 4 & 15,
                      high = b->qh[half * 32 + i] >> 2 * quarter & 3;
            out[16 * r + i - first] = d * (float)((low | high << 4) - 32);
        }
    }
}

/* 2 · `half` elements with the values of a table. */
static void decode_codes(const int8_t values[16], float d, const uint8_t *qs, int half,
                         float *out) {
    for (int i = 0; i < half; ++i) {
        out[i] = d * (float)values[qs[i] & 15];
        out[i + half] = d * (float)values[qs[i] >> 4];
    }
}

static const int8_t iq4_nl[16] = TN_IQ4_NL_VALUES, fp4[16] = TN_FP4_VALUES;

static void decode_iq4_nl(const void *block, float *out) {
    const tn_block_iq4_nl *b = block;
    decode_codes(iq4_nl, tn_half_value(b->d), b->qs, 16, out);
}

static void decode_mxfp4(const void *block, float *out) {
    const tn_block_mxfp4 *b = block;
    decode_codes(fp4, tn_e8m0_half(b->e), b->qs, 16, out);
}

static void decode_nvfp4(const void *block, float *out) {
    const tn_block_nvfp4 *b = block;
    for (int r = 0; r < 4; ++r)
        decode_codes(fp4, tn_ue4m3_half(b->d[r]), b->qs + 8 * r, 8, out + 16 * r);
}

#define TYPE(NAME, name, elements)                                                                 \
    {                                                                                              \
        TENON_##NAME, elements, (int32_t)sizeof(tn_block_##name), decode_##name,                   \
            tn_block_encode_##name                                                                 \
    }
static const tn_block_type types[] = {
    TYPE(Q8_0, q8_0, 32),     TYPE(Q4_0, q4_0, 32),   TYPE(Q4_1, q4_1, 32),   TYPE(Q5_0, q5_0, 32),
    TYPE(Q5_1, q5_1, 32),     TYPE(Q4_K, q4_k, 256),  TYPE(Q5_K, q5_k, 256),  TYPE(Q6_K, q6_k, 256),
    TYPE(IQ4_NL, iq4_nl, 32), TYPE(MXFP4, mxfp4, 32), TYPE(NVFP4, nvfp4, 64),
};

const tn_block_type *tn_block_find(tenon_dtype dtype) {
    const int row = (int)dtype - TENON_Q8_0;
    return row >= 0 && row < (int)(sizeof types / sizeof *types) ? &types[row] : NULL;
}
