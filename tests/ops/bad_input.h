/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of bad input share: scenes (a legal descriptor with all its operands in one watched piece of memory) and cases (one thing
 * made wrong, and what must be said about it). Scenes are rebuilt for every case, so a case may break anything.
 */
#ifndef BAD_INPUT_H
#define BAD_INPUT_H

#include <tenon/tenon.h>

#include <stdbool.h>

typedef enum op_kind {
    OP_GEMM,
    OP_SOFTMAX,
    OP_ATTENTION,
    OP_MERGE,
    OP_APPEND,
    OP_QUANTIZE,
    OP_DEQUANTIZE,
    OP_KINDS
} op_kind;

/* A tensor of a scene; it lies in the scene's descriptor or, for the parts of a merge, in its arrays. */
typedef struct scene_tensor {
    const char *name;
    tenon_tensor *at;
    bool output;
    bool no_data;          /* pointer arrays stand for its data */
    unsigned free_extents; /* bit d: another shape[d] would be as legal */
} scene_tensor;

enum { WORLD_BYTES = 1 << 16, SCENE_TENSORS = 24, UNTOUCHED = 0xa5 };

typedef struct scene {
    op_kind op;
    const char *name;
    union {
        size_t struct_size;
        tenon_gemm_desc gemm;
        tenon_softmax_desc softmax;
        tenon_attention_desc attention;
        tenon_attention_merge_desc merge;
        tenon_kv_append_desc append;
        tenon_quantize_desc quantize; /* dequantize too */
        unsigned char bytes[4096];    /* room for a struct from a later release */
    } desc;
    tenon_tensor o_parts[2], lse_parts[2];
    const void *a_array[2], *b_array[2];
    void *c_array[2];
    int tensors;
    scene_tensor tensor[SCENE_TENSORS];
    size_t used;
    _Alignas(64) unsigned char world
        [WORLD_BYTES]; /* all operands, with UNTOUCHED between them and in outputs */
} scene;

typedef struct scene_row {
    op_kind op;
    const char *name;
    void (*build)(scene *s);
} scene_row;

extern const scene_row scene_rows[];
extern const int scene_count;

void scene_build(scene *s, const scene_row *row);

/* What is asked of an operation. plan and run are NULL where there are none. */
typedef struct op_calls {
    const char *name; /* of the one-shot call; _plan and _run behind it are the others */
    size_t desc_bytes;
    tenon_status (*once)(tenon_context *ctx, const void *desc);
    tenon_status (*plan)(tenon_context *ctx, const void *desc, tenon_plan **out);
    tenon_status (*run)(tenon_context *ctx, const tenon_plan *plan, const void *desc);
} op_calls;

extern const op_calls op_table[OP_KINDS];

/* A field overwritten: `bytes` bytes at `offset` of the descriptor. */
typedef struct patch {
    size_t offset, bytes;
    const void *value;
} patch;

/* One bad input. `says` and `field` must be in the sentence; status TENON_OK: legal after all. */
typedef struct bad_case {
    const char *scene;
    const char *field;
    const char *says;
    tenon_status status;
    patch patch[3];
    const char *poke; /* a tensor whose data are overwritten instead … */
    int64_t element;  /* … at this element … */
    int64_t value;    /* … with this, in the tensor's type */
} bad_case;

extern const bad_case bad_cases[], other_cases[];
extern const int bad_case_count, other_case_count;

/* Every leaf field of a descriptor: together they must cover it byte for byte. */
typedef struct field {
    const char *name;
    size_t offset, bytes;
} field;

typedef struct field_list {
    const field *fields;
    int count;
    size_t struct_bytes;
} field_list;

extern const field_list op_fields[OP_KINDS], context_fields, pool_fields;

#endif
