/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_mma.c: mma.sync of f16, bf16, tf32, e4m3, e5m2, f64, and of 8- and 4-bit integers.
 *
 * Fragments are those of the PTX ISA ("Matrix fragments for mma.m16n8k16 …"). All of them are one
 * rule: a 32-bit register of A or B, over the lanes, is a tile of 8 rows (of A, or columns of B)
 * by 4e elements along k, e elements to a register, in row-major order; registers go first down
 * the rows of A, then along k. C is 8 columns wide, two to a lane. Products of inputs are exact in
 * float; sums are a chain of fused multiply-adds along ascending k that starts from C. Hardware
 * sums in
 * another order, and not always rounded to nearest: the manual leaves that open. Of tf32 inputs the
 * low 13 bits are not looked at.
 */
#include "op_mma.h"
#include "ptx.h"

#include <cuda.h>

static const char *const type_names[MMA_TYPES] = {"f16", "bf16", "tf32", "e4m3", "e5m2",
                                                  "s8",  "u8",   "s4",   "u4",   "f64"};

int mma_type_of(const char *word) {
    for (int t = 0; t < MMA_TYPES; ++t)
        if (strcmp(type_names[t], word) == 0)
            return t;
    return -1;
}

u32 mma_type_bits(u32 type) {
    static const u8 bits[MMA_TYPES] = {16, 16, 32, 8, 8, 8, 8, 4, 4, 64};
    return bits[type];
}

void mma_to_floats(u32 type, const void *from, float *to, u32 n) {
    const u16 *h = from;
    const u32 *f = from;
    const u8 *b = from;
    u32 x = 0;
    switch (type) {
    case MMA_F16:
#ifdef __F16C__
        for (; x + 8 <= n; x += 8)
            _mm256_storeu_ps(to + x, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(h + x))));
#endif
        for (; x < n; ++x)
            to[x] = f16_to_f32(h[x]);
        return;
    case MMA_BF16:
        for (; x < n; ++x)
            to[x] = bf16_to_f32(h[x]);
        return;
    case MMA_TF32:
        for (; x < n; ++x)
            to[x] = as_f32(f[x] & ~UINT32_C(0x1fff));
        return;
    default:
        for (; x < n; ++x)
            to[x] = type == MMA_E4M3 ? e4m3_to_f32(b[x]) : e5m2_to_f32(b[x]);
    }
}

void mma_to_ints(u32 type, const void *from, s32 *to, u32 n) {
    const u8 *b = from;
    for (u32 x = 0; x < n; ++x) {
        u32 nibble = b[x / 2] >> 4 * (x % 2) & 15;
        to[x] = type == MMA_S8   ? (int8_t)b[x]
                : type == MMA_U8 ? b[x]
                : type == MMA_S4 ? (s32)(nibble ^ 8) - 8
                                 : (s32)nibble;
    }
}

enum { MAX_K = 64 };
typedef union matrices_a {
    float f[16][MAX_K];
    s32 i[16][MAX_K];
} matrices_a;
typedef union matrices_b {
    float f[MAX_K][8];
    s32 i[MAX_K][8];
} matrices_b;

