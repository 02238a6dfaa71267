/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_atomic.c: atom and red, on device and shared memory.
 *
 * Lanes of one instruction take their turns in an order that the seed rotates: sums of floats by
 * atomics differ from run to run on hardware, and from seed to seed here. Scopes and orderings are
 * taken as the strongest. Vectors (.v2.f32 and so on, sm_90) are one atomic per element.
 */
#include "formats.h"
#include "op_memory.h"

#include <cuda.h>

typedef enum atom_op {
    A_ADD,
    A_MIN,
    A_MAX,
    A_AND,
    A_OR,
    A_XOR,
    A_EXCH,
    A_CAS,
    A_INC,
    A_DEC,
    A_OPS
} atom_op;
static const char *const op_names[A_OPS] = {"add", "min",  "max", "and", "or",
                                            "xor", "exch", "cas", "inc", "dec"};
typedef enum atom_type { T_U, T_S, T_F32, T_F64, T_F16, T_F16X2, T_BF16, T_BF16X2 } atom_type;

static u32 half_add(u32 a, u32 b, bool bf16) {
    return bf16 ? f32_to_bf16(bf16_to_f32(a & 0xffff) + bf16_to_f32(b & 0xffff))
                : f32_to_f16(f16_to_f32(a & 0xffff) + f16_to_f32(b & 0xffff));
}

static u64 float_op(u64 a, u64 b, u32 type, u32 op) {
    switch (type) {
    case T_F32: /* atomic add flushes nothing in global memory; shared memory may: not modelled */
        return f32_canonical(as_f32((u32)a) + as_f32((u32)b));
    case T_F64:
        return of_f64(as_f64(a) + as_f64(b));
    case T_F16:
    case T_BF16:
        return half_add((u32)a, (u32)b, type == T_BF16);
    default: {
        bool bf16 = type == T_BF16X2;
        (void)op;
        return half_add((u32)(a >> 16), (u32)(b >> 16), bf16) << 16 |
               half_add((u32)a, (u32)b, bf16);
    }
    }
}

static u64 integer_op(u64 a, u64 b, u64 c, const sim_insn *i) {
    bool less =
        i->type == T_S ? (i->width == 8 ? (s64)a < (s64)b : (s32)(u32)a < (s32)(u32)b) : a < b;
    switch (i->mode) {
    case A_ADD:
        return a + b;
    case A_MIN:
        return less ? a : b;
    case A_MAX:
        return less ? b : a;
    case A_AND:
        return a & b;
    case A_OR:
        return a | b;
    case A_XOR:
        return a ^ b;
    case A_EXCH:
        return b;
    case A_CAS:
        return a == b ? c : a;
    case A_INC:
        return a >= b ? 0 : a + 1;
    default:
        return a == 0 || a > b ? b : a - 1;
    }
}

static u64 operand(const sim_warp *w, u32 place, u32 l, u32 width) {
    return width == 8   ? sim_doubles(w, place)[l]
           : width == 2 ? sim_words(w, place)[l] & 0xffff
                        : sim_words(w, place)[l];
}

/* list: results (PLACE_NONE without), then values; c: the third operand of cas */
static sim_step run_atomic(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *list = sim_list(w, i);
    u32 turn = (u32)(sim_random(&w->launch->rng) % LANES);
    u64 addresses[LANES];
    EACH_LANE(n) {
        u32 l = ((u32)n + turn) % LANES;
        if (!(m & lane_bit[l]))
            continue;
        u64 address;
        sim_address(w, i, l, &address);
        addresses[l] = address;
        u8 *p = sim_lane_bytes(w, i, l, address, (u32)i->width * i->count,
                               ACCESS_READ | ACCESS_WRITE | ACCESS_ATOMIC);
        if (!p)
            return STEP_FAULT;
        for (u32 e = 0; e < i->count; ++e) {
            u64 old = 0;
            memcpy(&old, p + e * i->width, i->width);
            u64 b = operand(w, list[i->count + e], l, i->width);
            u64 c = i->c == PLACE_NONE ? 0 : operand(w, i->c, l, i->width);
            u64 r = i->type >= T_F32 && i->mode == A_ADD ? float_op(old, b, i->type, i->mode)
                                                         : integer_op(old, b, c, i);
            memcpy(p + e * i->width, &r, i->width);
            u32 d = list[e];
            if (d == PLACE_NONE)
                continue;
            if (i->width == 8)
                sim_doubles(w, d)[l] = old;
            else
                sim_words(w, d)[l] = (u32)old;
        }
    }
    if (i->space == SPACE_GLOBAL)
        sim_count_global(w, addresses, m, (u32)i->width * i->count);
    return STEP_NEXT;
}

static int type_of(const char *s) {
    static const struct {
        const char *name;
        atom_type type;
    } types[] = {{"u32", T_U},        {"u64", T_U},   {"b16", T_U},       {"b32", T_U},
                 {"b64", T_U},        {"s32", T_S},   {"s64", T_S},       {"f32", T_F32},
                 {"f64", T_F64},      {"f16", T_F16}, {"f16x2", T_F16X2}, {"bf16", T_BF16},
                 {"bf16x2", T_BF16X2}};
    for (size_t n = 0; n < sizeof types / sizeof *types; ++n)
        if (strcmp(types[n].name, s) == 0)
            return types[n].type;
    return -1;
}

static bool bind_parts(ptx_decoder *d, const ptx_operand *o, bool defines) {
    sim_insn *i = &d->insn;
    const ptx_operand *part = o && o->kind == OPERAND_VECTOR ? o->part : o;
    static const ptx_operand sink = {.kind = OPERAND_SINK, .second = -1};
    for (u32 n = 0; n < i->count; ++n)
        if (!ptx_bind_list(d, part ? &part[n] : &sink, i->width, defines))
            return false;
    return true;
}

bool op_atomic_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    bool returns = strcmp(d->word[0], "atom") == 0;
    if ((!returns && strcmp(d->word[0], "red") != 0) || ptx_has(d, "async"))
        return false;
    u32 op = A_OPS;
    for (u32 n = 1; n < d->words; ++n)
        for (u32 x = 0; x < A_OPS; ++x)
            if (strcmp(d->word[n], op_names[x]) == 0)
                op = x;
    int type = type_of(d->word[d->words - 1]);
    u32 operands = 2u + returns + (op == A_CAS);
    if (op == A_OPS || type < 0 || (type >= T_F32 && op != A_ADD) ||
        (d->operands != operands && d->operands != operands + 1) || !sim_decode_space(d))
        return ptx_refuse(d, "this form of %s", d->word[0]);
    i->mode = (u8)op;
    i->type = (u8)type;
    i->width = (u8)ptx_type_bytes(d->word[d->words - 1]);
    i->count = ptx_has(d, "v2") ? 2 : ptx_has(d, "v4") ? 4 : ptx_has(d, "v8") ? 8 : 1;
    sim_note_store(d, i->width);
    const ptx_operand *o = d->operand;
    ptx_begin_list(d);
    i->run = run_atomic;
    return bind_parts(d, returns ? &o[0] : NULL, true) && bind_parts(d, &o[returns + 1], false) &&
           ptx_bind_address(d, &i->a, &i->imm, &o[returns]) &&
           (op != A_CAS || ptx_bind(d, &i->c, &o[returns + 2], i->width, false));
}
