/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad input to the operations. Every case is tried one-shot, through a plan of its own, and on a plan made for the good descriptor; each time the
 * status must be the expected one, the sentence must name call, field and value and say what was expected, and no byte of memory may have changed. A count over the
 * descriptors' bytes sees that no field is without a case.
 */
#include "bad_input.h"
#include "ops/ops.h"
#include "sentence.h"
#include "suite.h"

#include <stdio.h>
#include <string.h>

typedef struct expectation {
    tenon_status status;
    char field[64], says[64];
} expectation;

static tenon_context *ctx;
static tenon_buffer *tiny; /* one byte */
static scene now;
static unsigned char before[WORLD_BYTES], covered[4096];
static char label[256];
static int cases, sentences;

static void open_context(void) {
    const tenon_context_desc desc = {.device = "reference", .threads = 2};
    ck_assert_msg(tenon_context_create(&desc, &ctx) == TENON_OK, "%s", tenon_error_message(NULL));
    ck_assert_int_eq(tenon_buffer_alloc(tenon_context_pool(ctx, 0), 1, "tiny", &tiny), TENON_OK);
}

static void close_context(void) {
    tenon_buffer_free(tiny);
    tenon_context_destroy(ctx);
}

static const scene_row *row_of(const char *name) {
    for (int i = 0; i < scene_count; ++i)
        if (strcmp(scene_rows[i].name, name) == 0)
            return &scene_rows[i];
    ck_abort_msg("no scene %s", name);
    return NULL;
}

/* ---------------------------------------------------------------- judging one call */

/* Holds the last sentence to the rule. `call_end`: "", "_plan" or "_run". */
static void check_sentence(const char *call_end, tenon_status status) {
    const char *said = tenon_error_message(ctx);
    char call[64];
    snprintf(call, sizeof call, "%s%s", op_table[now.op].name, call_end);
    const char *fault = sentence_fault(said, call, status);
    ck_assert_msg(!fault, "%s, %s: the sentence %s: %s", label, call, fault, said);
    ++sentences;
}

static void judge(const char *way, const char *call_end, tenon_status status,
                  const expectation *e) {
    const char *said = tenon_error_message(ctx);
    ck_assert_msg(status == e->status, "%s, %s: %s, expected %s: %s", label, way,
                  tenon_status_name(status), tenon_status_name(e->status),
                  status == TENON_OK ? "" : said);
    if (status == TENON_OK)
        return;
    check_sentence(call_end, status);
    ck_assert_msg(strstr(said, e->field), "%s, %s: does not name %s: %s", label, way, e->field,
                  said);
    ck_assert_msg(strstr(said, e->says), "%s, %s: does not say %s: %s", label, way, e->says, said);
    ck_assert_msg(memcmp(before, now.world, sizeof before) == 0, "%s, %s: memory was written",
                  label, way);
}

/* Tries the scene as it now is in every way; `good` is a plan of the scene as it was, or NULL. */
static void expect(const expectation *e, const tenon_plan *good) {
    const op_calls *calls = &op_table[now.op];
    ++cases;
    memcpy(before, now.world, sizeof before);
    judge("one-shot", "", calls->once(ctx, &now.desc), e);
    memcpy(now.world, before, sizeof before);
    if (!calls->plan)
        return;

    tenon_plan *plan = (tenon_plan *)&now;
    const tenon_status planned = calls->plan(ctx, &now.desc, &plan);
    if (planned == TENON_OK) {
        judge("planned and run", "_run", calls->run(ctx, plan, &now.desc), e);
        memcpy(now.world, before, sizeof before);
        tenon_plan_destroy(plan);
    } else {
        judge("planned", "_plan", planned, e);
        ck_assert_msg(plan == NULL, "%s: a plan in spite of the error", label);
    }
    if (e->status != TENON_OK && good) {
        const tenon_status run = calls->run(ctx, good, &now.desc);
        ck_assert_msg(run != TENON_OK, "%s: a good plan runs it", label);
        check_sentence("_run", run);
        ck_assert_msg(memcmp(before, now.world, sizeof before) == 0,
                      "%s: memory was written by a good plan", label);
    }
}

static tenon_plan *good_plan(const scene_row *row) {
    tenon_plan *plan = NULL;
    scene_build(&now, row);
    if (op_table[row->op].plan)
        ck_assert_msg(op_table[row->op].plan(ctx, &now.desc, &plan) == TENON_OK, "%s: %s",
                      row->name, tenon_error_message(ctx));
    return plan;
}

