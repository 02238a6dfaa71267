/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptx_decode.c: a kernel's body to instructions.
 *
 * Called when a kernel is first asked for. The body is split into statements, with scopes for the
 * registers and labels of inline assembly; each statement is given to the table rows and then to
 * the families. What none of them knows makes the kernel unusable, with a finding that names the
 * opcode: an instruction is never skipped.
 */
#include "ptx.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool ptx_names_match(const char *names, const char *opcode) {
    size_t n = strlen(opcode);
    for (const char *s = names; (s = strstr(s, opcode)) != NULL; s += n)
        if ((s == names || s[-1] == ' ') && (s[n] == 0 || s[n] == ' '))
            return true;
    return false;
}

bool ptx_decode_row(ptx_decoder *d, const ptx_row *row) {
    u32 *field[] = {&d->insn.d, &d->insn.a, &d->insn.b, &d->insn.c};
    u32 n = (u32)strlen(row->operands);
    if (d->operands != n)
        return ptx_refuse(d, "%u operands instead of %u", d->operands, n);
    for (u32 i = 0; i < n; ++i) {
        char c = row->operands[i];
        bool good = c == 'p' ? ptx_bind_predicate(d, field[i], &d->operand[i], i == 0)
                             : ptx_bind(d, field[i], &d->operand[i],
                                        c == 'x'   ? 8
                                        : c == 'h' ? 2
                                                   : 4,
                                        i == 0);
        if (!good)
            return false;
    }
    d->insn.run = row->run;
    return true;
}

static const ptx_row *find_row(const char *opcode) {
    const ptx_row *tables[] = {op_int_rows, op_float_rows};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; ++t)
        for (const ptx_row *r = tables[t]; r->names; ++r)
            if (ptx_names_match(r->names, opcode))
                return r;
    return NULL;
}

static bool decode_instruction(ptx_decoder *d) {
    const ptx_row *row = find_row(d->opcode);
    if (row)
        return ptx_decode_row(d, row);
    static bool (*const family[])(ptx_decoder *) = {
        op_int_decode,       op_half_decode,    op_move_decode,     op_memory_decode,
        op_predicate_decode, op_control_decode, op_cvt_decode,      op_mma_decode,
        op_matrix_decode,    op_async_decode,   op_warp_decode,     op_atomic_decode,
        op_approx_decode,    op_round_decode,   op_mbarrier_decode, op_bulk_decode,
        op_wgmma_decode};
    for (size_t f = 0; f < sizeof family / sizeof *family; ++f) {
        if (family[f](d) && d->insn.run)
            return true;
        if (d->failed)
            return false;
    }
    return ptx_refuse(d, "no such opcode here");
}

/* ".reg .b32 %r<10>, a;" */
static bool declare_registers(ptx_decoder *d, const char *s, const char *end, u32 scope) {
    s = ptx_skip(s, end);
    char type[16] = {0};
    if (s < end && *s == '.') {
        u32 n = ptx_identifier(s + 1, end);
        memcpy(type, s + 1, n < 15 ? n : 15);
        s += 1 + n;
    }
    bool predicate = strcmp(type, "pred") == 0;
    u32 bytes = predicate ? 0 : ptx_type_bytes(type);
    if ((bytes == 0 && !predicate) || bytes == 16)
        return ptx_refuse(d, "registers of type %s", type);
    bytes = bytes == 1 ? 2 : bytes; /* .b8 ones are 16 bits wide */
    while ((s = ptx_skip(s, end)) < end) {
        u32 n = ptx_identifier(s, end);
        if (n == 0)
            return ptx_refuse(d, "a declaration that can't be read");
        ptx_name r = {s, n, scope, 0, 0, (u8)bytes};
        s = ptx_skip(s + n, end);
        u32 count = 1;
        if (s < end && *s == '<') {
            r.count = count = (u32)strtoul(s + 1, NULL, 10);
            s = memchr(s, '>', (size_t)(end - s));
            s = s ? s + 1 : end;
        }
        u32 *total = predicate ? &d->predicates : &d->registers;
        r.first = *total;
        *total += count;
        if (!predicate) {
            d->register_bytes =
                sim_grow(d->register_bytes, &d->register_bytes_room, d->registers + 1, 1);
            memset(d->register_bytes + r.first, (int)bytes, count);
        }
        d->names = sim_grow(d->names, &d->names_room, d->names_count + 1, sizeof *d->names);
        d->names[d->names_count++] = r;
        s = ptx_skip(s, end);
        if (s < end && *s == ',')
            ++s;
    }
    return true;
}

