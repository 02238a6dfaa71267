/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_wgmma.c: wgmma.mma_async, its fences and groups (PTX ISA, "Asynchronous warpgroup level
 * matrix instructions").
 *
 * Each of the four warps computes its 16 of the 64 rows. The product is made at issue, but the
 * accumulators hold NaN until the group is waited for; a further wgmma on the same registers goes
 * on
 * from the hidden value. What it reads of shared memory nobody may write until then. Layouts of
 * operands in shared memory follow the matrix descriptor: the canonical layouts, by rows of 8 and
 * swizzle atoms. Sums as in op_mma.c.
 */
#include "op_memory.h"
#include "op_mma.h"
#include "tensor_map.h"

#include <cuda.h>
#include <stdlib.h>

struct sim_wgmma {
    bool is_read; /* a read of 16 bytes at offset; else accumulators */
    u32 group, offset;
    const u32 *place; /* of the accumulators, `registers` of them */
    u32 registers;
    u32 *value; /* [register][lane] */
};

static void add_entry(sim_warp *w, sim_wgmma x) {
    w->wgmma = sim_grow(w->wgmma, &w->wgmmas_room, w->wgmmas + 1, sizeof *w->wgmma);
    w->wgmma[w->wgmmas++] = x;
}

typedef struct operand { /* a matrix descriptor, taken apart */
    u32 start, leading, stride, swizzle;
    bool transposed; /* the other dimension than k is contiguous */
} operand;

static operand taken_apart(u64 descriptor, bool transposed) {
    static const u8 swizzles[] = {0, 128, 64, 32};
    return (operand){(u32)(descriptor & 0x3fff) << 4, (u32)(descriptor >> 16 & 0x3fff) << 4,
                     (u32)(descriptor >> 32 & 0x3fff) << 4, swizzles[descriptor >> 62], transposed};
}

/* Offset of the 16-byte chunk that holds element (row, k), k in bytes; transposed: of 8 rows. */
static u32 chunk_at(const operand *x, u32 row, u32 k, u32 element) {
    u32 offset;
    if (!x->transposed) {
        u32 pitch = x->swizzle ? x->swizzle : 16, byte = k * element;
        offset = row / 8 * x->stride + row % 8 * pitch +
                 (x->swizzle ? byte / 16 * 16 : byte / 16 * x->leading);
    } else if (x->swizzle) {
        u32 across = x->swizzle / element; /* rows that lie side by side */
        offset = row / across * x->leading + k / 8 * x->stride + k % 8 * x->swizzle +
                 row % across * element / 16 * 16;
    } else
        offset = row / 8 * x->stride + k / 8 * x->leading + k % 8 * 16;
    return tensor_swizzled(x->start + offset, x->swizzle);
}

/* The hardware takes 8 chunks at once, a core matrix: 8 rows (transposed: 8 steps of k). */
static void count_banks(sim_warp *w, const operand *x, u32 first, u32 rows, u32 depth,
                        u32 element) {
    u32 per = 16 / element, row_step = x->transposed ? per : 8, k_step = x->transposed ? 8 : per;
    for (u32 r = 0; r < rows; r += row_step)
        for (u32 k = 0; k < depth; k += k_step) {
            u32 offset[LANES];
            for (u32 c = 0; c < 8; ++c)
                offset[c] = x->transposed ? chunk_at(x, first + r, k + c, element)
                                          : chunk_at(x, first + r + c, k, element);
            sim_count_shared(w, offset, 0xff, 16);
        }
}

/* rows x k elements to floats, element (row, k) to to[row * row_pitch + k * k_pitch]; the chunks
 * are noted as being read. */
static bool fetch(sim_warp *w, const sim_insn *i, const operand *x, u32 first, u32 rows, u32 depth,
                  u32 type, float *to, u32 row_pitch, u32 k_pitch) {
    u32 element = mma_type_bits(type) / 8, per = 16 / element;
    u32 row_step = x->transposed ? per : 1, k_step = x->transposed ? 1 : per;
    for (u32 r = 0; r < rows; r += row_step)
        for (u32 k = 0; k < depth; k += k_step) {
            u32 at = chunk_at(x, first + r, k, element);
            if (at + 16 > w->block->shared_bytes) {
                sim_fail(CUDA_ERROR_ILLEGAL_ADDRESS, STANDIN_BOUNDS, w, i, 0, at,
                         "a descriptor reaches to shared offset %u, of %zu", at,
                         w->block->shared_bytes);
                return false;
            }
            float part[16];
            if (type >= MMA_S8) {
                s32 whole[16];
                mma_to_ints(type, w->block->shared + at, whole, per);
                for (u32 e = 0; e < per; ++e)
                    part[e] = (float)whole[e];
            } else
                mma_to_floats(type, w->block->shared + at, part, per);
            for (u32 e = 0; e < per; ++e)
                to[x->transposed ? (r + e) * row_pitch + k * k_pitch
                                 : r * row_pitch + (k + e) * k_pitch] = part[e];
            if (sim_options.check_shared) {
                sim_shared_read_async(w, i, at, 16, true);
                add_entry(w, (sim_wgmma){.is_read = true, .group = w->wgmma_group, .offset = at});
            }
        }
    return true;
}

/* The hidden accumulators of these registers, made from the registers where there are none yet. */
static u32 *accumulators(sim_warp *w, const u32 *place, u32 n) {
    for (u32 e = 0; e < w->wgmmas; ++e) {
        sim_wgmma *x = &w->wgmma[e];
        if (!x->is_read && x->place[0] == place[0] && x->registers == n) {
            x->group = w->wgmma_group;
            return x->value;
        }
    }
    u32 *value = sim_alloc((size_t)n * LANES * sizeof *value);
    for (u32 r = 0; r < n; ++r)
        memcpy(value + r * LANES, sim_words(w, place[r]), LANES * sizeof *value);
    add_entry(w, (sim_wgmma){false, w->wgmma_group, 0, place, n, value});
    return value;
}

/* Register and lane of column n of a warp's row, as an index; f16: two columns in a register. */
static u32 place_of(u32 row, u32 n, bool halves) {
    u32 lane = row % 8 * 4 + n % 8 / 2;
    return (halves ? n / 8 * 2 + row / 8 : n / 8 * 4 + row / 8 * 2 + n % 2) * LANES + lane;
}

static void row_of_floats(const sim_insn *i, const float *a, const float *B, u32 row, u32 columns,
                          u32 depth, bool keeps, u32 *value) {
    float sign = ((i->flags & 8) != 0) != ((i->flags & 16) != 0) ? -1.0f : 1.0f, sum[256];
    bool halves = i->flags & 64;
    for (u32 n = 0; n < columns; ++n) {
        u32 v = value[place_of(row, n, halves)];
        sum[n] = !keeps ? 0 : halves ? f16_to_f32(v >> n % 2 * 16 & 0xffff) : as_f32(v);
    }
    for (u32 k = 0; k < depth; ++k)
#pragma omp simd
        for (u32 n = 0; n < columns; ++n)
            sum[n] = __builtin_fmaf(sign * a[k], B[k * columns + n], sum[n]);
    for (u32 n = 0; n < columns; ++n) {
        u32 *v = &value[place_of(row, n, halves)], half = n % 2 * 16;
        *v =
            halves ? (*v & ~(0xffffu << half)) | f32_to_f16(sum[n]) << half : f32_canonical(sum[n]);
    }
}

/* Bytes are exact in float, and so are sums of 32 products. */
static void row_of_ints(const sim_insn *i, const float *a, const float *B, u32 row, u32 columns,
                        u32 depth, bool keeps, u32 *value) {
    (void)i;
    for (u32 n = 0; n < columns; ++n) {
        u32 *v = &value[place_of(row, n, false)];
        float sum = 0;
        for (u32 k = 0; k < depth; ++k)
            sum += a[k] * B[k * columns + n];
        *v = (keeps ? *v : 0) + (u32)(s32)sum;
    }
}

/* list: accumulators (imm of them), then descriptor of A or its four registers, descriptor of B.
 * second: scale-d's predicate; flags: 1 A in registers, 2 A transposed, 4 B transposed, 8 -A, 16
 * -B,
 * 32 s32, 64 f16 accumulators; width: columns / 8 */
static sim_step run_wgmma(sim_warp *w, const sim_insn *i, u32 m) {
    sim_step s = sim_need_lanes(w, i, m, ~UINT32_C(0));
    if (s != STEP_NEXT)
        return s;
    const u32 *list = sim_list(w, i), columns = i->width * 8u;
    u32 registers = (u32)i->imm, depth = 256 / mma_type_bits(i->type);
    static float A[16 * 64], B[256 * 64];
    const u32 *rest = list + registers;
    if (i->flags & 1) {
        u32 chunk = depth / 2;
        for (u32 r = 0; r < 4; ++r) {
            float t[8 * 32];
            mma_to_floats(i->type, sim_words(w, rest[r]), t, 8 * chunk);
            for (u32 g = 0; g < 8; ++g)
                memcpy(&A[(g + 8 * (r % 2)) * depth + r / 2 * chunk], t + g * chunk, chunk * 4);
        }
        rest += 4;
    } else {
        operand a = taken_apart(sim_doubles(w, rest[0])[0], i->flags & 2);
        if (!fetch(w, i, &a, w->id % 4 * 16, 16, depth, i->type, A, depth, 1))
            return STEP_FAULT;
        count_banks(w, &a, w->id % 4 * 16, 16, depth, mma_type_bits(i->type) / 8);
        ++rest;
    }
    operand b = taken_apart(sim_doubles(w, rest[0])[0], i->flags & 4);
    if (!fetch(w, i, &b, 0, columns, depth, i->mode, B, 1, columns))
        return STEP_FAULT;
    if (w->id % 4 == 0) /* once for the four warps */
        count_banks(w, &b, 0, columns, depth, mma_type_bits(i->mode) / 8);
    u32 *value = accumulators(w, list, registers);
    bool keeps = w->pred[i->second] & 1;
    for (u32 row = 0; row < 16; ++row)
        if (i->flags & 32)
            row_of_ints(i, A + row * depth, B, row, columns, depth, keeps, value);
        else
            row_of_floats(i, A + row * depth, B, row, columns, depth, keeps, value);
    for (u32 r = 0; r < registers; ++r)
        memset(sim_words(w, list[r]), 0xff, LANES * sizeof(u32));
    ++w->launch->counters.mma;
    w->launch->counters.mma_flops += 2ull * 16 * columns * depth;
    return STEP_NEXT;
}

static sim_step run_commit(sim_warp *w, const sim_insn *i, u32 m) {
    (void)i, (void)m;
    ++w->wgmma_group;
    return STEP_NEXT;
}

static sim_step run_wait(sim_warp *w, const sim_insn *i, u32 m) {
    (void)m;
    u32 kept = 0;
    for (u32 e = 0; e < w->wgmmas; ++e) {
        sim_wgmma *x = &w->wgmma[e];
        if (x->group + (u32)i->imm >= w->wgmma_group) {
            w->wgmma[kept++] = *x;
            continue;
        }
        if (x->is_read) {
            sim_shared_read_async(w, i, x->offset, 16, false);
            continue;
        }
        for (u32 r = 0; r < x->registers; ++r)
            memcpy(sim_words(w, x->place[r]), x->value + r * LANES, LANES * sizeof(u32));
        free(x->value);
    }
    w->wgmmas = kept;
    for (u32 e = 0; e < kept; ++e) /* read by a later product too: still under way */
        if (w->wgmma[e].is_read)
            sim_shared_read_async(w, i, w->wgmma[e].offset, 16, true);
    return STEP_NEXT;
}

void sim_wgmma_drop(sim_warp *w) {
    for (u32 e = 0; e < w->wgmmas; ++e)
        free(w->wgmma[e].value);
    w->wgmmas = 0;
}

static sim_step run_fence(sim_warp *w, const sim_insn *i, u32 m) {
    (void)w, (void)i, (void)m;
    return STEP_NEXT;
}

/* wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {d}, a, b, p, sa, sb{, ta, tb} */
static bool decode_mma(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const ptx_operand *o = d->operand;
    int a = d->words > 7 ? mma_type_of(d->word[d->words - 2]) : -1;
    int b = d->words > 7 ? mma_type_of(d->word[d->words - 1]) : -1;
    if (ptx_has(d, "satfinite")) /* …s8.s8.satfinite is last in no form that is used here */
        return ptx_refuse(d, ".satfinite");
    u32 at = 1;
    while (at < d->words && strncmp(d->word[at], "m64n", 4) != 0)
        ++at;
    if (a < 0 || b < 0 || at + 3 >= d->words || ptx_has(d, "sp") || d->operands < 4 ||
        o[0].kind != OPERAND_VECTOR)
        return ptx_refuse(d, "this form of wgmma");
    u32 columns = (u32)strtoul(d->word[at] + 4, NULL, 10);
    const char *dt = d->word[at + 1];
    bool halves = strcmp(dt, "f16") == 0;
    i->type = (u8)a;
    i->mode = (u8)b;
    i->width = (u8)(columns / 8);
    i->imm = o[0].parts;
    i->flags = (u8)((strcmp(dt, "s32") == 0 ? 32 : 0) | (halves ? 64 : 0));
    if (columns % 8 || columns == 0 || columns > 256 || o[0].parts != columns / (halves ? 4 : 2))
        return ptx_refuse(d, "%u registers for %u columns", o[0].parts, columns);
    ptx_begin_list(d);
    for (u32 n = 0; n < o[0].parts; ++n) /* read and written: a read */
        if (!ptx_bind_list(d, &o[0].part[n], 4, false))
            return false;
    if (o[1].kind == OPERAND_VECTOR) {
        i->flags |= 1;
        for (u32 n = 0; n < 4; ++n)
            if (o[1].parts != 4 || !ptx_bind_list(d, &o[1].part[n], 4, false))
                return ptx_refuse(d, "registers of A");
    } else if (!ptx_bind_list(d, &o[1], 8, false))
        return false;
    if (!ptx_bind_list(d, &o[2], 8, false))
        return false;
    u32 p = 0;
    if (o[3].kind == OPERAND_REGISTER && !ptx_bind_predicate(d, &p, &o[3], false))
        return false;
    i->second = (u16)p; /* an immediate: 1 is predicate 0, always true */
    if (o[3].kind == OPERAND_IMMEDIATE && o[3].value == 0)
        return ptx_refuse(d, "scale-d 0 as an immediate");
    for (u32 n = 4; n < d->operands; ++n)
        if (o[n].kind != OPERAND_IMMEDIATE)
            return ptx_refuse(d, "a scale that is no immediate");
    i->flags |= d->operands > 4 && (s64)o[4].value < 0 ? 8 : 0;
    i->flags |= d->operands > 5 && (s64)o[5].value < 0 ? 16 : 0;
    if (i->flags & 1)
        i->flags |= d->operands > 6 && o[6].value ? 4 : 0;
    else {
        i->flags |= d->operands > 6 && o[6].value ? 2 : 0;
        i->flags |= d->operands > 7 && o[7].value ? 4 : 0;
    }
    i->run = run_wgmma;
    return true;
}

bool op_wgmma_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    if (strcmp(d->word[0], "wgmma") != 0 || d->words < 2)
        return false;
    if (strcmp(d->word[1], "fence") == 0)
        i->run = run_fence;
    else if (strcmp(d->word[1], "commit_group") == 0)
        i->run = run_commit;
    else if (strcmp(d->word[1], "wait_group") == 0) {
        i->imm = (s64)d->operand[0].value;
        i->run = run_wait;
    } else
        return decode_mma(d);
    return true;
}