/* ---------------------------------------------------------------- what every tensor must refuse */

static size_t element_bytes(const tenon_tensor *t) {
    size_t bytes = 1;
    (void)tenon_dtype_block(t->dtype, NULL, &bytes);
    return bytes;
}

/* A dimension of more than one element, or -1. */
static int32_t wide_dim(const tenon_tensor *t) {
    for (int32_t d = 0; d < t->rank; ++d)
        if (t->shape[d] > 1)
            return d;
    return -1;
}

static void say(expectation *e, const scene_tensor *t, const char *member, const char *says) {
    snprintf(e->field, sizeof e->field, "%s%s", t->name, member);
    snprintf(e->says, sizeof e->says, "%s", says);
}

static bool null_data(scene_tensor *t, expectation *e) {
    t->at->data = NULL;
    say(e, t, ".data", "NULL");
    return !t->no_data;
}

static bool unaligned_data(scene_tensor *t, expectation *e) {
    char text[32];
    t->at->data = (char *)t->at->data + 1;
    snprintf(text, sizeof text, "%p", t->at->data);
    say(e, t, ".data", text);
    return !t->no_data && element_bytes(t->at) > 1;
}

static bool buffer_beside_data(scene_tensor *t, expectation *e) {
    char text[32];
    t->at->buffer = tiny;
    snprintf(text, sizeof text, "%p", t->at->data);
    say(e, t, ".data", text);
    return !t->no_data;
}

static bool buffer_too_small(scene_tensor *t, expectation *e) {
    t->at->data = NULL;
    t->at->buffer = tiny;
    say(e, t, ".buffer", "1 bytes");
    return !t->no_data;
}

static bool unaligned_offset(scene_tensor *t, expectation *e) {
    t->at->offset = 1;
    say(e, t, ".offset", "1");
    return !t->no_data && element_bytes(t->at) > 1;
}

static bool absurd_offset(scene_tensor *t, expectation *e) {
    t->at->offset = SIZE_MAX;
    say(e, t, ".shape", "18446744073709551615");
    return true;
}

static bool no_type(scene_tensor *t, expectation *e) {
    t->at->dtype = (tenon_dtype)99;
    say(e, t, ".dtype", "99");
    return true;
}

static bool wrong_type(scene_tensor *t, expectation *e) {
    const bool index = t->at->dtype == TENON_S32 || t->at->dtype == TENON_S64;
    t->at->dtype = index ? TENON_BOOL : TENON_S64;
    say(e, t, ".dtype", index ? "bool" : "s64");
    return true;
}

static bool negative_rank(scene_tensor *t, expectation *e) {
    t->at->rank = -1;
    say(e, t, ".rank", "-1");
    return true;
}

static bool rank_too_large(scene_tensor *t, expectation *e) {
    t->at->rank = TENON_MAX_RANK + 1;
    say(e, t, ".rank", "9");
    return true;
}

static bool negative_extent(scene_tensor *t, expectation *e) {
    t->at->shape[t->at->rank - 1] = -3;
    say(e, t, ".shape", "-3");
    return true;
}

static bool absurd_extents(scene_tensor *t, expectation *e) {
    for (int32_t d = 0; d < t->at->rank; ++d)
        t->at->shape[d] = INT64_MAX;
    say(e, t, ".shape", "9223372036854775807");
    return true;
}

static bool absurd_stride(scene_tensor *t, expectation *e) {
    const int32_t d = wide_dim(t->at);
    if (d >= 0)
        t->at->stride[d] = INT64_MAX;
    say(e, t, t->at->dtype >= TENON_Q8_0 ? ".stride" : ".shape", "9223372036854775807");
    return d >= 0;
}

static bool negative_output_stride(scene_tensor *t, expectation *e) {
    const int32_t d = wide_dim(t->at);
    if (d >= 0)
        t->at->stride[d] = -t->at->stride[d];
    say(e, t, ".stride", "-");
    return t->output && d >= 0;
}

static bool repeating_output(scene_tensor *t, expectation *e) {
    const int32_t d = wide_dim(t->at);
    if (d >= 0)
        t->at->stride[d] = 0;
    say(e, t, ".stride", "0");
    return t->output && d >= 0 && t->at->rank > 1;
}

