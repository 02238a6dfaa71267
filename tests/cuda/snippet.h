/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snippet.h: a few PTX instructions on one warp, for tests of their semantics, and number formats
 * by
 * their definition.
 *
 * A snippet works on registers %a0... (32-bit inputs of the lane), %x0... (pairs of them as 64
 * bits)
 * and leaves %d0... and %y0....
 */
#ifndef TEST_SNIPPET_H
#define TEST_SNIPPET_H

#include "cuda_test.h"

enum { WORDS = 8, ROUNDS = 8, LANES = 32 };
typedef struct io {
    uint32_t w[LANES][WORDS];
} io;

/* Runs a snippet on one warp of a device of this architecture. */
void snippet_run(int arch, const char *snippet, const io *in, io *out);
/* Random bits, with corner values mixed in. */
void snippet_fill(io *in, rng *r);

float as_float(uint32_t x);
uint32_t of_float(float f);

typedef struct format {
    int exponent, mantissa, bias;
    bool infinities; /* else: the top exponent holds numbers, but all ones is NaN (e4m3) */
} format;
extern const format f16, bf16, e4m3, e5m2;

double format_number(format f, uint32_t bits);
/* The nearest number, ties to the even one; finite: never beyond the largest. UINT32_MAX: NaN. */
uint32_t format_nearest(format f, double x, bool finite);

#endif