/* A, row-major, and B, k by n, from the registers. shape: rows of A; width: k. list: d, a, b, c. */
static void gather(const sim_warp *w, const sim_insn *i, const u32 *list, matrices_a *A,
                   matrices_b *B) {
    bool ints = i->type >= MMA_S8;
    u32 bits = mma_type_bits(i->type), e = 32 / bits, chunk = 4 * e;
    u32 down = i->shape / 8, regs_a = i->width / chunk * down, regs_b = i->width / chunk;
    u32 n_d = i->count;
    union {
        float f[8][32];
        s32 i[8][32];
    } t;
    for (u32 r = 0; r < regs_a; ++r) {
        const void *from = sim_words(w, list[n_d + r]);
        if (ints)
            mma_to_ints(i->type, from, t.i[0], 8 * chunk);
        else
            mma_to_floats(i->type, from, t.f[0], 8 * chunk);
        const float *rows = t.f[0];
        for (u32 g = 0; g < 8; ++g)
            memcpy(&A->f[g + 8 * (r % down)][r / down * chunk], rows + g * chunk, chunk * 4);
    }
    for (u32 r = 0; r < regs_b; ++r) {
        const void *from = sim_words(w, list[n_d + regs_a + r]);
        u32 type = i->mode; /* of B */
        if (ints)
            mma_to_ints(type, from, t.i[0], 8 * chunk);
        else
            mma_to_floats(type, from, t.f[0], 8 * chunk);
        const float *columns = t.f[0];
        for (u32 k = 0; k < chunk; ++k)
            for (u32 n = 0; n < 8; ++n)
                memcpy(&B->f[r * chunk + k][n], &columns[n * chunk + k], 4);
    }
}

static void count(sim_warp *w, const sim_insn *i) {
    ++w->launch->counters.mma;
    w->launch->counters.mma_flops += 2ull * i->shape * 8 * i->width;
}

/* C's registers over the lanes: columns 2t and 2t + 1 of row g from two registers, or (f16) one. */
static void read_c(const sim_warp *w, const sim_insn *i, const u32 *c, float acc[16][8]) {
    for (u32 r = 0; r < i->shape / 8u; ++r) {
        float *to = acc[8 * r];
        if (i->flags & 2) {
            mma_to_floats(MMA_F16, sim_words(w, c[r]), to, 64);
            continue;
        }
        const u32 *even = sim_words(w, c[2 * r]), *odd = sim_words(w, c[2 * r + 1]);
        EACH_LANE(l) {
            to[2 * l] = as_f32(even[l]);
            to[2 * l + 1] = as_f32(odd[l]);
        }
    }
}

static void write_d(sim_warp *w, const sim_insn *i, const u32 *d, float acc[16][8]) {
    for (u32 r = 0; r < i->shape / 8u; ++r) {
        const float *from = acc[8 * r];
        if (i->flags & 1) {
            u32 *to = sim_words(w, d[r]);
            EACH_LANE(l) to[l] = f32_to_f16(from[2 * l]) | f32_to_f16(from[2 * l + 1]) << 16;
            continue;
        }
        u32 *even = sim_words(w, d[2 * r]), *odd = sim_words(w, d[2 * r + 1]);
        EACH_LANE(l) {
            even[l] = f32_canonical(from[2 * l]);
            odd[l] = f32_canonical(from[2 * l + 1]);
        }
    }
}

/* Eight chains side by side hide what one waits for. */
static void eight_rows(const float (*a)[MAX_K], const matrices_b *B, float (*acc)[8], u32 depth) {
#ifdef __FMA__
    __m256 sum[8];
    for (u32 r = 0; r < 8; ++r)
        sum[r] = _mm256_loadu_ps(acc[r]);
    for (u32 k = 0; k < depth; ++k) {
        __m256 b = _mm256_loadu_ps(B->f[k]);
        sum[0] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[0][k]), b, sum[0]);
        sum[1] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[1][k]), b, sum[1]);
        sum[2] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[2][k]), b, sum[2]);
        sum[3] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[3][k]), b, sum[3]);
        sum[4] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[4][k]), b, sum[4]);
        sum[5] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[5][k]), b, sum[5]);
        sum[6] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[6][k]), b, sum[6]);
        sum[7] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[7][k]), b, sum[7]);
    }
    for (u32 r = 0; r < 8; ++r)
        _mm256_storeu_ps(acc[r], sum[r]);
#else
    for (u32 k = 0; k < depth; ++k)
        for (u32 r = 0; r < 8; ++r)
            for (u32 n = 0; n < 8; ++n)
                acc[r][n] = __builtin_fmaf(a[r][k], B->f[k][n], acc[r][n]);
#endif
}