static bool overlapping_output(scene_tensor *t, expectation *e) {
    const int32_t d = wide_dim(t->at);
    if (d >= 0)
        t->at->stride[d] = 1;
    say(e, t, ".stride", t->at->dtype >= TENON_Q8_0 ? "one dimension of stride 1" : "overlap");
    return t->output && d >= 0 && d < t->at->rank - 1;
}

static const struct {
    const char *name;
    bool (*break_it)(scene_tensor *t, expectation *e);
    size_t offset, bytes; /* of the member it is about */
} tensor_cases[] = {
#define ABOUT(member) offsetof(tenon_tensor, member), sizeof(((tenon_tensor *)0)->member)
    {"null data", null_data, ABOUT(data)},
    {"unaligned data", unaligned_data, ABOUT(data)},
    {"buffer beside data", buffer_beside_data, ABOUT(buffer)},
    {"buffer too small", buffer_too_small, ABOUT(buffer)},
    {"unaligned offset", unaligned_offset, ABOUT(offset)},
    {"absurd offset", absurd_offset, ABOUT(offset)},
    {"no type", no_type, ABOUT(dtype)},
    {"wrong type", wrong_type, ABOUT(dtype)},
    {"negative rank", negative_rank, ABOUT(rank)},
    {"rank too large", rank_too_large, ABOUT(rank)},
    {"negative extent", negative_extent, ABOUT(shape)},
    {"absurd extents", absurd_extents, ABOUT(shape)},
    {"absurd stride", absurd_stride, ABOUT(stride)},
    {"negative output stride", negative_output_stride, ABOUT(stride)},
    {"repeating output", repeating_output, ABOUT(stride)},
    {"overlapping output", overlapping_output, ABOUT(stride)},
};
enum { TENSOR_CASES = sizeof tensor_cases / sizeof tensor_cases[0] };

static void cover(const void *member, size_t offset, size_t bytes) {
    const size_t at = (size_t)((const unsigned char *)member - now.desc.bytes) + offset;
    if ((const unsigned char *)member < now.desc.bytes || at + bytes > sizeof covered)
        return;
    memset(covered + at, 1, bytes);
}

static void try_tensor(const scene_row *row, int i, const tenon_plan *good) {
    for (int k = 0; k < TENSOR_CASES; ++k) {
        expectation e = {.status = TENON_ERROR_INVALID_ARGUMENT};
        scene_build(&now, row);
        if (!tensor_cases[k].break_it(&now.tensor[i], &e))
            continue;
        cover(now.tensor[i].at, tensor_cases[k].offset, tensor_cases[k].bytes);
        snprintf(label, sizeof label, "%s, %s: %s", row->name, now.tensor[i].name,
                 tensor_cases[k].name);
        expect(&e, good);
    }
    /* Every extent must fit those of the others; which of the two is named depends on the order of checking. */
    for (int32_t d = 0; d < TENON_MAX_RANK; ++d) {
        scene_build(&now, row);
        if (d >= now.tensor[i].at->rank || now.tensor[i].free_extents & 1u << d)
            continue;
        expectation e = {.status = TENON_ERROR_INVALID_ARGUMENT, .field = "shape"};
        snprintf(e.says, sizeof e.says, "%lld", (long long)++now.tensor[i].at->shape[d]);
        snprintf(label, sizeof label, "%s, %s: shape[%d] one more", row->name, now.tensor[i].name,
                 (int)d);
        expect(&e, good);
    }
}

/* Outputs on top of each other operand, a little shifted. */
static void try_overlaps(const scene_row *row, const tenon_plan *good) {
    scene_build(&now, row);
    const int count = now.tensors;
    for (int o = 0; o < count; ++o) {
        for (int i = 0; i < count; ++i) {
            char text[32];
            scene_build(&now, row);
            if (i == o || !now.tensor[o].output || now.tensor[o].no_data || now.tensor[i].no_data)
                continue;
            now.tensor[i].at->data = (char *)now.tensor[o].at->data + 8;
            snprintf(label, sizeof label, "%s: %s over %s", row->name, now.tensor[o].name,
                     now.tensor[i].name);
            snprintf(text, sizeof text, "%p", now.tensor[o].at->data);
            expectation e = {.status = TENON_ERROR_INVALID_ARGUMENT};
            snprintf(e.field, sizeof e.field, "%s", now.tensor[i].name);
            snprintf(e.says, sizeof e.says, "%s", text);
            expect(&e, good);
        }
    }
}

/* ---------------------------------------------------------------- the table */

