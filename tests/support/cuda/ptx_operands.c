/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptx_operands.c: the words of an opcode, the operands behind it, and their places.
 *
 * Called for each statement of a kernel that is decoded. Registers get numbers here, and places
 * once the whole kernel is known (ptx_registers.c); immediates become constants of the kernel,
 * repeated for 32 lanes, so that handlers needn't tell them from registers.
 */
#include "ptx.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool ptx_refuse(ptx_decoder *d, const char *format, ...) {
    if (!d->failed) {
        va_list args;
        va_start(args, format);
        vsnprintf(d->reason, sizeof d->reason, format, args);
        va_end(args);
    }
    d->failed = true;
    return false;
}

bool ptx_has(const ptx_decoder *d, const char *word) {
    for (u32 i = 1; i < d->words; ++i)
        if (strcmp(d->word[i], word) == 0)
            return true;
    return false;
}

bool ptx_starts(const ptx_decoder *d, const char *prefix) {
    return strncmp(d->opcode, prefix, strlen(prefix)) == 0;
}

const char *ptx_type(const ptx_decoder *d) {
    for (u32 i = d->words; i-- > 1;)
        if (ptx_type_bytes(d->word[i]) || strcmp(d->word[i], "pred") == 0)
            return d->word[i];
    return NULL;
}

static const struct {
    const char *name;
    u32 slot;
} specials[] = {
    {"%tid.x", SR_TID_X},
    {"%tid.y", SR_TID_Y},
    {"%tid.z", SR_TID_Z},
    {"%ntid.x", SR_NTID_X},
    {"%ntid.y", SR_NTID_Y},
    {"%ntid.z", SR_NTID_Z},
    {"%ctaid.x", SR_CTAID_X},
    {"%ctaid.y", SR_CTAID_Y},
    {"%ctaid.z", SR_CTAID_Z},
    {"%nctaid.x", SR_NCTAID_X},
    {"%nctaid.y", SR_NCTAID_Y},
    {"%nctaid.z", SR_NCTAID_Z},
    {"%laneid", SR_LANEID},
    {"%warpid", SR_WARPID},
    {"%nwarpid", SR_NWARPID},
    {"%smid", SR_SMID},
    {"%nsmid", SR_NSMID},
    {"%gridid", SR_GRIDID},
    {"%lanemask_eq", SR_MASK_EQ},
    {"%lanemask_lt", SR_MASK_LT},
    {"%lanemask_le", SR_MASK_LE},
    {"%lanemask_gt", SR_MASK_GT},
    {"%lanemask_ge", SR_MASK_GE},
    {"%dynamic_smem_size", SR_DYNAMIC_SMEM},
    {"%total_smem_size", SR_TOTAL_SMEM},
    {"%clusterid.x", SR_CLUSTERID_X},
    {"%clusterid.y", SR_CLUSTERID_Y},
    {"%clusterid.z", SR_CLUSTERID_Z},
    {"%nclusterid.x", SR_NCLUSTERID_X},
    {"%nclusterid.y", SR_NCLUSTERID_Y},
    {"%nclusterid.z", SR_NCLUSTERID_Z},
    {"%cluster_ctaid.x", SR_CLUSTER_CTAID_X},
    {"%cluster_ctaid.y", SR_CLUSTER_CTAID_Y},
    {"%cluster_ctaid.z", SR_CLUSTER_CTAID_Z},
    {"%cluster_nctaid.x", SR_CLUSTER_NCTAID_X},
    {"%cluster_nctaid.y", SR_CLUSTER_NCTAID_Y},
    {"%cluster_nctaid.z", SR_CLUSTER_NCTAID_Z},
    {"%cluster_ctarank", SR_CLUSTER_CTARANK},
    {"%cluster_nctarank", SR_CLUSTER_NCTARANK},
    {"%is_explicit_cluster", SR_EXPLICIT_CLUSTER},
};

/* Inner scopes hide outer ones: the nearest declaration counts. */
static const ptx_name *find_register(const ptx_decoder *d, const char *s, u32 n, u32 *number) {
    u32 digits = n;
    while (digits > 0 && isdigit((unsigned char)s[digits - 1]))
        --digits;
    u32 index = digits < n ? (u32)strtoul(s + digits, NULL, 10) : 0;
    for (u32 scope = d->now->scope;; scope = d->parent[scope]) {
        for (u32 i = d->names_count; i-- > 0;) {
            const ptx_name *r = &d->names[i];
            if (r->scope != scope)
                continue;
            if (r->count == 0 && r->length == n && memcmp(r->name, s, n) == 0) {
                *number = r->first;
                return r;
            }
            if (r->count > index && r->length == digits && digits < n &&
                memcmp(r->name, s, digits) == 0) {
                *number = r->first + index;
                return r;
            }
        }
        if (scope == 0)
            return NULL;
    }
}

