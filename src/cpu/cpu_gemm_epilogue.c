/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_epilogue.c: from sums to elements of C, in the one order that include/tenon/gemm.h
 * gives.
 *
 * Called by the drivers once per row of a finished piece, while it is in cache. Works in chunks
 * that stay in L1 and goes through the tile family's row operations, so a step's rounding is the
 * same wherever the sum came from.
 */
#include "cpu/cpu_gemm.h"

enum { CHUNK = 256 }; /* elements: at most 2 KiB each for the chunk and the operand that meets it */

/* Whether the sums' scales are still to come: those of exact integers, which become f32 on the way,
 * and of bf16 where its products are the processor's. */
static bool scaled_sums(const tn_gemm_job *job) {
    if (job->tile->type == TENON_S32)
        return job->p.accumulate == TENON_F32;
    return job->tile->scaled &&
           (job->p.operand[TN_GEMM_A_SCALE].dtype || job->p.operand[TN_GEMM_B_SCALE].dtype);
}

bool tn_gemm_has_epilogue(const tn_gemm_job *job) {
    const tn_gemm_problem *p = &job->p;
    return scaled_sums(job) || p->alpha != 1 || p->beta != 0 ||
           p->activation != TENON_ACTIVATION_NONE || p->gated != TENON_GATED_NONE ||
           p->operand[TN_GEMM_BIAS].dtype || p->operand[TN_GEMM_RESIDUAL].dtype ||
           p->operand[TN_GEMM_C_SCALE].dtype;
}

/* Elements (i, j ... j + n) of an operand in the compute type: where they lie if that will do, else
 * converted into `buffer`. */
static const void *row_of(const tn_gemm_job *job, const tn_gemm_member *x, int role, int64_t i,
                          int64_t j, int64_t step, int64_t n, void *buffer) {
    const tn_gemm_operand *o = &job->p.operand[role];
    const char *src =
        x->at[role] + (i * o->row + j * o->column) * (int64_t)tn_gemm_element(o->dtype);
    if (o->dtype == job->finish->type && o->column * step == 1)
        return src;
    job->finish->load[o->dtype](src, o->column * step, n, buffer);
    return buffer;
}

/* Column j of C is which column of B's, bias's and their like: step of them between two. */
static int64_t column_of(const tn_gemm_problem *p, int half, int64_t j) {
    return p->gated == TENON_GATED_INTERLEAVED ? 2 * j + half : half * p->n + j;
}

/* Sums in the numbers that the epilogue works in: themselves, or converted into `wide`. Scales that
 * have waited come in here: S * (a_scale * b_scale). */
static void *numbers_of(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t i,
                        int64_t j, int64_t n, char *sums, double *wide) {
    const tn_gemm_problem *p = &job->p;
    if (!scaled_sums(job) && job->tile->type != TENON_S32)
        return sums;
    if (!scaled_sums(job)) {
        job->finish->load[TENON_S32](sums, 1, n, wide);
        return wide;
    }
    const int64_t step = p->gated == TENON_GATED_INTERLEAVED ? 2 : 1;
    double a_buffer = 0, buffer[CHUNK];
    const void *a = NULL, *b = NULL;
    if (p->operand[TN_GEMM_A_SCALE].dtype)
        a = row_of(job, x, TN_GEMM_A_SCALE, i, 0, 1, 1, &a_buffer);
    if (p->operand[TN_GEMM_B_SCALE].dtype)
        b = row_of(job, x, TN_GEMM_B_SCALE, 0, column_of(p, half, j), step, n, buffer);
    float *to = job->tile->type == TENON_S32 ? (float *)(void *)wide : (float *)(void *)sums;
    job->tile->scaled(sums, a ? (double)*(const float *)a : 1, b, n, to);
    return to;
}

/* z = alpha z + bias, of one half. */
static void linear(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t i, int64_t j,
                   int64_t n, void *z, void *buffer) {
    const tn_gemm_problem *p = &job->p;
    const tn_row_ops *ops = &job->finish->ops;
    if (p->alpha != 1)
        ops->scale(z, p->alpha, n);
    if (p->beta != 0) {
        /* A copy of C is needed: what it holds is brought back to values first. */
        double scale[CHUNK], zero[CHUNK];
        const tn_gemm_operand *c = &p->operand[TN_GEMM_C];
        job->finish->load[c->dtype](x->at[TN_GEMM_C] + (i * c->row + j * c->column) *
                                                           (int64_t)tn_gemm_element(c->dtype),
                                    c->column, n, buffer);
        if (p->operand[TN_GEMM_C_SCALE].dtype) {
            const bool shifted = p->operand[TN_GEMM_C_ZERO].dtype != TENON_DTYPE_NONE;
            ops->dequantise(buffer,
                            shifted ? row_of(job, x, TN_GEMM_C_ZERO, i, j, 1, n, zero) : NULL,
                            row_of(job, x, TN_GEMM_C_SCALE, i, j, 1, n, scale), n, 1);
        }
        ops->axpy(z, p->beta, buffer, n);
    }
    if (p->operand[TN_GEMM_BIAS].dtype) {
        const int64_t step = p->gated == TENON_GATED_INTERLEAVED ? 2 : 1;
        ops->add(z, row_of(job, x, TN_GEMM_BIAS, i, column_of(p, half, j), step, n, buffer), n);
    }
}

void tn_gemm_finish_row(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i, int64_t j0,
                        int64_t n, char *z, char *z2) {
    const tn_gemm_problem *p = &job->p;
    const tn_gemm_tile *finish = job->finish;
    const tn_gemm_operand *c = &p->operand[TN_GEMM_C];
    double buffer[CHUNK], wide[CHUNK], wide2[CHUNK]; /* of the type of `finish` */

    for (int64_t done = 0; done < n; done += CHUNK) {
        const int64_t j = j0 + done, count = tn_min64(n - done, CHUNK);
        void *at = numbers_of(job, x, 0, i, j, count, z + done * (int64_t)job->element, wide);
        linear(job, x, 0, i, j, count, at, buffer);
        if (p->activation != TENON_ACTIVATION_NONE)
            finish->ops.activate(at, (int)p->activation, p->clamp_low, p->clamp_high, count);
        if (p->gated != TENON_GATED_NONE) {
            void *gate =
                numbers_of(job, x, 1, i, j, count, z2 + done * (int64_t)job->element, wide2);
            linear(job, x, 1, i, j, count, gate, buffer);
            finish->ops.mul(at, gate, count);
        }
        if (p->operand[TN_GEMM_RESIDUAL].dtype)
            finish->ops.add(at, row_of(job, x, TN_GEMM_RESIDUAL, i, j, 1, count, buffer), count);
        if (p->operand[TN_GEMM_C_SCALE].dtype)
            finish->ops.quotient(at, row_of(job, x, TN_GEMM_C_SCALE, i, j, 1, count, buffer),
                                 count);
        if (p->operand[TN_GEMM_C_ZERO].dtype)
            finish->ops.add(at, row_of(job, x, TN_GEMM_C_ZERO, i, j, 1, count, buffer), count);
        char *to =
            x->at[TN_GEMM_C] + (i * c->row + j * c->column) * (int64_t)tn_gemm_element(c->dtype);
        if (to != (char *)at)
            finish->store[c->dtype](at, count, to, c->column);
    }
}