static void poke(const bad_case *c) {
    for (int i = 0; i < now.tensors; ++i) {
        tenon_tensor *t = now.tensor[i].at;
        if (strcmp(now.tensor[i].name, c->poke) != 0)
            continue;
        if (t->dtype == TENON_S64)
            ((int64_t *)t->data)[c->element] = c->value;
        else
            ((int32_t *)t->data)[c->element] = (int32_t)c->value;
        return;
    }
    ck_abort_msg("%s has no %s", c->scene, c->poke);
}

static void try_case(const bad_case *c, const tenon_plan *good) {
    expectation e = {.status = c->status};
    for (int i = 0; i < 3 && c->patch[i].bytes > 0; ++i) {
        memcpy(now.desc.bytes + c->patch[i].offset, c->patch[i].value, c->patch[i].bytes);
        cover(now.desc.bytes, c->patch[i].offset, c->patch[i].bytes);
    }
    if (c->poke)
        poke(c);
    snprintf(e.field, sizeof e.field, "%s", c->field);
    snprintf(e.says, sizeof e.says, "%s", c->says);
    snprintf(label, sizeof label, "case %d: %s %s %s", (int)(c - bad_cases), c->scene, c->field,
             c->says);
    /* Whether a field of the workspace is enough is the plan's own affair. */
    expect(&e, c->status == TENON_ERROR_INVALID_ARGUMENT ? good : NULL);
}

static void check_coverage(op_kind op) {
    const field_list *list = &op_fields[op];
    size_t at = 0;
    for (int i = 0; i < list->count; ++i) {
        const field *f = &list->fields[i];
        ck_assert_msg(f->offset == at,
                      "%s: byte %zu of the descriptor belongs to no field (next is %s)",
                      op_table[op].name, at, f->name);
        at += f->bytes;
        for (size_t b = 0; b < f->bytes && f->name[0] != 0; ++b) {
            /* One element of an array of extents or strides stands for all. */
            ck_assert_msg(covered[f->offset + b] || (b >= 8 && f->bytes == 8 * TENON_MAX_RANK),
                          "%s: no case for %s", op_table[op].name, f->name);
        }
    }
    ck_assert_msg(at == list->struct_bytes, "%s: the last %zu bytes belong to no field",
                  op_table[op].name, list->struct_bytes - at);
}

START_TEST(every_field) {
    const op_kind op = (op_kind)_i;
    open_context();
    for (int r = 0; r < scene_count; ++r) {
        const scene_row *row = &scene_rows[r];
        if (row->op != op)
            continue;
        tenon_plan *good = good_plan(row);
        const int tensors = now.tensors;
        for (int i = 0; i < tensors; ++i)
            try_tensor(row, i, good);
        try_overlaps(row, good);
        for (int i = 0; i < bad_case_count; ++i) {
            if (row != row_of(bad_cases[i].scene))
                continue;
            scene_build(&now, row);
            try_case(&bad_cases[i], good);
        }
        tenon_plan_destroy(good);
    }
    check_coverage(op);
    printf("%s: %d bad inputs, %d sentences\n", op_table[op].name, cases, sentences);
    ck_assert_int_ge(sentences, cases - bad_case_count);
    close_context();
}
END_TEST

/* ---------------------------------------------------------------- signatures */

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), e = strlen(end);
    return n >= e && strcmp(name + n - e, end) == 0;
}

/* Fields that a run may change without another reading: they are checked by themselves. */
static bool is_address(const char *name) {
    static const char *const ends[] = {".data", ".buffer", ".offset", "_array", "b_packed"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; ++i)
        if (ends_with(name, ends[i]))
            return true;
    return strncmp(name, "workspace", 9) == 0;
}

static bool in_absent_tensor(const tn_form *form, size_t offset) {
    for (int role = 0; role < form->operands; ++role) {
        const size_t from = form->operand[role].offset;
        if (offset >= from && offset < from + sizeof(tenon_tensor))
            return !tn_tensor_present(tn_tensor_in(form, role, &now.desc));
    }
    return false;
}

static bool same_signature(const tn_form *form, const tn_signature *planned) {
    static tn_signature s;
    const bool same = tn_signature_take(form, &now.desc, &s) && s.count == planned->count &&
                      memcmp(&s, planned, tn_signature_bytes(&s)) == 0;
    ck_assert_int_eq(tn_signature_said(form, &now.desc, planned), same);
    return same;
}

