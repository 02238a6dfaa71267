/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax of every device against the reference: lengths, layouts, axes, types, and every field of the descriptor. */
#include "harness.h"

#include <string.h>

typedef struct softmax_case {
    const char *name;
    int32_t rank;
    int64_t shape[4];
    int32_t axis_given, axis;
    tenon_dtype x, y, extra, lse; /* 0: f32; lse 0: absent */
    layout x_layout, y_layout;
    int32_t in_place;
    double scale;       /* 0: not given */
    double amplitude;   /* of x; 0: 4 */
    int32_t bias, mask; /* 1: given; in the dimensions of `ones` (a bit each) with extent 1 */
    unsigned ones;
    tenon_causal causal;
    tenon_window window;
    int32_t alibi; /* 1: (heads), 2: (batch, heads) */
    int32_t sinks;
    double softcap;
    int32_t log;
    const char *unsupported;
} softmax_case;

/* An operand that broadcasts to x. */
static operand broadcast_operand(world *w, const softmax_case *x, tenon_dtype dtype, range values) {
    int64_t shape[4];
    for (int32_t d = 0; d < x->rank; ++d)
        shape[d] = x->ones >> d & 1 ? 1 : x->shape[d];
    return input(w, dtype, x->rank, shape, PADDED, 0, values);
}

/* Some of a bias is -inf, which masks. */
static void mask_by_bias(world *w, operand *bias) {
    const int64_t count = count_of(&bias->t);
    for (int64_t i = 0; i < count; ++i)
        if (rng_below(&w->random, 5) == 0)
            set(bias, i, -INFINITY);
}

static void run_softmax_case(world *w, const softmax_case *given) {
    softmax_case c = *given;
    if (!c.x)
        c.x = TENON_F32;
    if (!c.y)
        c.y = c.x;
    if (!c.extra)
        c.extra = TENON_F32;
    const double amplitude = c.amplitude > 0 ? c.amplitude : 4;
    const int32_t axis = c.axis_given ? (c.axis + c.rank) % c.rank : c.rank - 1;
    const int64_t length = c.shape[axis];
    const range values = {-amplitude, amplitude};
    int64_t rows[4] = {0};
    int32_t row_rank = 0;

    if (world_leaves_out(w, 20.0 * (double)(c.shape[0] * (c.rank > 1 ? c.shape[1] : 1) *
                                            (c.rank > 2 ? c.shape[2] : 1) *
                                            (c.rank > 3 ? c.shape[3] : 1))))
        return;
    world_case(w, "softmax %s: %lldx%lldx%lldx%lld %s -> %s", c.name, (long long)c.shape[0],
               (long long)c.shape[1], (long long)c.shape[2], (long long)c.shape[3],
               tenon_dtype_name(c.x), tenon_dtype_name(c.y));
    for (int32_t d = 0; d < c.rank; ++d)
        if (d != axis)
            rows[row_rank++] = c.shape[d];

    operand x = c.in_place ? in_out(w, c.x, c.rank, c.shape, c.x_layout, values)
                           : input(w, c.x, c.rank, c.shape, c.x_layout, 0, values);
    operand y = c.in_place ? x : output(w, c.y, c.rank, c.shape, c.y_layout);
    operand bias = {0}, mask = {0}, alibi = {0}, sinks = {0}, lse = {0};
    if (c.bias) {
        bias = broadcast_operand(w, &c, c.extra, (range){-2, 2});
        mask_by_bias(w, &bias);
    }
    if (c.mask)
        mask = broadcast_operand(w, &c, TENON_BOOL, (range){0, 0.7});
    if (c.alibi)
        alibi =
            input(w, c.extra, c.alibi, c.alibi == 2 ? &c.shape[c.rank - 4] : &c.shape[c.rank - 3],
                  DENSE, 0, (range){-0.5, 0.5});
    if (c.sinks)
        sinks = input(w, c.extra, 1, &c.shape[c.rank - 3], DENSE, 0, (range){-2, 4});
    if (c.lse)
        lse = output(w, c.lse, row_rank, rows, DENSE);

    tenon_softmax_desc device = {
        .x = x.t,
        .y = y.t,
        .axis = c.axis_given ? &c.axis : NULL,
        .scale = c.scale != 0 ? &c.scale : NULL,
        .bias = bias.t,
        .mask = mask.t,
        .causal = c.causal,
        .window = c.window,
        .alibi = alibi.t,
        .softcap = c.softcap,
        .sinks = sinks.t,
        .log = c.log,
        .lse = lse.t,
    };
    tenon_softmax_desc exact = device;
    const tenon_tensor expected = exact_zeros(w, c.rank, c.shape),
                       expected_lse = exact_zeros(w, row_rank, rows);
    exact.x = x.exact;
    exact.y = expected;
    exact.bias = bias.exact;
    exact.mask = mask.exact;
    exact.alibi = alibi.exact;
    exact.sinks = sinks.exact;
    exact.lse = expected_lse;

    if (!world_answered(w, tenon_softmax(w->ctx, &device), c.unsupported))
        return;
    world_reference(w, tenon_softmax(w->reference, &exact));

    const int64_t distance = length + (c.rank > 1 ? c.shape[c.rank - 2] : 0);
    const bound_scores s = {
        .keys = length,
        .softcap = c.softcap,
        .size = (c.scale != 0 ? fabs(c.scale) : 1) * x.largest,
        .addends = alibi.largest * (double)distance + bias.largest + sinks.largest,
        .accumulate = c.x == TENON_F64 || c.y == TENON_F64 ? TENON_F64 : TENON_F32,
    };
    expect_untouched(w, &y, NULL);
    for (int64_t i = 0; i < count_of(&expected); ++i) {
        const double value = get(&expected, i);
        double error = value * bound_probability(&s) + bound_flush(s.accumulate);
        if (c.log)
            error = bound_log_probability(&s, value);
        expect(w, &y, i, value, value == 0 && !c.log ? 0 : error);
    }
    if (c.lse) {
        expect_untouched(w, &lse, NULL);
        for (int64_t i = 0; i < count_of(&expected_lse); ++i)
            expect(w, &lse, i, get(&expected_lse, i), bound_lse(&s, get(&expected_lse, i)));
    }
    const operand *outputs[2] = {&y, &lse};
    expect_every_choice(w, &(call){.softmax = &device}, outputs, c.lse ? 2 : 1);
}