static bool declare_variable(ptx_decoder *d, const char *s, const char *end, u32 *room) {
    sim_kernel *k = d->k;
    k->variable = sim_grow(k->variable, room, k->variables + 1, sizeof *k->variable);
    sim_variable *v = &k->variable[k->variables];
    if (!ptx_parse_variable(s, end, v))
        return ptx_refuse(d, "a variable that can't be read");
    ++k->variables;
    if (v->space == SPACE_LOCAL) {
        k->local_bytes = (k->local_bytes + v->align - 1) / v->align * v->align;
        v->address = k->local_bytes;
        k->local_bytes += v->bytes;
    } else if (v->space != SPACE_SHARED)
        return ptx_refuse(d, "a variable of this space inside a kernel");
    return true;
}

static void add_label(ptx_decoder *d, const char *s, u32 n, u32 scope) {
    d->label = sim_grow(d->label, &d->labels_room, d->labels + 1, sizeof *d->label);
    d->label[d->labels++] = (ptx_name){s, n, scope, d->statements, 0, 0};
}

/* A directive or an instruction between two semicolons. */
static bool take_statement(ptx_decoder *d, const char *s, const char *end, u32 line, u32 scope,
                           u32 *room) {
    if (ptx_word_is(s, end, ".reg"))
        return declare_registers(d, s + 4, end, scope);
    if (ptx_word_is(s, end, ".pragma"))
        return true;
    if (*s == '.' && !ptx_word_is(s, end, ".branchtargets"))
        return declare_variable(d, s, end, room);
    d->statement =
        sim_grow(d->statement, &d->statements_room, d->statements + 1, sizeof *d->statement);
    d->statement[d->statements++] = (ptx_statement){s, end, line, scope};
    return true;
}

static const char *behind_statement(const char *s, const char *end) {
    while (s < end && *s != ';')
        ++s;
    return s;
}

/* Statements, scopes, labels. Statements and instructions correspond one to one. */
static bool split(ptx_decoder *d) {
    const char *s = d->k->begin, *end = d->k->end;
    u32 line = 1, scope = 0, room = 0;
    for (const char *t = d->k->text; t < s; ++t)
        line += *t == '\n';
    d->parent = sim_grow(d->parent, &d->scopes_room, 1, sizeof(u32));
    d->scopes = 1;
    for (;;) {
        for (; s < end && isspace((unsigned char)*s); ++s)
            line += *s == '\n';
        if (s == end)
            return true;
        if (*s == '{') {
            d->parent = sim_grow(d->parent, &d->scopes_room, d->scopes + 1, sizeof(u32));
            d->parent[d->scopes] = scope;
            scope = d->scopes++;
            ++s;
        } else if (*s == '}') {
            scope = d->parent[scope];
            ++s;
        } else if (*s == ';')
            ++s;
        else if (ptx_word_is(s, end, ".loc")) {
            while (s < end && *s != '\n')
                ++s;
        } else {
            u32 n = ptx_identifier(s, end);
            const char *t = ptx_skip(s + n, end);
            if (n > 0 && t < end && *t == ':' && (t + 1 == end || t[1] != ':')) {
                add_label(d, s, n, scope);
                s = t + 1;
                continue;
            }
            const char *stop = behind_statement(s, end);
            if (!take_statement(d, s, stop, line, scope, &room))
                return false;
            for (; s < stop; ++s)
                line += *s == '\n';
        }
    }
}