/* Whatever field changes, a run sees it: the signature is another, or there is none. Other addresses, and only they, leave it as it is. */
START_TEST(signatures) {
    static const tn_form *const forms[] = {&tn_gemm_form, &tn_softmax_form, &tn_attention_form};
    static const double other_real = 0.125;
    static const int32_t other_axis = 0;
    static tn_signature planned;
    int changed = 0, kept = 0;
    for (int r = 0; r < scene_count; ++r) {
        const op_kind op = scene_rows[r].op;
        const field_list *list = &op_fields[op];
        if (op > OP_ATTENTION)
            continue;
        const tn_form *form = forms[op];
        ck_assert_uint_eq(form->bytes, list->struct_bytes);
        for (int i = 0; i < list->count; ++i) {
            const field *f = &list->fields[i];
            scene_build(&now, &scene_rows[r]);
            ck_assert(tn_signature_take(form, &now.desc, &planned));
            ck_assert(same_signature(form, &planned));
            if (f->name[0] == 0 || in_absent_tensor(form, f->offset))
                continue;
            if (strcmp(f->name, "alpha") == 0 || strcmp(f->name, "scale") == 0)
                memcpy(now.desc.bytes + f->offset, &(const double *){&other_real}, sizeof(void *));
            else if (strcmp(f->name, "axis") == 0)
                memcpy(now.desc.bytes + f->offset, &(const int32_t *){&other_axis}, sizeof(void *));
            else
                now.desc.bytes[f->offset] ^= 64;
            const bool same = same_signature(form, &planned);
            if (!is_address(f->name))
                ck_assert_msg(!same, "%s: %s is no part of the signature", now.name, f->name);
            changed += !same;
            kept += same;
        }
    }
    printf("signatures: %d fields change them, %d do not\n", changed, kept);
    ck_assert_int_gt(changed, 200);
    ck_assert_int_gt(kept, 60);
}
END_TEST

/* ---------------------------------------------------------------- controls, and descriptors of other sizes */

/* The scenes themselves are legal and write their outputs: a check for untouched memory could fail. */
START_TEST(good_input) {
    open_context();
    for (int r = 0; r < scene_count; ++r) {
        scene_build(&now, &scene_rows[r]);
        memcpy(before, now.world, sizeof before);
        ck_assert_msg(op_table[now.op].once(ctx, &now.desc) == TENON_OK, "%s: %s", now.name,
                      tenon_error_message(ctx));
        ck_assert_msg(memcmp(before, now.world, sizeof before) != 0, "%s: wrote nothing", now.name);
        ck_assert_msg(before[0] == UNTOUCHED && now.world[0] == UNTOUCHED, "%s", now.name);
    }
    close_context();
}
END_TEST

START_TEST(other_releases) {
    open_context();
    for (int r = 0; r < scene_count; ++r) {
        const op_calls *calls = &op_table[scene_rows[r].op];
        const size_t size = calls->desc_bytes;
        const expectation fine = {.status = TENON_OK};
        expectation newer = {.status = TENON_ERROR_UNSUPPORTED, .field = "struct_size"};
        snprintf(newer.says, sizeof newer.says, "%zu", size + 16);

        scene_build(&now, &scene_rows[r]);
        snprintf(label, sizeof label, "%s: struct_size", now.name);
        now.desc.struct_size = size;
        expect(&fine, NULL);
        now.desc.struct_size =
            size - sizeof(tenon_workspace); /* an older one, without the last field */
        expect(&fine, NULL);
        now.desc.struct_size = size + 16; /* a newer one that uses nothing new … */
        expect(&fine, NULL);
        now.desc.bytes[size + 9] = 1; /* … and one that does */
        expect(&newer, NULL);
    }
    close_context();
}
END_TEST