static const sim_variable *find_variable(const ptx_decoder *d, const char *s, u32 n) {
    const struct {
        const sim_variable *v;
        u32 count;
    } tables[] = {{d->k->variable, d->k->variables},
                  {d->k->parameter, d->k->parameters},
                  {d->module->variable, d->module->variables}};
    for (int t = 0; t < 3; ++t)
        for (u32 i = 0; i < tables[t].count; ++i)
            if (strlen(tables[t].v[i].name) == n && memcmp(tables[t].v[i].name, s, n) == 0)
                return &tables[t].v[i];
    return NULL;
}

static bool read_operand(ptx_decoder *d, const char **text, const char *end, ptx_operand *o);

static ptx_operand *new_parts(ptx_decoder *d, u32 n) {
    if (d->parts + n > MAX_PARTS)
        return NULL;
    ptx_operand *first = &d->part[d->parts];
    d->parts += n;
    return first;
}

/* {a, b, …}; `s` behind the brace. Parts lie one after the other. */
static bool read_vector(ptx_decoder *d, const char **text, const char *end, ptx_operand *o) {
    o->kind = OPERAND_VECTOR;
    o->part = &d->part[d->parts];
    const char *s = *text;
    while ((s = ptx_skip(s, end)) < end && *s != '}') {
        ptx_operand *part = new_parts(d, 1);
        if (!part || !read_operand(d, &s, end, part))
            return ptx_refuse(d, "a vector operand that can't be read");
        if (part != o->part + o->parts)
            return ptx_refuse(d, "vectors inside vectors");
        ++o->parts;
        s = ptx_skip(s, end);
        if (s < end && *s == ',')
            ++s;
    }
    *text = s < end ? s + 1 : s;
    return true;
}

/* [base], [base+n], [n], [base, {coordinates}]; `s` behind the bracket */
static bool read_address(ptx_decoder *d, const char **text, const char *end, ptx_operand *o) {
    o->kind = OPERAND_ADDRESS;
    o->part = new_parts(d, 2);
    const char *s = *text;
    if (!o->part || !read_operand(d, &s, end, &o->part[0]))
        return ptx_refuse(d, "an address that can't be read");
    o->parts = 1;
    s = ptx_skip(s, end);
    if (s < end && (*s == '+' || *s == '-')) {
        bool minus = *s == '-', f;
        s = ptx_skip(s + 1, end);
        if (!ptx_number(&s, end, &o->value, &f))
            return ptx_refuse(d, "a displacement that can't be read");
        if (minus)
            o->value = 0 - o->value;
        s = ptx_skip(s, end);
    }
    if (s < end && *s == ',') {
        s = ptx_skip(s + 1, end);
        if (!read_operand(d, &s, end, &o->part[1]))
            return false;
        o->parts = 2;
        s = ptx_skip(s, end);
    }
    if (s == end || *s != ']')
        return ptx_refuse(d, "an address without its bracket");
    *text = s + 1;
    return true;
}

static bool read_name(ptx_decoder *d, const char **text, const char *end, ptx_operand *o) {
    const char *s = *text;
    u32 n = ptx_identifier(s, end);
    if (n == 0)
        return ptx_refuse(d, "an operand that can't be read: %.20s", s);
    o->text = s;
    u32 with_point = n;
    if (s[0] == '%' && s + n < end && s[n] == '.')
        with_point = n + 1 + ptx_identifier(s + n + 1, end);
    for (size_t i = 0; i < sizeof specials / sizeof *specials; ++i)
        if (strlen(specials[i].name) == with_point &&
            memcmp(specials[i].name, s, with_point) == 0) {
            o->kind = OPERAND_SPECIAL;
            o->number = specials[i].slot;
            o->bytes = 4;
            o->length = with_point;
            *text = s + with_point;
            return true;
        }
    o->length = n;
    *text = s + n;
    const ptx_name *r = find_register(d, s, n, &o->number);
    if (n == 1 && *s == '_')
        o->kind = OPERAND_SINK;
    else if (r) {
        o->kind = OPERAND_REGISTER;
        o->bytes = r->bytes;
    } else if (n == 7 && memcmp(s, "WARP_SZ", 7) == 0) {
        o->kind = OPERAND_IMMEDIATE;
        o->value = LANES;
    } else {
        o->variable = find_variable(d, s, n);
        o->kind = o->variable ? OPERAND_VARIABLE : OPERAND_NAME;
    }
    return true;
}

