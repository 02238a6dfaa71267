/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_warp.c: instructions in which lanes of a warp see each other: shfl, vote, match, redux,
 * activemask, elect (PTX ISA, "Parallel synchronization and communication").
 *
 * Each waits for the lanes of its member mask (sim_need_lanes). A lane that isn't in its own mask,
 * or a source lane outside it, is a finding: hardware then gives anything, so poison is given here.
 */
#include "op_lanes.h"
#include "ptx.h"

enum { SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX };
enum { POISON = 0xffffffff };

/* Lanes that m's lanes name as members; those lanes must name themselves. */
static sim_step gather(sim_warp *w, const sim_insn *i, u32 m, u32 place, u32 *wanted) {
    const u32 *members = sim_words(w, place);
    *wanted = 0;
    EACH_LANE_OF(l, m) {
        *wanted |= members[l];
        if (!(members[l] & lane_bit[l]))
            sim_find(STANDIN_USAGE, w, i, (int)l, 0,
                     "a lane that its member mask 0x%08x leaves out", members[l]);
    }
    return sim_need_lanes(w, i, m, *wanted);
}

static u32 shuffle_source(u32 mode, u32 l, u32 b, u32 c, bool *inside) {
    u32 segment = c >> 8 & 31, clamp = c & 31, lowest = l & segment;
    u32 highest = lowest | (clamp & ~segment & 31);
    s32 j;
    switch (mode) {
    case SHFL_UP:
        j = (s32)l - (s32)(b & 31);
        *inside = j >= (s32)highest; /* for up, clamp is the lower end */
        return (u32)j & 31;
    case SHFL_DOWN:
        j = (s32)(l + (b & 31));
        break;
    case SHFL_BFLY:
        j = (s32)(l ^ (b & 31));
        break;
    default:
        j = (s32)(lowest | (b & 31 & ~segment));
        break;
    }
    *inside = j <= (s32)highest;
    return (u32)j & 31;
}

/* list: b, c, member mask */
static sim_step run_shfl(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *p = sim_list(w, i), *b = sim_words(w, p[0]), *c = sim_words(w, p[1]);
    const u32 *members = sim_words(w, p[2]);
    u32 wanted;
    sim_step s = gather(w, i, m, p[2], &wanted);
    if (s != STEP_NEXT)
        return s;
    u32 a[LANES], good = 0, *d = i->d == PLACE_NONE ? NULL : sim_words(w, i->d);
    memcpy(a, sim_words(w, i->a), sizeof a);
    EACH_LANE_OF(l, m) {
        bool inside;
        u32 from = shuffle_source(i->mode, l, b[l], c[l], &inside);
        good |= inside ? lane_bit[l] : 0;
        if (!inside)
            from = l;
        u32 value = a[from];
        if (!(members[l] & m & lane_bit[from])) {
            sim_find(STANDIN_USAGE, w, i, (int)l, 0,
                     "takes from lane %u, which doesn't take part (mask 0x%08x)", from, members[l]);
            value = POISON;
        }
        if (d)
            d[l] = value;
    }
    if (i->second)
        sim_set_predicate(w, i->second, m, good);
    return STEP_NEXT;
}

enum { VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT };
static sim_step run_vote(sim_warp *w, const sim_insn *i, u32 m) {
    u32 wanted;
    sim_step s = gather(w, i, m, i->b, &wanted);
    if (s != STEP_NEXT)
        return s;
    const u32 *members = sim_words(w, i->b);
    u32 p = i->a == PLACE_NONE ? (u32)i->imm : w->pred[i->a] ^ (0u - i->flags), r = 0;
    EACH_LANE_OF(l, m) {
        u32 yes = p & members[l] & m, all = members[l] & m;
        bool result = i->mode == VOTE_ALL   ? yes == all
                      : i->mode == VOTE_ANY ? yes != 0
                                            : yes == 0 || yes == all;
        if (i->mode == VOTE_BALLOT)
            sim_words(w, i->d)[l] = yes;
        else
            r |= result ? lane_bit[l] : 0;
    }
    if (i->mode != VOTE_BALLOT)
        sim_set_predicate(w, i->d, m, r);
    return STEP_NEXT;
}

