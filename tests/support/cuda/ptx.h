/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptx.h: reading PTX, shared by ptx_module.c (text to variables, kernels, statements),
 * ptx_operands.c (operands and their places), ptx_decode.c (statements to instructions),
 * ptx_registers.c (places of registers) and the op_*.c files that decode their own families.
 */
#ifndef TEST_PTX_H
#define TEST_PTX_H

#include "sim.h"

/* One statement of a body, without the semicolon. */
typedef struct ptx_statement {
    const char *begin, *end;
    u32 line, scope;
} ptx_statement;

typedef struct ptx_name { /* a label, or registers declared together */
    const char *name;
    u32 length, scope;
    u32 first; /* label: its instruction; registers: number of the first */
    u32 count; /* registers: of %r<count>; 0: one register with exactly this name */
    u8 bytes;  /* registers: 0 predicate, 2, 4 or 8 */
} ptx_name;

typedef enum ptx_kind {
    OPERAND_REGISTER,
    OPERAND_SPECIAL,
    OPERAND_IMMEDIATE,
    OPERAND_VARIABLE,
    OPERAND_NAME, /* a label or something unknown */
    OPERAND_VECTOR,
    OPERAND_ADDRESS, /* base in part[0], displacement in value; coordinates in part[1] */
    OPERAND_SINK     /* _ */
} ptx_kind;

typedef struct ptx_operand ptx_operand;
struct ptx_operand {
    ptx_kind kind;
    const char *text;
    u32 length;
    u32 number;    /* register or special */
    s32 second;    /* p|q: the predicate behind the bar; -1 none, -2 the sink */
    u8 bytes;      /* of a register; 0 a predicate */
    bool negated;  /* !p */
    bool is_float; /* an immediate written as 0f, 0d or with a point */
    u64 value;     /* immediate: bits (a float's: of a double); displacement */
    const sim_variable *variable;
    ptx_operand *part;
    u32 parts;
};

enum { MAX_WORDS = 20, MAX_OPERANDS = 16, MAX_PARTS = 700 };

/* Where a register is named: a field of an instruction or an entry of kernel->list. */
typedef struct ptx_reference {
    u32 insn, where, number;
    bool in_list, defines;
} ptx_reference;

typedef struct ptx_decoder {
    sim_module *module;
    sim_kernel *k;
    ptx_statement *statement;
    u32 statements, statements_room;
    ptx_name *label, *names;
    u32 labels, labels_room, names_count, names_room;
    u32 *parent; /* of each scope */
    u32 scopes, scopes_room;
    u32 registers, predicates; /* numbers given out; predicate 0 is always true */
    u32 carry;                 /* the predicate that holds the carry; 0: none yet */
    u8 *register_bytes;
    u32 register_bytes_room;
    ptx_reference *reference;
    u32 references, references_room, code_room;
    /* the statement being decoded */
    const ptx_statement *now;
    char opcode[128]; /* without the guard */
    char word_text[128];
    const char *word[MAX_WORDS];
    u32 words;
    ptx_operand operand[MAX_OPERANDS];
    u32 operands;
    ptx_operand part[MAX_PARTS];
    u32 parts;
    sim_insn insn;
    bool failed;
    char reason[160];
} ptx_decoder;

/* The statement can't be executed; the sentence says why. Returns false. */
bool ptx_refuse(ptx_decoder *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Opcode: words between the points, the base first. */
bool ptx_has(const ptx_decoder *d, const char *word);
bool ptx_starts(const ptx_decoder *d, const char *prefix); /* opcode */
/* Bytes of a type such as f32 (predicates and unknown words: 0). */
u32 ptx_type_bytes(const char *type);
/* The last word that is a type, or NULL. */
const char *ptx_type(const ptx_decoder *d);

/* Splits and reads the operands of d->now (ptx_operands.c). */
bool ptx_read_statement(ptx_decoder *d);

/* Binds operands to fields of d->insn or to new entries of kernel->list. `bytes`: 2, 4 or 8, the
 * width at which an immediate is taken. */
bool ptx_bind(ptx_decoder *d, u32 *field, const ptx_operand *o, u32 bytes, bool defines);
bool ptx_bind_list(ptx_decoder *d, const ptx_operand *o, u32 bytes, bool defines);
bool ptx_bind_predicate(ptx_decoder *d, u32 *field, const ptx_operand *o, bool defines);
/* An address operand: base to field a, displacement to imm; says the space of a variable. */
bool ptx_bind_address(ptx_decoder *d, u32 *field, s64 *imm, const ptx_operand *o);
u32 ptx_constant(sim_kernel *k, u64 value, u32 bytes);
/* Starts a list for d->insn at the end of kernel->list. */
void ptx_begin_list(ptx_decoder *d);

/* Declarations in a body or a module (ptx_module.c). */
bool ptx_parse_variable(const char *s, const char *end, sim_variable *v);
const char *ptx_skip(const char *s, const char *end); /* white space */
bool ptx_word_is(const char *s, const char *end, const char *word);
u32 ptx_identifier(const char *s, const char *end); /* its length */
bool ptx_number(const char **s, const char *end, u64 *value, bool *is_float);

/* Gives registers places and rewrites the references (ptx_registers.c). */
void ptx_place_registers(ptx_decoder *d);

/* One row of an opcode table: names as PTX writes them, divided by blanks; the handler; operands,
 * destination first: w 32 bits, h 16, x 64, p predicate. */
typedef struct ptx_row {
    const char *names;
    sim_handler *run;
    const char *operands;
} ptx_row;
bool ptx_decode_row(ptx_decoder *d, const ptx_row *row);
bool ptx_names_match(const char *names, const char *opcode);

/* Each family: rows for simple instructions, a function for those with many modifiers. */
extern const ptx_row op_int_rows[], op_float_rows[];
bool op_half_decode(ptx_decoder *d);
bool op_int_decode(ptx_decoder *d);       /* lop3, prmt, bfi, carries */
bool op_predicate_decode(ptx_decoder *d); /* setp, set, selp, slct, logic of predicates */
bool op_move_decode(ptx_decoder *d);      /* mov, cvta, isspacep, mapa */
bool op_approx_decode(ptx_decoder *d);
bool op_round_decode(ptx_decoder *d); /* f32 and f64 with other roundings, ftz, sat */
bool op_cvt_decode(ptx_decoder *d);
bool op_memory_decode(ptx_decoder *d); /* ld, st, prefetch */
bool op_atomic_decode(ptx_decoder *d);
bool op_warp_decode(ptx_decoder *d);    /* shfl, vote, match, redux, activemask, elect */
bool op_control_decode(ptx_decoder *d); /* bra, exit, barriers, fences */
/* Where an instruction may go: how many targets, and whether behind itself. */
u32 op_control_next(const sim_kernel *k, const sim_insn *i, const u32 **targets, bool *next);
bool op_matrix_decode(ptx_decoder *d); /* ldmatrix, stmatrix, movmatrix */
bool op_mma_decode(ptx_decoder *d);
bool op_async_decode(ptx_decoder *d);
bool op_mbarrier_decode(ptx_decoder *d);
bool op_bulk_decode(ptx_decoder *d);
bool op_wgmma_decode(ptx_decoder *d);

#endif