static bool read_operand(ptx_decoder *d, const char **text, const char *end, ptx_operand *o) {
    memset(o, 0, sizeof *o);
    o->second = -1;
    const char *s = ptx_skip(*text, end);
    if (s < end && *s == '!') {
        o->negated = true;
        s = ptx_skip(s + 1, end);
    }
    if (s == end)
        return ptx_refuse(d, "an operand is missing");
    bool good;
    if (*s == '{') {
        ++s;
        good = read_vector(d, &s, end, o);
    } else if (*s == '[') {
        ++s;
        good = read_address(d, &s, end, o);
    } else if (isdigit((unsigned char)*s) || *s == '-') {
        o->kind = OPERAND_IMMEDIATE;
        good = ptx_number(&s, end, &o->value, &o->is_float);
    } else
        good = read_name(d, &s, end, o);
    if (!good)
        return ptx_refuse(d, "an operand that can't be read: %.20s", s);
    const char *t = ptx_skip(s, end);
    if (t < end && *t == '|') {
        ptx_operand other;
        ++t;
        if (!read_operand(d, &t, end, &other))
            return false;
        o->second = other.kind == OPERAND_REGISTER ? (s32)other.number : -2;
        s = t;
    } else if (t < end && *t == '+' && o->kind == OPERAND_VARIABLE) { /* mov %r, variable+8 */
        bool f;
        ++t;
        t = ptx_skip(t, end);
        if (!ptx_number(&t, end, &o->value, &f))
            return false;
        s = t;
    }
    *text = s;
    return true;
}

static bool read_guard(ptx_decoder *d, const char **text, const char *end) {
    const char *s = *text;
    if (s == end || *s != '@')
        return true;
    ++s;
    d->insn.guard_flip = *s == '!';
    s = ptx_skip(s + d->insn.guard_flip, end);
    ptx_operand p = {0};
    if (!read_name(d, &s, end, &p) || p.kind != OPERAND_REGISTER || p.bytes != 0)
        return ptx_refuse(d, "the guard is no predicate");
    d->insn.guard = (u16)p.number;
    *text = ptx_skip(s, end);
    return true;
}

bool ptx_read_statement(ptx_decoder *d) {
    const char *s = d->now->begin, *end = d->now->end;
    memset(&d->insn, 0, sizeof d->insn);
    d->insn.d = d->insn.a = d->insn.b = d->insn.c = PLACE_NONE;
    d->insn.line = d->now->line;
    d->insn.target = UINT32_MAX;
    d->operands = d->parts = d->words = 0;
    if (!read_guard(d, &s, end))
        return false;
    u32 n = 0;
    while (s < end && !isspace((unsigned char)*s) && n < sizeof d->opcode - 1)
        d->opcode[n++] = *s++;
    d->opcode[n] = 0;
    memcpy(d->word_text, d->opcode, n + 1u);
    for (char *t = d->word_text; t && d->words < MAX_WORDS;) {
        d->word[d->words++] = t;
        t = strchr(t, '.');
        if (t)
            *t++ = 0;
    }
    while ((s = ptx_skip(s, end)) < end) {
        if (d->operands == MAX_OPERANDS)
            return ptx_refuse(d, "more operands than any instruction has");
        if (!read_operand(d, &s, end, &d->operand[d->operands++]))
            return false;
        s = ptx_skip(s, end);
        if (s < end && *s != ',')
            return ptx_refuse(d, "a comma is missing");
        if (s < end)
            ++s;
    }
    return true;
}

/* Constants are few: looked up one after the other. */
u32 ptx_constant(sim_kernel *k, u64 value, u32 bytes) {
    u32 words = bytes == 8 ? 2 * LANES : LANES;
    if (bytes == 2)
        value &= 0xffff;
    if (bytes < 8)
        value &= 0xffffffff;
    for (u32 at = 0; at + words <= k->constants_words; at += 2 * LANES)
        if (bytes == 8 ? (k->constants[at] == (u32)value && k->constants[at + 1] == value >> 32 &&
                          k->constants[at + 2 * LANES - 1] == value >> 32)
                       : (k->constants[at] == value && k->constants[at + 1] == value))
            return at | PLACE_CONSTANT;
    u32 at = k->constants_words;
    k->constants = sim_grow(k->constants, &k->constants_room, at + 2 * LANES, sizeof(u32));
    for (u32 l = 0; l < LANES; ++l) {
        if (bytes == 8) {
            k->constants[at + 2 * l] = (u32)value;
            k->constants[at + 2 * l + 1] = (u32)(value >> 32);
        } else
            k->constants[at + l] = (u32)value;
    }
    if (bytes != 8) /* the second half is unused: never mistaken for a 64-bit constant */
        for (u32 l = LANES; l < 2 * LANES; ++l)
            k->constants[at + l] = ~(u32)value;
    k->constants_words = at + 2 * LANES;
    return at | PLACE_CONSTANT;
}