static void run_all(world *w, const softmax_case *cases, int count) {
    for (int i = 0; i < count; ++i)
        run_softmax_case(w, &cases[i]);
}

START_TEST(lengths) {
    static const int64_t length[] = {0,  1,  2,  3,  7,   8,   9,   15,  16,  17,   31,   32,  33,
                                     63, 64, 65, 97, 127, 128, 129, 255, 257, 1000, 1031, 4099};
    static const int64_t rows[] = {1, 2, 5, 17, 0};
    world w = world_start("softmax lengths", device_id[_i]);
    for (size_t l = 0; l < sizeof length / sizeof *length; ++l)
        for (int type = 0; type < 2; ++type)
            for (int log = 0; log < 2; ++log)
                run_softmax_case(&w, &(softmax_case){.name = "length",
                                                     .rank = 2,
                                                     .shape = {rows[l % 5], length[l]},
                                                     .x = type ? TENON_F64 : TENON_F32,
                                                     .log = log,
                                                     .lse = type ? TENON_F64 : TENON_F32,
                                                     .x_layout = (layout)(l % LAYOUTS),
                                                     .y_layout = l % 2 ? PADDED : DENSE});
    world_end(&w);
}
END_TEST

START_TEST(layouts_and_axes) {
    world w = world_start("softmax layouts", device_id[_i]);
    for (int in = 0; in < LAYOUTS; ++in)
        for (int out = 0; out < LAYOUTS; ++out)
            for (int32_t axis = -3; axis < 3; ++axis) {
                if (out == BACKWARD)
                    continue;
                run_softmax_case(&w, &(softmax_case){.name = "axis",
                                                     .rank = 3,
                                                     .shape = {3, 18, 21},
                                                     .axis_given = 1,
                                                     .axis = axis,
                                                     .x_layout = (layout)in,
                                                     .y_layout = (layout)out,
                                                     .lse = TENON_F32,
                                                     .log = (in + out) % 2});
            }
    run_softmax_case(&w, &(softmax_case){.name = "vector", .rank = 1, .shape = {77}});
    for (int log = 0; log < 2; ++log)
        run_softmax_case(&w, &(softmax_case){.name = "long columns",
                                             .rank = 2,
                                             .shape = {4999, 19},
                                             .axis_given = 1,
                                             .log = log,
                                             .x = log ? TENON_F64 : TENON_F32,
                                             .lse = TENON_F32});
    world_end(&w);
}
END_TEST

START_TEST(types) {
    static const tenon_dtype type[] = {TENON_F64, TENON_F32, TENON_F16, TENON_BF16};
    world w = world_start("softmax types", device_id[_i]);
    for (int x = 0; x < 4; ++x)
        for (int y = 0; y < 4; ++y)
            for (int log = 0; log < 2; ++log)
                run_softmax_case(&w, &(softmax_case){.name = "types",
                                                     .rank = 2,
                                                     .shape = {5, 131},
                                                     .x = type[x],
                                                     .y = type[y],
                                                     .log = log,
                                                     .lse = TENON_F32,
                                                     .bias = log,
                                                     .extra = type[(x + y) % 4],
                                                     .x_layout = (layout)(x % LAYOUTS)});
    world_end(&w);
}
END_TEST