static bool find_label(const ptx_decoder *d, const ptx_operand *o, u32 scope, u32 *target) {
    for (;; scope = d->parent[scope]) {
        for (u32 i = 0; i < d->labels; ++i)
            if (d->label[i].scope == scope && d->label[i].length == o->length &&
                memcmp(d->label[i].name, o->text, o->length) == 0) {
                *target = d->label[i].first;
                return true;
            }
        if (scope == 0)
            return false;
    }
}

/* Shared variables of the kernel and those of the module that it names get their offsets; the
 * dynamic part lies behind, at a multiple of its declared alignment and of nothing larger: hardware
 * promises no more. */
static void place_shared(sim_kernel *k) {
    size_t at = 0, dynamic_align = 1;
    struct {
        sim_variable *v;
        u32 n;
    } table[2] = {{k->variable, k->variables}, {k->module->variable, k->module->variables}};
    for (int t = 0; t < 2; ++t)
        for (u32 i = 0; i < table[t].n; ++i) {
            sim_variable *v = &table[t].v[i];
            if (v->space != SPACE_SHARED)
                continue;
            if (v->external) {
                dynamic_align = v->align > dynamic_align ? v->align : dynamic_align;
                k->uses_dynamic = true;
                continue;
            }
            if (t == 1) { /* used by this kernel? */
                const char *s = k->begin;
                size_t n = strlen(v->name);
                while ((s = strstr(s, v->name)) && s < k->end && ptx_identifier(s, k->end) != n)
                    s += n;
                if (!s || s >= k->end)
                    continue;
            }
            at = (at + v->align - 1) / v->align * v->align;
            v->address = at;
            at += v->bytes;
        }
    k->shared_static = at;
    if (k->uses_dynamic) {
        at = (at + dynamic_align - 1) / dynamic_align * dynamic_align;
        if (at % (2 * dynamic_align) == 0)
            at += dynamic_align;
        k->shared_align = at; /* where it starts */
        for (int t = 0; t < 2; ++t)
            for (u32 i = 0; i < table[t].n; ++i)
                if (table[t].v[i].space == SPACE_SHARED && table[t].v[i].external)
                    table[t].v[i].address = at;
    } else
        k->shared_align = at;
}

static bool decode_statement(ptx_decoder *d) {
    if (*d->now->begin == '.') { /* .branchtargets: only read by brx.idx */
        memset(&d->insn, 0, sizeof d->insn);
        d->insn.target = UINT32_MAX;
        d->insn.line = d->now->line;
        strcpy(d->opcode, ".branchtargets");
        return op_control_decode(d);
    }
    if (!ptx_read_statement(d) || !decode_instruction(d))
        return false;
    if (strcmp(d->word[0], "bra") == 0 &&
        !find_label(d, &d->operand[0], d->now->scope, &d->insn.target))
        return ptx_refuse(d, "a label that isn't there");
    return true;
}

static void free_decoder(ptx_decoder *d) {
    free(d->statement);
    free(d->label);
    free(d->names);
    free(d->parent);
    free(d->register_bytes);
    free(d->reference);
    free(d);
}

bool sim_kernel_decode(sim_kernel *k) {
    if (k->decoded)
        return !k->broken;
    k->decoded = true;
    k->shared_granule = 2; /* smaller stores make it finer */
    ptx_decoder *d = sim_alloc(sizeof *d);
    d->k = k;
    d->module = k->module;
    d->predicates = 1;
    bool good = split(d);
    place_shared(k);
    for (u32 i = 0; good && i < d->statements; ++i) {
        d->now = &d->statement[i];
        good = decode_statement(d);
        if (good) {
            k->code = sim_grow(k->code, &d->code_room, k->length + 1, sizeof *k->code);
            k->code[k->length++] = d->insn;
        }
    }
    if (good) {
        k->predicates = d->predicates;
        k->reached = sim_alloc(k->length * sizeof *k->reached);
        ptx_place_registers(d);
    } else {
        const ptx_statement *s = d->now;
        sim_find_ptx(STANDIN_UNKNOWN, k->name, s ? s->line : 0, "%s: %.*s", d->reason,
                     s ? (int)(s->end - s->begin) : 0, s ? s->begin : "");
        k->broken = true;
    }
    free_decoder(d);
    return good;
}