static void refer(ptx_decoder *d, u32 where, bool in_list, u32 number, bool defines) {
    d->reference =
        sim_grow(d->reference, &d->references_room, d->references + 1, sizeof *d->reference);
    d->reference[d->references++] = (ptx_reference){d->k->length, where, number, in_list, defines};
}

/* Where an operand lies: a register's number (to be referred to), or a place. */
static bool locate(ptx_decoder *d, const ptx_operand *o, u32 bytes, bool defines, u32 *place,
                   bool *is_register) {
    *is_register = false;
    u64 value = o->value;
    switch (o->kind) {
    case OPERAND_REGISTER:
        if (o->bytes == 0)
            return ptx_refuse(d, "a predicate where a value is expected");
        if ((bytes == 8) != (o->bytes == 8))
            return ptx_refuse(d, "a register of %u bytes where %u are expected", o->bytes, bytes);
        *is_register = true;
        *place = o->number;
        return true;
    case OPERAND_SPECIAL:
        *place = o->number * LANES;
        return !defines && bytes != 8 ? true : ptx_refuse(d, "a special register of that width");
    case OPERAND_SINK:
        *place = PLACE_NONE;
        return defines ? true : ptx_refuse(d, "_ as a source");
    case OPERAND_VARIABLE:
        *place = ptx_constant(d->k, o->variable->address + o->value, bytes);
        return !defines;
    case OPERAND_IMMEDIATE:
        if (o->is_float && bytes == 4) {
            double x;
            memcpy(&x, &value, 8);
            float f = (float)x;
            u32 bits;
            memcpy(&bits, &f, 4);
            value = bits;
        }
        *place = ptx_constant(d->k, value, bytes);
        return !defines;
    default:
        return ptx_refuse(d, "an operand of another kind than expected: %.*s", (int)o->length,
                          o->text ? o->text : "");
    }
}

bool ptx_bind(ptx_decoder *d, u32 *field, const ptx_operand *o, u32 bytes, bool defines) {
    bool is_register;
    u32 place = PLACE_NONE;
    if (!locate(d, o, bytes, defines, &place, &is_register))
        return ptx_refuse(d, "an operand of another kind than expected");
    *field = place;
    if (is_register)
        refer(d, (u32)((char *)field - (char *)&d->insn), false, place, defines);
    return true;
}

void ptx_begin_list(ptx_decoder *d) {
    d->insn.list = d->k->list_length;
}

bool ptx_bind_list(ptx_decoder *d, const ptx_operand *o, u32 bytes, bool defines) {
    bool is_register;
    u32 place = PLACE_NONE;
    if (!locate(d, o, bytes, defines, &place, &is_register))
        return ptx_refuse(d, "an operand of another kind than expected");
    sim_kernel *k = d->k;
    k->list = sim_grow(k->list, &k->list_room, k->list_length + 1, sizeof(u32));
    k->list[k->list_length] = place;
    if (is_register)
        refer(d, k->list_length, true, place, defines);
    ++k->list_length;
    return true;
}

bool ptx_bind_predicate(ptx_decoder *d, u32 *field, const ptx_operand *o, bool defines) {
    if (o->kind == OPERAND_SINK && defines) {
        *field = PLACE_NONE;
        return true;
    }
    if (o->kind != OPERAND_REGISTER || o->bytes != 0)
        return ptx_refuse(d, "no predicate where one is expected");
    *field = o->number;
    return true;
}

bool ptx_bind_address(ptx_decoder *d, u32 *field, s64 *imm, const ptx_operand *o) {
    if (o->kind != OPERAND_ADDRESS)
        return ptx_refuse(d, "no address where one is expected");
    const ptx_operand *base = &o->part[0];
    *imm = (s64)o->value;
    if (base->kind == OPERAND_REGISTER) {
        d->insn.flags |= base->bytes == 8 ? 0x80 : 0; /* ADDRESS_WIDE */
        return ptx_bind(d, field, base, base->bytes, false);
    }
    u64 address = base->value;
    if (base->kind == OPERAND_VARIABLE) {
        address += base->variable->address;
        if (d->insn.space == SPACE_GENERIC) /* a variable names its space */
            d->insn.space = (u8)base->variable->space;
    } else if (base->kind != OPERAND_IMMEDIATE)
        return ptx_refuse(d, "an address of another kind than expected: %.*s", (int)base->length,
                          base->text ? base->text : "");
    d->insn.flags |= 0x80;
    *field = ptx_constant(d->k, address, 8);
    return true;
}