static sim_step run_mma_float(sim_warp *w, const sim_insn *i, u32 m) {
    sim_step s = sim_need_lanes(w, i, m, ~UINT32_C(0));
    if (s != STEP_NEXT)
        return s;
    const u32 *list = sim_list(w, i);
    matrices_a A;
    matrices_b B;
    float acc[16][8];
    gather(w, i, list, &A, &B);
    read_c(w, i, list + i->imm, acc);
    for (u32 r = 0; r < i->shape; r += 8)
        eight_rows(&A.f[r], &B, acc + r, i->width);
    write_d(w, i, list, acc);
    count(w, i);
    return STEP_NEXT;
}

static sim_step run_mma_int(sim_warp *w, const sim_insn *i, u32 m) {
    sim_step s = sim_need_lanes(w, i, m, ~UINT32_C(0));
    if (s != STEP_NEXT)
        return s;
    const u32 *list = sim_list(w, i), *c = list + i->imm;
    matrices_a A;
    matrices_b B;
    s32 sum[16][8] = {{0}};
    gather(w, i, list, &A, &B);
    for (u32 r = 0; r < i->shape; ++r)
        for (u32 k = 0; k < i->width; ++k) {
            s32 a = A.i[r][k];
#pragma omp simd
            for (u32 n = 0; n < 8; ++n)
                sum[r][n] += a * B.i[k][n];
        }
    for (u32 r = 0; r < 2u * i->shape / 8; ++r)
        EACH_LANE(l) {
            u32 place = c[r];
            s64 exact = (s64)(s32)sim_words(w, place)[l] +
                        sum[8 * (r / 2) + (u32)l / 4][2 * (u32)(l % 4) + r % 2];
            if (i->flags & 4)
                exact = exact > INT32_MAX ? INT32_MAX : exact < INT32_MIN ? INT32_MIN : exact;
            sum[8 * (r / 2) + (u32)l / 4][2 * (u32)(l % 4) + r % 2] = (s32)(u32)(u64)exact;
        }
    for (u32 r = 0; r < 2u * i->shape / 8; ++r)
        EACH_LANE(l)
    sim_words(w, list[r])[l] = (u32)sum[8 * (r / 2) + (u32)l / 4][2 * (u32)(l % 4) + r % 2];
    count(w, i);
    return STEP_NEXT;
}

/* The same layout with one 64-bit element to a register. */
static sim_step run_mma_double(sim_warp *w, const sim_insn *i, u32 m) {
    sim_step s = sim_need_lanes(w, i, m, ~UINT32_C(0));
    if (s != STEP_NEXT)
        return s;
    const u32 *list = sim_list(w, i), down = i->shape / 8u, chunks = i->width / 4u;
    const u32 *a = list + i->count, *b = a + down * chunks, *c = list + i->imm;
    double r[16][8];
    for (u32 row = 0; row < i->shape; ++row)
        for (u32 n = 0; n < 8; ++n) {
            u32 lane = row % 8 * 4 + n / 2;
            double x = as_f64(sim_doubles(w, c[2 * (row / 8) + n % 2])[lane]);
            for (u32 k = 0; k < i->width; ++k)
                x = __builtin_fma(
                    as_f64(sim_doubles(w, a[row / 8 + down * (k / 4)])[row % 8 * 4 + k % 4]),
                    as_f64(sim_doubles(w, b[k / 4])[n * 4 + k % 4]), x);
            r[row][n] = x;
        }
    for (u32 row = 0; row < i->shape; ++row)
        for (u32 n = 0; n < 8; ++n)
            sim_doubles(w, list[2 * (row / 8) + n % 2])[row % 8 * 4 + n / 2] = of_f64(r[row][n]);
    count(w, i);
    return STEP_NEXT;
}

static bool bind_matrix(ptx_decoder *d, const ptx_operand *o, u32 n, u32 bytes, bool defines) {
    const ptx_operand *part = o->kind == OPERAND_VECTOR ? o->part : o;
    if ((o->kind == OPERAND_VECTOR ? o->parts : 1) != n)
        return ptx_refuse(d, "%u registers instead of %u", o->parts, n);
    for (u32 x = 0; x < n; ++x)
        if (!ptx_bind_list(d, &part[x], bytes, defines))
            return false;
    return true;
}