/* match.any d, a, mask; match.all d|p, a, mask */
static sim_step run_match(sim_warp *w, const sim_insn *i, u32 m) {
    u32 wanted, good = 0;
    sim_step s = gather(w, i, m, i->b, &wanted);
    if (s != STEP_NEXT)
        return s;
    u64 value[LANES];
    EACH_LANE(l) value[l] = i->width == 8 ? sim_doubles(w, i->a)[l] : sim_words(w, i->a)[l];
    const u32 *members = sim_words(w, i->b);
    EACH_LANE_OF(l, m) {
        u32 same = 0;
        EACH_LANE_OF(k, members[l] & m) same |= value[k] == value[l] ? lane_bit[k] : 0;
        bool all = same == (members[l] & m);
        sim_words(w, i->d)[l] = i->mode == VOTE_ALL && !all ? 0 : same;
        good |= all ? lane_bit[l] : 0;
    }
    if (i->second)
        sim_set_predicate(w, i->second, m, good);
    return STEP_NEXT;
}

enum { REDUX_ADD, REDUX_MIN, REDUX_MAX, REDUX_AND, REDUX_OR, REDUX_XOR };
static u32 reduce(u32 op, u32 a, u32 b, bool is_signed) {
    bool less = is_signed ? (s32)a < (s32)b : a < b;
    switch (op) {
    case REDUX_ADD:
        return a + b;
    case REDUX_MIN:
        return less ? a : b;
    case REDUX_MAX:
        return less ? b : a;
    case REDUX_AND:
        return a & b;
    case REDUX_OR:
        return a | b;
    default:
        return a ^ b;
    }
}

static sim_step run_redux(sim_warp *w, const sim_insn *i, u32 m) {
    u32 wanted, result[LANES];
    sim_step s = gather(w, i, m, i->b, &wanted);
    if (s != STEP_NEXT)
        return s;
    const u32 *a = sim_words(w, i->a), *members = sim_words(w, i->b);
    EACH_LANE_OF(l, m) {
        bool first = true;
        result[l] = a[l];
        EACH_LANE_OF(k, members[l] & m) {
            result[l] = first ? a[k] : reduce(i->mode, result[l], a[k], i->type);
            first = false;
        }
    }
    EACH_LANE_OF(l, m) sim_words(w, i->d)[l] = result[l];
    return STEP_NEXT;
}

static sim_step run_activemask(sim_warp *w, const sim_insn *i, u32 m) {
    EACH_LANE_OF(l, m) sim_words(w, i->d)[l] = m;
    return STEP_NEXT;
}

/* elect.sync d|p, mask: one lane, which one is not said: any member, by the seed */
static sim_step run_elect(sim_warp *w, const sim_insn *i, u32 m) {
    u32 wanted;
    sim_step s = gather(w, i, m, i->a, &wanted);
    if (s != STEP_NEXT)
        return s;
    u32 all = sim_words(w, i->a)[__builtin_ctz(m)] & m, chosen = 0;
    u32 nth = (u32)(sim_seed_of(77) % (u64)__builtin_popcount(all));
    EACH_LANE_OF(l, all) if (nth-- == 0) chosen = l; /* the same lane each time */
    if (i->d != PLACE_NONE)
        EACH_LANE_OF(l, m) sim_words(w, i->d)[l] = chosen;
    sim_set_predicate(w, i->second, m, lane_bit[chosen]);
    return STEP_NEXT;
}

static int index_of(const ptx_decoder *d, const char *const *names, u32 n) {
    for (u32 k = 0; k < n; ++k)
        if (ptx_has(d, names[k]))
            return (int)k;
    return -1;
}

