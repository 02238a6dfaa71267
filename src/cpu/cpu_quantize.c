/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_quantize.c: rows into blocks and back, threads taking stretches of blocks.
 *
 * Bytes and numbers are those of ops/blocks.h; numbers of other types than f32 pass through the
 * level's conversions, a block on the stack. Called by cpu_backend.c.
 */
#include "cpu/cpu_kernels.h"
#include "cpu/cpu_numbers.h"
#include "cpu/cpu_ops.h"
#include "ops/blocks.h"

#include <string.h>

typedef struct quantize_state {
    const tn_gemm_tile *tile; /* for its conversions to and from f32 */
    int64_t grain;            /* blocks of a task */
} quantize_state;

_Static_assert(sizeof(quantize_state) <= TN_CHOICE_STATE, "fits in a choice");

typedef struct quantize_run {
    const tn_quantize_problem *p;
    void *const *addresses;
    const tn_block_type *type;
    quantize_state state;
    int64_t blocks; /* of all rows */
} quantize_run;

static tenon_status plan(const tn_quantize_problem *p, const tn_block_type *type, double rate,
                         int threads, tn_cpu_level level, tn_choices *out) {
    quantize_state s = {.tile = tn_cpu_tile_find(TENON_F32, level),
                        .grain = 1 + 65536 / type->elements};
    tn_choice c;
    memset(&c, 0, sizeof c);
    c.algorithm = "blocks";
    c.kernel = s.tile->name;
    c.reason = "the only one";
    c.seconds = (double)p->rows * (double)p->n / rate / threads;
    memcpy(c.state, &s, sizeof s);
    out->count = 0;
    tn_choices_offer(out, &c);
    return TENON_OK;
}

/* Elements a second of one core, the order of magnitude: nothing is chosen by it. */
#define QUANTIZED 5e7
#define DEQUANTIZED 1e9

tenon_status tn_cpu_quantize_plan(const tn_quantize_problem *p, int threads, tn_cpu_level level,
                                  tn_choices *out) {
    return plan(p, tn_block_find(p->operand[TN_QUANTIZE_Y].dtype), QUANTIZED, threads, level, out);
}

tenon_status tn_cpu_dequantize_plan(const tn_quantize_problem *p, int threads, tn_cpu_level level,
                                    tn_choices *out) {
    return plan(p, tn_block_find(p->operand[TN_QUANTIZE_X].dtype), DEQUANTIZED, threads, level,
                out);
}

/* A block and the numbers it is for. */
typedef struct place {
    const tn_merge_operand *numbers;
    char *first;
    void *block;
} place;

static place place_of(const quantize_run *r, int64_t index, tn_quantize_role of_numbers) {
    const tn_quantize_problem *p = r->p;
    const tn_quantize_role of_blocks = of_numbers == TN_QUANTIZE_X ? TN_QUANTIZE_Y : TN_QUANTIZE_X;
    const int64_t of_a_row = p->n / r->type->elements, row = index / of_a_row,
                  i = index % of_a_row * r->type->elements;
    const tn_merge_operand *numbers = &p->operand[of_numbers];
    const int64_t element = tn_quantize_row_start(p, numbers, row) + i * numbers->step;
    return (place){
        .numbers = numbers,
        .first = (char *)r->addresses[of_numbers] + element * tn_element_size(numbers->dtype),
        .block = (void *)tn_block_at(r->type, r->addresses[of_blocks],
                                     tn_quantize_row_start(p, &p->operand[of_blocks], row), i),
    };
}

static bool is_dense_f32(const tn_merge_operand *numbers) {
    return numbers->dtype == TENON_F32 && numbers->step == 1;
}

static void quantize_task(void *arg, int64_t index, int worker) {
    const quantize_run *r = arg;
    const int64_t end = tn_min64(r->blocks, (index + 1) * r->state.grain);
    float values[TN_BLOCK_MOST];
    (void)worker;
    for (int64_t b = index * r->state.grain; b < end; ++b) {
        const place at = place_of(r, b, TN_QUANTIZE_X);
        if (!is_dense_f32(at.numbers))
            r->state.tile->load[at.numbers->dtype](at.first, at.numbers->step, r->type->elements,
                                                   values);
        r->type->encode(is_dense_f32(at.numbers) ? (const float *)(const void *)at.first : values,
                        at.block);
    }
}

static void dequantize_task(void *arg, int64_t index, int worker) {
    const quantize_run *r = arg;
    const int64_t end = tn_min64(r->blocks, (index + 1) * r->state.grain);
    float values[TN_BLOCK_MOST];
    (void)worker;
    for (int64_t b = index * r->state.grain; b < end; ++b) {
        const place at = place_of(r, b, TN_QUANTIZE_Y);
        if (is_dense_f32(at.numbers)) {
            r->type->decode(at.block, (float *)(void *)at.first);
            continue;
        }
        r->type->decode(at.block, values);
        r->state.tile->store[at.numbers->dtype](values, r->type->elements, at.first,
                                                at.numbers->step);
    }
}

static void run_blocks(const tn_run *run, tn_quantize_role of_blocks, tn_task_fn task) {
    quantize_run r = {.p = run->problem, .addresses = run->addresses};
    memcpy(&r.state, run->choice->state, sizeof r.state);
    r.type = tn_block_find(r.p->operand[of_blocks].dtype);
    r.blocks = r.p->rows * (r.p->n / r.type->elements);
    tn_team_run(run->team, task, &r, tn_ceil_div(r.blocks, r.state.grain));
}

void tn_cpu_quantize_run(const tn_run *run) {
    run_blocks(run, TN_QUANTIZE_Y, quantize_task);
}

void tn_cpu_dequantize_run(const tn_run *run) {
    run_blocks(run, TN_QUANTIZE_X, dequantize_task);
}
