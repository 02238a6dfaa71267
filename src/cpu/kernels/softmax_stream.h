/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax_stream.h: stores that go around the caches, for results that no cache would keep until
 * they are read: an ordinary store first fetches the line that it is going to overwrite, a third of
 * the traffic of a softmax.
 *
 * Addresses are aligned to the vector. What was stored so is seen by other threads only after
 * tn_stream_end(), which each kernel calls before it returns.
 */
#ifndef TN_SOFTMAX_STREAM_H
#define TN_SOFTMAX_STREAM_H

#include "vec.h"

#if defined(TN_ISA_AVX512) && !defined(TN_EMULATE_AVX512)
TN_INLINE void vf_stream(float *p, vf v) {
    _mm512_stream_ps(p, v);
}
TN_INLINE void vd_stream(double *p, vd v) {
    _mm512_stream_pd(p, v);
}
TN_INLINE void tn_stream_end(void) {
    _mm_sfence();
}
#elif defined(TN_ISA_AVX2)
TN_INLINE void vf_stream(float *p, vf v) {
    _mm256_stream_ps(p, v);
}
TN_INLINE void vd_stream(double *p, vd v) {
    _mm256_stream_pd(p, v);
}
TN_INLINE void tn_stream_end(void) {
    _mm_sfence();
}
#else
TN_INLINE void vf_stream(float *p, vf v) {
    vf_store(p, v);
}
TN_INLINE void vd_stream(double *p, vd v) {
    vd_store(p, v);
}
TN_INLINE void tn_stream_end(void) {}
#endif

#endif
