/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_standin_tensor.c: fragments of mma.sync, ldmatrix, stmatrix and movmatrix, by the formulas
 * of
 * the PTX manual.
 */
#include "snippet.h"

#include <stdio.h>
#include <string.h>

/* Fragments, by the formulas of the manual's sections for each shape. */
typedef struct shape {
    const char *types; /* as in the opcode */
    int arch, m, k, bits;
} shape;

static int rows_of_a(const shape *s, int lane, int i) { /* element i of A's registers */
    int e = 32 / s->bits, reg = i / e;
    return lane / 4 + (s->m == 16 && reg % 2 ? 8 : 0);
}
static int column_of_a(const shape *s, int lane, int i) {
    int e = 32 / s->bits, reg = i / e, half = s->m == 16 ? reg / 2 : reg;
    return lane % 4 * e + i % e + half * 4 * e;
}

START_TEST(fragments) {
    static const shape shapes[] = {
        {"m16n8k16.row.col.f32.f16.f16.f32", 80, 16, 16, 16},
        {"m16n8k8.row.col.f32.f16.f16.f32", 80, 16, 8, 16},
        {"m16n8k16.row.col.f32.bf16.bf16.f32", 80, 16, 16, 16},
        {"m16n8k8.row.col.f32.tf32.tf32.f32", 80, 16, 8, 32},
        {"m16n8k4.row.col.f32.tf32.tf32.f32", 80, 16, 4, 32},
        {"m16n8k32.row.col.s32.s8.s8.s32", 80, 16, 32, 8},
        {"m16n8k16.row.col.s32.s8.s8.s32", 80, 16, 16, 8},
        {"m8n8k16.row.col.s32.s8.s8.s32", 80, 8, 16, 8},
        {"m16n8k32.row.col.f32.e4m3.e4m3.f32", 89, 16, 32, 8},
        {"m16n8k32.row.col.f32.e5m2.e5m2.f32", 89, 16, 32, 8},
    };
    rng r = rng_start("fragments");
    cuda_start(89, 1);
    for (size_t t = 0; t < sizeof shapes / sizeof *shapes; ++t) {
        const shape *s = &shapes[t];
        int regs_a = s->m * s->k * s->bits / 32 / 32, regs_b = 8 * s->k * s->bits / 32 / 32,
            e = 32 / s->bits;
        int a[16][64], b[64][8], c[16][8];
        for (int i = 0; i < s->m; ++i)
            for (int p = 0; p < s->k; ++p)
                a[i][p] = (int)rng_between(&r, -4, 4);
        for (int p = 0; p < s->k; ++p)
            for (int j = 0; j < 8; ++j)
                b[p][j] = (int)rng_between(&r, -4, 4);
        for (int i = 0; i < s->m; ++i)
            for (int j = 0; j < 8; ++j)
                c[i][j] = (int)rng_between(&r, -9, 9);
        io ab = {0}, cd = {0}, out;
        bool ints = strstr(s->types, "s32") != NULL;
        format f = strstr(s->types, "e4m3")   ? e4m3
                   : strstr(s->types, "e5m2") ? e5m2
                   : strstr(s->types, "bf16") ? bf16
                                              : f16;
        for (int l = 0; l < LANES; ++l) {
            for (int i = 0; i < regs_a * e; ++i) {
                int v = a[rows_of_a(s, l, i)][column_of_a(s, l, i)];
                uint32_t bits = ints            ? (uint32_t)v & 255
                                : s->bits == 32 ? of_float((float)v)
                                                : format_nearest(f, v, false);
                ab.w[l][i / e] |= bits << i % e * s->bits;
            }
            for (int i = 0; i < regs_b * e; ++i) {
                int v = b[l % 4 * e + i % e + i / e * 4 * e][l / 4];
                uint32_t bits = ints            ? (uint32_t)v & 255
                                : s->bits == 32 ? of_float((float)v)
                                                : format_nearest(f, v, false);
                ab.w[l][4 + i / e] |= bits << i % e * s->bits;
            }
            for (int i = 0; i < s->m / 4; ++i) {
                int v = c[l / 4 + (i >= 2 ? 8 : 0)][l % 4 * 2 + i % 2];
                cd.w[l][i] = ints ? (uint32_t)v : of_float((float)v);
            }
        }
        /* C is of the same numbers for all: given as immediates of the lane through memory */
        char snippet[1024], ra[64] = "", rb[64] = "", rd[64] = "", rc[64] = "";
        for (int i = 0; i < regs_a; ++i)
            sprintf(ra + strlen(ra), "%s%%a%d", i ? "," : "", i);
        for (int i = 0; i < regs_b; ++i)
            sprintf(rb + strlen(rb), "%s%%a%d", i ? "," : "", 4 + i);
        for (int i = 0; i < s->m / 4; ++i) {
            sprintf(rd + strlen(rd), "%s%%d%d", i ? "," : "", i);
            sprintf(rc + strlen(rc), "%s%%t%d", i ? "," : "", 4 + i);
        }
        CUdeviceptr dc = cuda_upload(&cd, sizeof cd);
        snprintf(snippet, sizeof snippet,
                 "mov.u64 %%p3, 0x%llx; add.u64 %%p3, %%p3, %%p2; ld.global.v4.u32 "
                 "{%%t4,%%t5,%%t6,%%t7}, [%%p3];"
                 "mma.sync.aligned.%s {%s}, {%s}, {%s}, {%s};",
                 (unsigned long long)dc, s->types, rd, ra, rb, rc);
        snippet_run(s->arch, snippet, &ab, &out);
        for (int l = 0; l < LANES; ++l)
            for (int i = 0; i < s->m / 4; ++i) {
                int row = l / 4 + (i >= 2 ? 8 : 0), col = l % 4 * 2 + i % 2, want = c[row][col];
                for (int p = 0; p < s->k; ++p)
                    want += a[row][p] * b[p][col];
                double got = ints ? (int32_t)out.w[l][i] : as_float(out.w[l][i]);
                ck_assert_msg(got == want, "%s: d[%d][%d] is %g, not %d", s->types, row, col, got,
                              want);
            }
    }
    cuda_expect_clean();
}
END_TEST