/* Shapes that the ISA has for each type: k along the row, m 8 or 16. */
static bool shape_exists(u32 type, u32 m, u32 n, u32 k) {
    u32 bits = mma_type_bits(type);
    if (n != 8)
        return false;
    if (type == MMA_F64)
        return (m == 8 && k == 4) || (m == 16 && (k == 4 || k == 8 || k == 16));
    if (type >= MMA_S8)
        return (m == 8 && k * bits == 128) || (m == 16 && (k * bits == 128 || k * bits == 256));
    if (type == MMA_E4M3 || type == MMA_E5M2)
        return m == 16 && (k == 16 || k == 32);
    return m == 16 && (k * bits == 128 || k * bits == 256);
}

/* mma.sync.aligned.m16n8k16.row.col.{satfinite.}D.A.B.C */
bool op_mma_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    if (strcmp(d->word[0], "mma") != 0)
        return false;
    u32 m = 0, n = 0, k = 0, at = 1;
    while (at < d->words && d->word[at][0] != 'm')
        ++at;
    const char *s = at < d->words ? d->word[at] : "";
    for (; *s && !(*s >= '0' && *s <= '9'); ++s) {
    }
    for (u32 *field = &m; *s; ++s) {
        if (*s == 'n')
            field = &n;
        else if (*s == 'k')
            field = &k;
        else
            *field = *field * 10 + (u32)(*s - '0');
    }
    int a = d->words > 8 ? mma_type_of(d->word[d->words - 3]) : -1;
    int b = d->words > 8 ? mma_type_of(d->word[d->words - 2]) : -1;
    const char *dt = d->word[d->words - 4], *ct = d->word[d->words - 1];
    if (a < 0 || b < 0 || mma_type_bits((u32)a) != mma_type_bits((u32)b) ||
        !shape_exists((u32)a, m, n, k) || !ptx_has(d, "row") || !ptx_has(d, "col") ||
        ptx_has(d, "popc") || ptx_has(d, "sp") || ptx_has(d, "block_scale") || d->operands != 4)
        return ptx_refuse(d, "this shape or type of mma");
    i->type = (u8)a;
    i->mode = (u8)b;
    i->shape = (u8)m;
    i->width = (u8)k;
    bool ints = a == MMA_S8 || a == MMA_U8 || a == MMA_S4 || a == MMA_U4;
    if (ints ? strcmp(dt, "s32") || strcmp(ct, "s32")
             : (strcmp(dt, "f32") && strcmp(dt, "f16") && strcmp(dt, "f64")) || strcmp(dt, ct))
        return ptx_refuse(d, "accumulators .%s and .%s", dt, ct);
    bool halves = strcmp(dt, "f16") == 0;
    i->flags = (u8)((halves ? 3 : 0) | (ptx_has(d, "satfinite") ? 4 : 0));
    i->run = a == MMA_F64 ? run_mma_double : ints ? run_mma_int : run_mma_float;
    u32 bytes = a == MMA_F64 ? 8 : 4, chunk = 4 * (bytes * 8 / mma_type_bits((u32)a));
    u32 regs_a = k / chunk * (m / 8), regs_b = k / chunk, regs_c = m / 8 * (halves ? 1 : 2);
    i->count = (u8)regs_c;
    i->imm = (s64)(regs_c + regs_a + regs_b); /* where C starts in the list */
    ptx_begin_list(d);
    return bind_matrix(d, &d->operand[0], regs_c, bytes, true) &&
           bind_matrix(d, &d->operand[1], regs_a, bytes, false) &&
           bind_matrix(d, &d->operand[2], regs_b, bytes, false) &&
           bind_matrix(d, &d->operand[3], regs_c, bytes, false);
}
