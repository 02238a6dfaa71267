/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_columns.h: elements of lines side by side: r[s], lane i, is line[i][at + s], for as many
 * steps s as a vector has lanes.
 *
 * Used by the attention kernels that read keys where they lie. TN_COLUMNS makes the function of a
 * source type from a load and the transposition; AVX2 has shorter ways: halves of the vectors meet
 * while they are loaded, which leaves two of three shuffles, and bf16 is moved in pairs and
 * converted afterwards.
 */
#ifndef TN_VEC_COLUMNS_H
#define TN_VEC_COLUMNS_H

#include "vec.h"

#define TN_COLUMNS(name, source, vector, lanes, load, transpose)                                   \
    TN_INLINE void name(const void *const *line, int64_t at, vector *r) {                          \
        TN_UNROLL                                                                                  \
        for (int i = 0; i < (lanes); i++)                                                          \
            r[i] = load((const source *)line[i] + at);                                             \
        transpose(r);                                                                              \
    }

#if defined(TN_ISA_AVX2)

/* 16 bytes of line i and as many of line i + 4, i < 4, `offset` bytes on. */
TN_INLINE void tn_lines_halves(const void *const *line, int64_t offset, __m256 *a) {
    TN_UNROLL
    for (int i = 0; i < 4; i++)
        a[i] = _mm256_insertf128_ps(
            _mm256_castps128_ps256(
                _mm_loadu_ps((const float *)(const void *)((const char *)line[i] + offset))),
            _mm_loadu_ps((const float *)(const void *)((const char *)line[i + 4] + offset)), 1);
}

/* r[s], 32-bit lane i, is 32-bit element s of line i, s < 4. */
TN_INLINE void tn_lines_quads(const void *const *line, int64_t offset, __m256 *r) {
    __m256 a[4], b[4];
    tn_lines_halves(line, offset, a);
    b[0] = _mm256_unpacklo_ps(a[0], a[1]);
    b[1] = _mm256_unpackhi_ps(a[0], a[1]);
    b[2] = _mm256_unpacklo_ps(a[2], a[3]);
    b[3] = _mm256_unpackhi_ps(a[2], a[3]);
    TN_UNROLL
    for (int h = 0; h < 2; h++) {
        r[2 * h] = _mm256_shuffle_ps(b[h], b[2 + h], 0x44);
        r[2 * h + 1] = _mm256_shuffle_ps(b[h], b[2 + h], 0xee);
    }
}

TN_INLINE void vf_columns_f32(const void *const *line, int64_t at, vf *r) {
    tn_lines_quads(line, at * 4, r);
    tn_lines_quads(line, at * 4 + 16, r + 4);
}

TN_INLINE void vf_columns_bf16(const void *const *line, int64_t at, vf *r) {
    const __m256 high = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000));
    __m256 pair[4];
    tn_lines_quads(line, at * 2, pair);
    TN_UNROLL
    for (int i = 0; i < 4; i++) {
        r[2 * i] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pair[i]), 16));
        r[2 * i + 1] = _mm256_and_ps(pair[i], high);
    }
}

#else
TN_COLUMNS(vf_columns_f32, float, vf, VF, vf_load, vf_transpose)
TN_COLUMNS(vf_columns_bf16, uint16_t, vf, VF, vf_load_bf16, vf_transpose)
#endif

TN_COLUMNS(vf_columns_f16, uint16_t, vf, VF, vf_load_f16, vf_transpose)
TN_COLUMNS(vf_columns_f8e4m3, uint8_t, vf, VF, vf_load_f8e4m3, vf_transpose)
TN_COLUMNS(vf_columns_f8e5m2, uint8_t, vf, VF, vf_load_f8e5m2, vf_transpose)
TN_COLUMNS(vf_columns_s8, int8_t, vf, VF, vf_load_s8, vf_transpose)
TN_COLUMNS(vd_columns_f64, double, vd, VD, vd_load, vd_transpose)
TN_COLUMNS(vd_columns_f32, float, vd, VD, vd_load_f32, vd_transpose)

#endif