START_TEST(matrices) {
    rng r = rng_start("matrices");
    cuda_start(90, 1);
    io in, out;
    snippet_fill(&in, &r);
    /* lane l writes row l of 16 bytes; four 8x8 matrices */
    snippet_run(90,
                "shl.b32 %t1, %t0, 4; mov.u32 %t2, tile; add.u32 %t1, %t1, %t2;"
                "st.shared.v4.u32 [%t1], {%a0,%a1,%a2,%a3}; bar.sync 0;"
                "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%d0,%d1,%d2,%d3}, [%t1];"
                "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%d4,%d5,%d6,%d7}, [%t1];",
                &in, &out);
    for (int l = 0; l < LANES; ++l)
        for (int m = 0; m < 4; ++m) {
            const uint16_t *row = (const uint16_t *)in.w[8 * m + l / 4];
            uint32_t plain = row[l % 4 * 2] | (uint32_t)row[l % 4 * 2 + 1] << 16;
            uint32_t trans = ((const uint16_t *)in.w[8 * m + l % 4 * 2])[l / 4] |
                             (uint32_t)((const uint16_t *)in.w[8 * m + l % 4 * 2 + 1])[l / 4] << 16;
            ck_assert_uint_eq(out.w[l][m], plain);
            ck_assert_uint_eq(out.w[l][4 + m], trans);
        }
    /* stored and loaded again, transposed twice: the same */
    snippet_run(
        90,
        "shl.b32 %t1, %t0, 4; mov.u32 %t2, tile; add.u32 %t1, %t1, %t2;"
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%t1], {%a0,%a1,%a2,%a3}; bar.sync 0;"
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%d0,%d1,%d2,%d3}, [%t1];"
        "movmatrix.sync.aligned.m8n8.trans.b16 %d4, %a0;"
        "movmatrix.sync.aligned.m8n8.trans.b16 %d5, %d4;",
        &in, &out);
    for (int l = 0; l < LANES; ++l) {
        ck_assert_mem_eq(out.w[l], in.w[l], 16);
        ck_assert_uint_eq(out.w[l][5], in.w[l][0]);
    }
    cuda_expect_clean();
}
END_TEST

static Suite *tensor_suite(void) {
    Suite *s = suite_create("standin_tensor");
    TCase *c = tcase_create("tensor");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, fragments);
    tcase_add_test(c, matrices);
    suite_add_tcase(s, c);
    return s;
}

int main(void) {
    return run_suite(tensor_suite());
}
