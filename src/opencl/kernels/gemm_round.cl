/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_round.cl: rows of A rounded to bytes in local memory, and their products with B's bytes: for
 * the kernels for GPUs that multiply blocks.
 *
 * Follows gemm.cl and blocks.cl.
 */

/* A unit of one row: words of four bytes, `step` apart, its step and the sum of its bytes. */
void round_unit(__local const S *x, __local uint *words, int step, __local float *d,
                __local float *total) {
    float most = 0, bad = 0;
    int sum = 0;
    for (int e = 0; e < UNIT; e++) {
        most = fmax(most, fabs(x[e]));
        bad = fma(x[e], 0.0f, bad);
    }
    const rounding r = rounding_of(most, bad);
    for (int i = 0; i < FOURS; i++) {
        uint word = 0;
        for (int t = 0; t < 4; t++) {
            const int q = ROUNDED(&r, x[4 * i + t], as_int);
            word |= (uint)(q & 255) << 8 * t;
            sum += q;
        }
        words[i * step] = word;
    }
    *d = r.d;
    *total = (float)sum;
}

/* The sum of four products of signed bytes. */
int dot_of(uint a, uint b) {
    const char4 x = as_char4(a), y = as_char4(b);
    return (int)x.s0 * y.s0 + (int)x.s1 * y.s1 + (int)x.s2 * y.s2 + (int)x.s3 * y.s3;
}
