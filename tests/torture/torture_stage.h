/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_stage.h: what a call of a public function finds when it is tortured, and the rows: one per
 * function. TAKES rows ask the system for something, QUIET rows claim to ask for nothing, ever.
 *
 * A row's call is `call_<function>` and calls that function (check_torture.py looks). Functions get
 * the stage as `state`.
 */
#ifndef TORTURE_STAGE_H
#define TORTURE_STAGE_H

#include "torture_world.h"

/* What a call may need, fresh before each. */
typedef struct stage {
    tenon_context_desc desc;
    int64_t balance;
    job job;
    bool plannable;
    tenon_context *ctx, *other, *made_context;
    tenon_pool *pool, *made_pool; /* pool: hands out its first block in the call */
    tenon_buffer *parent, *made;
    tenon_plan *plan, *made_plan;
    void *mapped;
    unsigned char host[256];
    tenon_lifetime objects[20];
    size_t total;
    int64_t text;
    bool right; /* what a quiet call found is what it should be */
} stage;

typedef struct stage_row {
    const char *name;
    tenon_status (*call)(void *state);
    const char *job; /* of job_kinds; NULL: any */
    bool (*untouched)(void *state), (*correct)(void *state);
} stage_row;

extern const stage_row taking_rows[], quiet_rows[];
extern const int taking_row_count, quiet_row_count;

#define CALL(name) static tenon_status call_##name(void *state)
#define STAGE stage *s = state

/* Before each call. */
void stage_prepare(void *state);

#endif