static const softmax_case features[] = {
    {.name = "scale", .scale = 0.125},
    {.name = "negative scale", .scale = -3},
    {.name = "wide range", .amplitude = 80},
    {.name = "wide range, log", .amplitude = 80, .log = 1},
    {.name = "wide range f64", .amplitude = 600, .x = TENON_F64, .lse = TENON_F64},
    {.name = "logits of 1e4", .amplitude = 1e4},
    {.name = "logits of 1e4, log", .amplitude = 1e4, .log = 1, .bias = 1},
    {.name = "subnormal logits", .amplitude = 1e-41},
    {.name = "converted", .y = TENON_BF16},
    {.name = "converted, masked", .y = TENON_F16, .mask = 1},
    {.name = "in place", .in_place = 1},
    {.name = "in place bf16", .in_place = 1, .x = TENON_BF16, .x_layout = STEPPED, .mask = 1},
    {.name = "in place log", .in_place = 1, .log = 1, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "bias", .bias = 1},
    {.name = "bias per key", .bias = 1, .ones = 7, .extra = TENON_BF16},
    {.name = "bias per head", .bias = 1, .ones = 13, .extra = TENON_F16},
    {.name = "bias per query", .bias = 1, .ones = 9},
    {.name = "bias f64", .bias = 1, .extra = TENON_F64},
    {.name = "mask", .mask = 1},
    {.name = "mask per key", .mask = 1, .ones = 7},
    {.name = "mask per row", .mask = 1, .ones = 8, .log = 1},
    {.name = "causal top left", .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "causal bottom right", .causal = TENON_CAUSAL_BOTTOM_RIGHT, .log = 1},
    {.name = "window", .window = {.enabled = 1, .left = 3, .right = 2}},
    {.name = "window left", .window = {.enabled = 1, .left = 5, .right = -1}},
    {.name = "window right", .window = {.enabled = 1, .left = -1, .right = 0}},
    {.name = "window and causal",
     .window = {.enabled = 1, .left = 4, .right = 4},
     .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "alibi", .alibi = 1},
    {.name = "alibi per batch, causal", .alibi = 2, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "softcap", .softcap = 3},
    {.name = "softcap small", .softcap = 0.5, .scale = 2, .log = 1},
    {.name = "sinks", .sinks = 1},
    {.name = "sinks, all masked rows", .sinks = 1, .mask = 1, .ones = 8, .log = 1},
    {.name = "everything",
     .scale = 0.7,
     .bias = 1,
     .mask = 1,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .window = {.enabled = 1, .left = 9, .right = -1},
     .alibi = 1,
     .softcap = 5,
     .sinks = 1},
    {.name = "everything, log",
     .scale = 0.7,
     .bias = 1,
     .mask = 1,
     .causal = TENON_CAUSAL_TOP_LEFT,
     .alibi = 2,
     .softcap = 5,
     .sinks = 1,
     .log = 1,
     .x = TENON_F16,
     .y = TENON_F32},
    {.name = "everything f64",
     .scale = 0.7,
     .bias = 1,
     .mask = 1,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .window = {.enabled = 1, .left = 9, .right = -1},
     .alibi = 1,
     .softcap = 5,
     .sinks = 1,
     .x = TENON_F64,
     .lse = TENON_F64},
};

START_TEST(every_field) {
    static const int64_t shapes[][4] = {{2, 3, 5, 7},  {1, 2, 1, 40},  {1, 2, 17, 33},
                                        {2, 1, 40, 9}, {1, 3, 6, 260}, {1, 1, 2, 2300},
                                        {1, 1, 3, 0}};
    world w = world_start("softmax fields", device_id[_i]);
    for (size_t f = 0; f < sizeof features / sizeof *features; ++f)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
            softmax_case c = features[f];
            c.rank = 4;
            memcpy(c.shape, shapes[s], sizeof c.shape);
            if (!c.lse && s % 2 == 0)
                c.lse = TENON_F32;
            if (!c.in_place)
                c.x_layout = (layout)((f + s) % LAYOUTS);
            run_softmax_case(&w, &c);
        }
    run_all(
        &w,
        (const softmax_case[]){
            {.name = "alibi far", .rank = 3, .shape = {2, 2, 1500}, .alibi = 1, .lse = TENON_F32},
            {.name = "long", .rank = 2, .shape = {1, 131101}, .lse = TENON_F32},
            {.name = "long, converted", .rank = 2, .shape = {2, 30011}, .y = TENON_BF16},
            {.name = "long, log", .rank = 2, .shape = {2, 30011}, .log = 1, .amplitude = 1e4},
            {.name = "long, masked", .rank = 2, .shape = {2, 30011}, .mask = 1}},
        5);
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {lengths, layouts_and_axes, types, every_field};
    return conform_main("conformance softmax", tests, sizeof tests / sizeof *tests);
}