static bool decode_shfl(ptx_decoder *d) {
    static const char *const modes[] = {"up", "down", "bfly", "idx"};
    int mode = index_of(d, modes, 4);
    if (mode < 0 || !ptx_has(d, "sync") || d->operands != 5)
        return ptx_refuse(d, "this form of shfl");
    d->insn.mode = (u8)mode;
    d->insn.second = d->operand[0].second > 0 ? (u16)d->operand[0].second : 0;
    d->insn.run = run_shfl;
    if (!ptx_bind(d, &d->insn.d, &d->operand[0], 4, true) ||
        !ptx_bind(d, &d->insn.a, &d->operand[1], 4, false))
        return false;
    ptx_begin_list(d);
    for (u32 n = 2; n < 5; ++n)
        if (!ptx_bind_list(d, &d->operand[n], 4, false))
            return false;
    return true;
}

static bool decode_vote(ptx_decoder *d) {
    static const char *const modes[] = {"all", "any", "uni", "ballot"};
    sim_insn *i = &d->insn;
    int mode = index_of(d, modes, 4);
    if (mode < 0 || !ptx_has(d, "sync") || d->operands != 3)
        return ptx_refuse(d, "this form of vote");
    i->mode = (u8)mode;
    i->run = run_vote;
    i->flags = d->operand[1].negated;
    if (d->operand[1].kind == OPERAND_IMMEDIATE)
        i->imm = d->operand[1].value ? -1 : 0;
    else if (!ptx_bind_predicate(d, &i->a, &d->operand[1], false))
        return false;
    return (mode == VOTE_BALLOT ? ptx_bind(d, &i->d, &d->operand[0], 4, true)
                                : ptx_bind_predicate(d, &i->d, &d->operand[0], true)) &&
           ptx_bind(d, &i->b, &d->operand[2], 4, false);
}

static bool decode_reduction(ptx_decoder *d, const char *const *names, u32 n, sim_handler *run) {
    sim_insn *i = &d->insn;
    int mode = index_of(d, names, n);
    if (mode < 0 || !ptx_has(d, "sync") || d->operands != 3)
        return ptx_refuse(d, "this form of %s", d->word[0]);
    const char *type = d->word[d->words - 1];
    i->mode = (u8)mode;
    i->type = type[0] == 's';
    i->width = (u8)ptx_type_bytes(type);
    i->second = d->operand[0].second > 0 ? (u16)d->operand[0].second : 0;
    i->run = run;
    return ptx_bind(d, &i->d, &d->operand[0], 4, true) &&
           ptx_bind(d, &i->a, &d->operand[1], i->width, false) &&
           ptx_bind(d, &i->b, &d->operand[2], 4, false);
}

bool op_warp_decode(ptx_decoder *d) {
    static const char *const match[] = {"all", "any"};
    static const char *const redux[] = {"add", "min", "max", "and", "or", "xor"};
    const char *base = d->word[0];
    if (strcmp(base, "shfl") == 0)
        return decode_shfl(d);
    if (strcmp(base, "vote") == 0)
        return decode_vote(d);
    if (strcmp(base, "match") == 0)
        return decode_reduction(d, match, 2, run_match);
    if (strcmp(base, "redux") == 0 && d->word[d->words - 1][0] != 'f')
        return decode_reduction(d, redux, 6, run_redux);
    if (strcmp(base, "activemask") == 0) {
        d->insn.run = run_activemask;
        return ptx_bind(d, &d->insn.d, &d->operand[0], 4, true);
    }
    if (strcmp(base, "elect") == 0 && d->operands == 2 && d->operand[0].second >= 0) {
        d->insn.second = (u16)d->operand[0].second;
        d->insn.run = run_elect;
        return ptx_bind(d, &d->insn.d, &d->operand[0], 4, true) &&
               ptx_bind(d, &d->insn.a, &d->operand[1], 4, false);
    }
    return false;
}