/* The rule itself can fail. */
START_TEST(sentences_are_judged) {
    static const struct {
        const char *said;
        bool good;
    } list[] = {
        {"tenon_gemm: a.rank is 9, expected 2 to 8", true},
        {"tenon_gemm: block_table[0, 2] is -1, expected 0 to 5 (the blocks of k)", true},
        {"tenon_gemm: a.rank is 9", false},
        {"tenon_gemm: 9 is no rank, expected 2 to 8", false},
        {"tenon_gemm: tenon_gemm: a.rank is 9, expected 2 to 8", false},
        {"tenon_gemm_plan: a.rank is 9, expected 2 to 8", false},
        {"gemm: a.rank is 9, expected 2 to 8", false},
        {"a.rank is 9, expected 2 to 8", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; ++i)
        ck_assert_msg(!sentence_fault(list[i].said, "tenon_gemm", TENON_ERROR_INVALID_ARGUMENT) ==
                          list[i].good,
                      "%s", list[i].said);
    ck_assert_ptr_null(
        sentence_fault("tenon_gemm: pool cpu: no block", "tenon_gemm", TENON_ERROR_OUT_OF_MEMORY));
    ck_assert_ptr_nonnull(sentence_fault("no block", "tenon_gemm", TENON_ERROR_OUT_OF_MEMORY));
}
END_TEST

START_TEST(no_arguments) {
    open_context();
    for (int op = 0; op < OP_KINDS; ++op) {
        const op_calls *calls = &op_table[op];
        tenon_plan *plan = (tenon_plan *)&now;
        memset(&now, 0, sizeof now);
        ck_assert_int_eq(calls->once(NULL, &now.desc), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "ctx is NULL"));
        ck_assert_int_eq(calls->once(ctx, NULL), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "desc is NULL"));
        ck_assert_int_eq(calls->once(ctx, now.desc.bytes + 4), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "aligned"));
        ck_assert_int_eq(calls->once(ctx, &now.desc), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "absent"));
        if (!calls->plan)
            continue;
        ck_assert_int_eq(calls->plan(NULL, &now.desc, &plan), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_null(plan);
        ck_assert_int_eq(calls->plan(ctx, NULL, &plan), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_int_eq(calls->plan(ctx, &now.desc, NULL), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "out is NULL"));
        ck_assert_int_eq(calls->run(ctx, NULL, &now.desc), TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "plan is NULL"));
    }
    close_context();
}
END_TEST

/* Plans run what they were made for, and nothing else. */
START_TEST(other_plans) {
    open_context();
    for (int a = 0; a < scene_count; ++a) {
        if (!op_table[scene_rows[a].op].plan)
            continue;
        tenon_plan *plan = good_plan(&scene_rows[a]);
        for (int b = 0; b < scene_count; ++b) {
            if (!op_table[scene_rows[b].op].run)
                continue;
            scene_build(&now, &scene_rows[b]);
            memcpy(before, now.world, sizeof before);
            const tenon_status status = op_table[now.op].run(ctx, plan, &now.desc);
            ck_assert_msg((status == TENON_OK) == (a == b), "%s on a plan of %s: %s", now.name,
                          scene_rows[a].name, tenon_error_message(ctx));
            if (a == b)
                continue;
            ck_assert_int_eq(status, TENON_ERROR_INVALID_ARGUMENT);
            const char *said = tenon_error_message(ctx);
            ck_assert_ptr_nonnull(strstr(said, "plan"));
            if (scene_rows[a].op != now.op) {
                char text[128];
                snprintf(text, sizeof text, ": plan is one of %s_plan, expected one of %s_plan",
                         op_table[scene_rows[a].op].name, op_table[now.op].name);
                ck_assert_msg(strstr(said, text) != NULL, "not%s: %s", text, said);
            }
            ck_assert_mem_eq(before, now.world, sizeof before);
        }
        tenon_plan_destroy(plan);
    }
    close_context();
}
END_TEST

/* What a run does otherwise than planned is told with both values. */
START_TEST(other_than_planned) {
    open_context();
    for (int i = 0; i < other_case_count; ++i) {
        const bad_case *c = &other_cases[i];
        tenon_plan *plan = good_plan(row_of(c->scene));
        for (int k = 0; k < 3 && c->patch[k].bytes > 0; ++k)
            memcpy(now.desc.bytes + c->patch[k].offset, c->patch[k].value, c->patch[k].bytes);
        snprintf(label, sizeof label, "case %d: %s %s %s", i, c->scene, c->field, c->says);
        memcpy(before, now.world, sizeof before);
        expectation e = {.status = c->status};
        snprintf(e.field, sizeof e.field, "%s", c->field);
        snprintf(e.says, sizeof e.says, "%s", c->says);
        judge("other than planned", "_run", op_table[now.op].run(ctx, plan, &now.desc), &e);
        tenon_plan_destroy(plan);
    }
    close_context();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bad input");
    TCase *tc = tcase_create("operations");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, signatures);
    tcase_add_test(tc, good_input);
    tcase_add_loop_test(tc, every_field, 0, OP_KINDS);
    tcase_add_test(tc, other_releases);
    tcase_add_test(tc, sentences_are_judged);
    tcase_add_test(tc, no_arguments);
    tcase_add_test(tc, other_plans);
    tcase_add_test(tc, other_than_planned);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
