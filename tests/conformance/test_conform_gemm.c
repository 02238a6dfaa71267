/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of every device against the reference: shapes, layouts, types, and every field of the descriptor. */
#include "gemm_case.h"

/* ---------------------------------------------------------------- shapes and layouts */

START_TEST(shapes) {
    /* Tile edges ± 1 for tiles of 4, 6, 8, 14, 16, 32; primes; nothing; one. */
    static const int64_t extent[] = {0, 1, 2, 3, 5, 7, 9, 13, 15, 17, 31, 33, 67};
    static const int64_t depth[] = {0, 1, 2, 7, 64, 131};
    enum { EXTENTS = sizeof extent / sizeof *extent, DEPTHS = sizeof depth / sizeof *depth };
    world w = world_start("gemm shapes", device_id[_i]);
    int turn = 0;

    for (int i = 0; i < EXTENTS; ++i)
        for (int j = 0; j < EXTENTS; ++j) {
            ++turn;
            run_gemm_case(&w, &(gemm_case){.name = "shape",
                                           .m = extent[i],
                                           .n = extent[j],
                                           .k = depth[turn % DEPTHS],
                                           .a = turn % 5 ? TENON_F32 : TENON_F64,
                                           .c = turn % 5 ? TENON_F32 : TENON_F64,
                                           .a_layout = (layout)(turn % LAYOUTS),
                                           .b_layout = (layout)(turn / 2 % LAYOUTS)});
        }
    world_end(&w);
}
END_TEST

START_TEST(layouts) {
    static const int64_t m[] = {1, 5, 37}, n[] = {1, 19, 40};
    world w = world_start("gemm layouts", device_id[_i]);
    for (int a = 0; a < LAYOUTS; ++a)
        for (int b = 0; b < LAYOUTS; ++b)
            for (int size = 0; size < 3; ++size) {
                const layout c = (layout)((a + b + size) % LAYOUTS);
                run_gemm_case(&w, &(gemm_case){.name = "layouts",
                                               .m = m[size],
                                               .n = n[(size + b) % 3],
                                               .k = 29,
                                               .a_layout = (layout)a,
                                               .b_layout = (layout)b,
                                               .c_layout = c == BACKWARD ? TRANSPOSED : c});
            }
    world_end(&w);
}
END_TEST

#define INT8 .a = TENON_S8, .b = TENON_S8
#define UINT8 .a = TENON_U8, .b = TENON_S8
#define BFLOAT16 .a = TENON_BF16, .b = TENON_BF16

START_TEST(large) {
    /* Several blocks of every kind that a driver may have; K over block edges. */
    static const gemm_case cases[] = {
        {.name = "deep", .m = 3, .n = 5, .k = 4099},
        {.name = "deep", .m = 3, .n = 5, .k = 4099, .a = TENON_F64, .c = TENON_F64},
        {.name = "deep row", .m = 1, .n = 33, .k = 3001, .b_layout = TRANSPOSED},
        {.name = "blocks", .m = 131, .n = 97, .k = 521},
        {.name = "blocks",
         .m = 97,
         .n = 131,
         .k = 521,
         .a = TENON_F64,
         .c = TENON_F64,
         .a_layout = TRANSPOSED},
        {.name = "block edge", .m = 17, .n = 33, .k = 255},
        {.name = "block edge", .m = 17, .n = 33, .k = 256},
        {.name = "block edge", .m = 17, .n = 33, .k = 257},
        {.name = "block edge", .m = 17, .n = 33, .k = 511, .b_layout = TRANSPOSED},
        {.name = "block edge", .m = 17, .n = 33, .k = 513, .a_layout = TRANSPOSED},
        {.name = "many rows", .m = 301, .n = 133, .k = 300},
        {.name = "many rows",
         .m = 301,
         .n = 133,
         .k = 300,
         .a = TENON_F64,
         .c = TENON_F64,
         .b_layout = TRANSPOSED},
        {.name = "many rows",
         .m = 301,
         .n = 133,
         .k = 300,
         .beta = 0.5,
         .residual = FULL,
         .c_layout = TRANSPOSED},
        {.name = "many rows",
         .m = 301,
         .n = 77,
         .k = 300,
         .gated = TENON_GATED_INTERLEAVED,
         .activation = TENON_ACTIVATION_SILU},
        {.name = "many rows",
         .m = 301,
         .n = 77,
         .k = 300,
         .gated = TENON_GATED_HALVES,
         .a = TENON_BF16,
         .c = TENON_BF16},
        {.name = "many rows",
         .m = 301,
         .n = 133,
         .k = 300,
         .b = TENON_S8,
         .b_scale = PER_BOTH,
         .groups = 4,
         .packed = 1},
        {.name = "many rows",
         .m = 301,
         .n = 133,
         .k = 520,
         .packed = 1,
         .bias = ROW,
         .c_layout = PADDED},
        {.name = "many rows", .m = 301, .n = 133, .k = 520, INT8, .c = TENON_S32},
        {.name = "more than a block", .m = 1101, .n = 2113, .k = 5, .beta = 1},
        {.name = "more than a block", .m = 4201, .n = 81, .k = 3},
        {.name = "more than a block",
         .m = 301,
         .n = 4211,
         .k = 7,
         .a_layout = TRANSPOSED,
         .activation = TENON_ACTIVATION_RELU},
        {.name = "tall", .m = 1031, .n = 7, .k = 65},
        {.name = "wide", .m = 7, .n = 4099, .k = 33},
        {.name = "column", .m = 1031, .n = 1, .k = 65},
        {.name = "row", .m = 1, .n = 4099, .k = 65},
        {.name = "square", .m = 193, .n = 193, .k = 193, .a = TENON_BF16, .c = TENON_BF16},
    };
    world w = world_start("gemm large", device_id[_i]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        run_gemm_case(&w, &cases[i]);
    world_end(&w);
}
END_TEST

/* Sums so long, of so few elements, that the blocks of k are shared out: whole blocks and a tail, one pass and several. */
START_TEST(long_sums) {
    static const gemm_case cases[] = {
        {.name = "plain"},
        {.name = "plain f64", .a = TENON_F64, .c = TENON_F64},
        {.name = "beta", .alpha = 0.7, .beta = -0.6},
        {.name = "bias",
         .bias = ROW,
         .residual = FULL,
         .activation = TENON_ACTIVATION_GELU,
         .c = TENON_BF16},
        {.name = "residual is c", .residual = ALIAS},
        {.name = "gated", .gated = TENON_GATED_HALVES, .activation = TENON_ACTIVATION_SILU},
        {.name = "gated", .gated = TENON_GATED_INTERLEAVED, .bias = ROW},
        {.name = "packed", .packed = 1, .bias = COLUMN},
        {.name = "bf16", .a = TENON_BF16, .c = TENON_BF16},
        {.name = "bytes", INT8, .c = TENON_S32},
        {.name = "scales", INT8, .a_scale = PER_ROW, .b_scale = PER_ROW},
        {.name = "groups", .b = TENON_S8, .b_scale = PER_BOTH, .groups = 4},
        {.name = "batch", .batch_rank = 1, .batch = {2}, .beta = 1},
        {.name = "arrays", .array = 2},
    };
    static const int64_t sizes[][3] = {{5, 17, 2100}, {1, 1, 4352}, {33, 20, 1536}, {70, 49, 1028}};
    static const layout pairs[][2] = {
        {DENSE, DENSE}, {TRANSPOSED, PADDED}, {PADDED, TRANSPOSED}, {TRANSPOSED, TRANSPOSED}};
    world w = world_start("gemm long sums", device_id[_i]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        for (size_t size = 0; size < 4; ++size) {
            gemm_case x = cases[i];
            x.m = sizes[size][0];
            x.n = sizes[size][1];
            x.k = sizes[size][2];
            x.a_layout = pairs[(i + size) % 4][0];
            x.b_layout = pairs[(i + size) % 4][1];
            x.c_layout = i % 3 ? DENSE : TRANSPOSED;
            run_gemm_case(&w, &x);
        }
    world_end(&w);
}
END_TEST

/* Sums of at most a block, with nothing but alpha and beta: A read in place, and B in place or in strips. */
START_TEST(short_sums) {
    static const int64_t sizes[][3] = {{32, 1100, 32}, {33, 517, 31}, {1031, 32, 32},
                                       {517, 9, 256},  {300, 5, 77},  {67, 130, 255},
                                       {40, 300, 256}, {130, 70, 1},  {261, 270, 130}};
    static const layout kinds[] = {DENSE, TRANSPOSED, PADDED, REVERSED, STEPPED};
    enum { LISTED = sizeof kinds / sizeof *kinds };
    world w = world_start("gemm short sums", device_id[_i]);
    for (int i = 0; i < 9; ++i)
        for (int turn = 0; turn < LISTED; ++turn) {
            gemm_case x = {.name = "short sum",
                           .m = sizes[i][0],
                           .n = sizes[i][1],
                           .k = sizes[i][2],
                           .a = turn == 3 ? TENON_F64 : TENON_F32,
                           .c = turn == 3 ? TENON_F64 : TENON_F32,
                           .a_layout = kinds[(i + turn) % LISTED],
                           .b_layout = kinds[turn],
                           .c_layout = turn % 2 ? PADDED : DENSE,
                           .alpha = turn % 3 ? 0 : 0.7,
                           .beta = i % 3 ? 0 : -0.5};
            if (turn == 1) {
                x.batch_rank = 2;
                x.batch[0] = 2;
                x.batch[1] = 3;
                x.b_once = i % 3;
            } else if (turn == 2) {
                x.array = 3;
            }
            run_gemm_case(&w, &x);
        }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- types */

START_TEST(types) {
    static const tenon_dtype in[] = {TENON_F64,     TENON_F32,     TENON_F16, TENON_BF16,
                                     TENON_F8_E4M3, TENON_F8_E5M2, TENON_S8,  TENON_U8};
    static const tenon_dtype out[] = {TENON_F64,  TENON_F32,     TENON_F16,
                                      TENON_BF16, TENON_F8_E4M3, TENON_F8_E5M2,
                                      TENON_S8,   TENON_U8,      TENON_S32};
    enum { IN = sizeof in / sizeof *in, OUT = sizeof out / sizeof *out };
    world w = world_start("gemm types", device_id[_i]);
    for (int a = 0; a < IN; ++a)
        for (int b = 0; b < IN; ++b)
            for (int c = 0; c < OUT; ++c) {
                const bool integers = in[a] >= TENON_S8 && in[b] >= TENON_S8;
                const int turn = a + 2 * b + 3 * c;
                if (out[c] == TENON_S32 && !integers)
                    continue;
                run_gemm_case(&w, &(gemm_case){.name = "types",
                                               .m = turn % 3 ? 7 : 1,
                                               .n = 21,
                                               .k = 35,
                                               .a = in[a],
                                               .b = in[b],
                                               .c = out[c],
                                               .extra = TENON_F32,
                                               .a_layout = (layout)(turn % LAYOUTS),
                                               .b_layout = (layout)(turn / 3 % LAYOUTS),
                                               .c_scale = out[c] == TENON_S8 || out[c] == TENON_U8
                                                              ? SCALAR
                                                              : ABSENT,
                                               .bias = turn % 4 == 0 ? ROW : ABSENT});
            }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- bytes: exact sums, and what is done to them */

static const gemm_case byte_cases[] = {
    {.name = "sum", INT8, .c = TENON_S32},
    {.name = "sum", UINT8, .c = TENON_S32},
    {.name = "sum", .a = TENON_S8, .b = TENON_U8, .c = TENON_S32},
    {.name = "sum", .a = TENON_U8, .b = TENON_U8, .c = TENON_S32},
    {.name = "packed", INT8, .c = TENON_S32, .packed = 1},
    {.name = "packed", UINT8, .packed = 1},
    {.name = "c turned", UINT8, .c = TENON_S32, .c_layout = TRANSPOSED},
    {.name = "a zero", UINT8, .c = TENON_S32, .a_zero = PER_ROW, .zero = TENON_U8},
    {.name = "a zero packed",
     UINT8,
     .c = TENON_S32,
     .a_zero = PER_TENSOR,
     .zero = TENON_U8,
     .packed = 1},
    {.name = "a zero in groups", INT8, .c = TENON_S32, .a_zero = PER_BOTH, .zero = TENON_S8},
    {.name = "b zero", UINT8, .c = TENON_S32, .b_zero = PER_ROW, .zero = TENON_S8},
    {.name = "b zero packed", INT8, .b_zero = PER_BOTH, .zero = TENON_S8, .packed = 1},
    {.name = "both zeros",
     .a = TENON_U8,
     .b = TENON_U8,
     .a_zero = PER_ROW,
     .b_zero = PER_ROW,
     .zero = TENON_U8},
    {.name = "both zeros packed",
     .a = TENON_S8,
     .b = TENON_U8,
     .c = TENON_S32,
     .a_zero = PER_ROW,
     .b_zero = PER_ROW,
     .zero = TENON_S8,
     .packed = 1},
    {.name = "scales", INT8, .a_scale = PER_ROW, .b_scale = PER_ROW},
    {.name = "scales in s32", INT8, .c = TENON_S32, .a_scale = PER_ROW, .b_scale = PER_ROW},
    {.name = "scales turned",
     INT8,
     .a_scale = PER_ROW,
     .b_scale = PER_TENSOR,
     .c_layout = TRANSPOSED},
    {.name = "scales packed", INT8, .b_scale = PER_ROW, .bias = ROW, .packed = 1},
    {.name = "scales and zeros",
     UINT8,
     .c = TENON_BF16,
     .a_scale = PER_TENSOR,
     .a_zero = PER_TENSOR,
     .b_scale = PER_ROW,
     .zero = TENON_U8,
     .bias = ROW,
     .activation = TENON_ACTIVATION_RELU},
    {.name = "scales in groups", INT8, .a_scale = PER_ROW, .b_scale = PER_BOTH},
    {.name = "gated scales",
     INT8,
     .a_scale = PER_ROW,
     .b_scale = PER_ROW,
     .gated = TENON_GATED_INTERLEAVED,
     .activation = TENON_ACTIVATION_SILU},
    {.name = "gated scales", INT8, .b_scale = PER_ROW, .gated = TENON_GATED_HALVES},
    {.name = "requantised",
     UINT8,
     .c = TENON_U8,
     .a_scale = PER_ROW,
     .b_scale = PER_ROW,
     .c_scale = SCALAR,
     .c_zero = SCALAR},
    {.name = "requantised", INT8, .c = TENON_S8, .c_scale = ROW, .residual = FULL},
};

START_TEST(byte_sums) {
    static const int64_t sizes[][3] = {{1, 70, 64}, {3, 37, 66}, {13, 65, 300}, {40, 100, 514}};
    world w = world_start("gemm byte sums", device_id[_i]);
    for (size_t i = 0; i < sizeof byte_cases / sizeof *byte_cases; ++i)
        for (size_t size = 0; size < 4; ++size) {
            gemm_case x = byte_cases[i];
            x.m = sizes[size][0];
            x.n = sizes[size][1];
            x.k = sizes[size][2];
            x.b_layout = (i + size) % 2 ? TRANSPOSED : DENSE;
            run_gemm_case(&w, &x);
        }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- every field, on a row, a small and a larger problem */

static const gemm_case features[] = {
    {.name = "alpha", .alpha = 0.7},
    {.name = "alpha f64", .alpha = -1.3, .a = TENON_F64, .c = TENON_F64},
    {.name = "beta", .beta = -0.6},
    {.name = "beta 1", .beta = 1, .c_layout = TRANSPOSED},
    {.name = "alpha beta f16", .alpha = 1.5, .beta = 0.5, .c = TENON_F16},
    {.name = "beta s32", INT8, .c = TENON_S32, .beta = 2},
    {.name = "beta quantised", .beta = 0.5, .c = TENON_S8, .c_scale = SCALAR, .c_zero = SCALAR},
    {.name = "bias scalar", .bias = SCALAR},
    {.name = "bias row", .bias = ROW},
    {.name = "bias column", .bias = COLUMN, .extra = TENON_BF16},
    {.name = "bias full", .bias = FULL, .extra = TENON_F16},
    {.name = "bias f64", .bias = ROW, .extra = TENON_F64},
    {.name = "residual row", .residual = ROW},
    {.name = "residual column", .residual = COLUMN},
    {.name = "residual full", .residual = FULL, .extra = TENON_BF16},
    {.name = "residual is c", .residual = ALIAS, .bias = ROW, .activation = TENON_ACTIVATION_SILU},
    {.name = "residual is c, bf16",
     .residual = ALIAS,
     .a = TENON_BF16,
     .c = TENON_BF16,
     .c_layout = PADDED},
    {.name = "relu", .activation = TENON_ACTIVATION_RELU, .bias = ROW},
    {.name = "gelu", .activation = TENON_ACTIVATION_GELU},
    {.name = "gelu f64", .activation = TENON_ACTIVATION_GELU, .a = TENON_F64, .c = TENON_F64},
    {.name = "gelu tanh", .activation = TENON_ACTIVATION_GELU_TANH},
    {.name = "gelu tanh f64",
     .activation = TENON_ACTIVATION_GELU_TANH,
     .a = TENON_F64,
     .c = TENON_F64},
    {.name = "silu", .activation = TENON_ACTIVATION_SILU},
    {.name = "silu f64", .activation = TENON_ACTIVATION_SILU, .a = TENON_F64, .c = TENON_F64},
    {.name = "sigmoid", .activation = TENON_ACTIVATION_SIGMOID, .bias = COLUMN},
    {.name = "sigmoid f64", .activation = TENON_ACTIVATION_SIGMOID, .a = TENON_F64, .c = TENON_F64},
    {.name = "tanh", .activation = TENON_ACTIVATION_TANH, .residual = FULL},
    {.name = "tanh f64", .activation = TENON_ACTIVATION_TANH, .a = TENON_F64, .c = TENON_F64},
    {.name = "clamp",
     .activation = TENON_ACTIVATION_CLAMP,
     .clamp_low = -0.5,
     .clamp_high = 1.25,
     .alpha = 2},
    {.name = "gated halves", .gated = TENON_GATED_HALVES, .activation = TENON_ACTIVATION_SILU},
    {.name = "gated interleaved",
     .gated = TENON_GATED_INTERLEAVED,
     .activation = TENON_ACTIVATION_GELU,
     .bias = ROW},
    {.name = "gated linear", .gated = TENON_GATED_HALVES, .bias = FULL, .residual = FULL},
    {.name = "gated transposed",
     .gated = TENON_GATED_INTERLEAVED,
     .b_layout = TRANSPOSED,
     .a = TENON_BF16,
     .c = TENON_BF16},
    {.name = "gated f64",
     .gated = TENON_GATED_INTERLEAVED,
     .a = TENON_F64,
     .c = TENON_F64,
     .activation = TENON_ACTIVATION_SIGMOID},
    {.name = "everything",
     .alpha = 0.9,
     .beta = 0.4,
     .bias = ROW,
     .residual = FULL,
     .activation = TENON_ACTIVATION_GELU,
     .a_layout = TRANSPOSED,
     .b_layout = BACKWARD,
     .c_layout = STEPPED},
    {.name = "a_scale tensor", .a_scale = PER_TENSOR},
    {.name = "a_scale row", .a_scale = PER_ROW, .a = TENON_S8, .b = TENON_F32},
    {.name = "a_scale group", .a_scale = PER_GROUP, .groups = 4, .a = TENON_F8_E4M3},
    {.name = "a_scale row group", .a_scale = PER_BOTH, .groups = 4, .a = TENON_BF16},
    {.name = "b_scale tensor", .b_scale = PER_TENSOR, .b = TENON_S8},
    {.name = "b_scale column", .b_scale = PER_ROW, .b = TENON_S8},
    {.name = "b_scale group", .b_scale = PER_GROUP, .groups = 8, .b = TENON_F8_E5M2},
    {.name = "b_scale column group",
     .b_scale = PER_BOTH,
     .groups = 4,
     .b = TENON_S8,
     .extra = TENON_F16},
    {.name = "weights with zeros",
     .b_scale = PER_BOTH,
     .b_zero = PER_BOTH,
     .groups = 4,
     .b = TENON_U8,
     .zero = TENON_U8},
    {.name = "weights with real zeros",
     .b_scale = PER_BOTH,
     .b_zero = PER_ROW,
     .groups = 2,
     .b = TENON_U8},
    {.name = "both quantised",
     UINT8,
     .a_scale = PER_ROW,
     .b_scale = PER_ROW,
     .a_zero = PER_ROW,
     .b_zero = PER_ROW,
     .zero = TENON_S32},
    {.name = "bf16 scaled", BFLOAT16, .a_scale = PER_ROW, .b_scale = PER_ROW},
    {.name = "bf16 scaled to bf16",
     BFLOAT16,
     .c = TENON_BF16,
     .a_scale = PER_TENSOR,
     .alpha = 0.7,
     .beta = 0.3,
     .bias = ROW},
    {.name = "bf16 scaled, gated",
     BFLOAT16,
     .b_scale = PER_ROW,
     .gated = TENON_GATED_INTERLEAVED,
     .activation = TENON_ACTIVATION_SILU},
    {.name = "f8 scaled",
     .a = TENON_F8_E4M3,
     .b = TENON_F8_E5M2,
     .a_scale = PER_ROW,
     .b_scale = PER_TENSOR,
     .packed = 1},
    {.name = "bf16 scaled in groups", BFLOAT16, .b_scale = PER_BOTH, .groups = 4},
    {.name = "integers", UINT8, .c = TENON_S32},
    {.name = "integers in f32", INT8, .c = TENON_F32, .alpha = 0.01, .bias = ROW},
    {.name = "integers with zeros",
     UINT8,
     .c = TENON_S32,
     .a_zero = PER_TENSOR,
     .b_zero = PER_ROW,
     .zero = TENON_S8},
    {.name = "integers grouped zeros",
     UINT8,
     .c = TENON_S32,
     .a_zero = PER_BOTH,
     .b_zero = PER_GROUP,
     .groups = 4,
     .zero = TENON_S32},
    {.name = "quantised out", .c = TENON_S8, .c_scale = ROW, .c_zero = SCALAR},
    {.name = "quantised out u8",
     .c = TENON_U8,
     .c_scale = SCALAR,
     .c_zero = ROW,
     .activation = TENON_ACTIVATION_RELU},
    {.name = "requantised", INT8, .c = TENON_S8, .c_scale = COLUMN, .bias = ROW},
    {.name = "scaled f8 out", .c = TENON_F8_E4M3, .c_scale = SCALAR},
    {.name = "scaled f8 out", .c = TENON_F8_E5M2, .c_scale = FULL},
    {.name = "batch", .batch_rank = 1, .batch = {5}},
    {.name = "batch of two ranks",
     .batch_rank = 2,
     .batch = {2, 3},
     .bias = FULL,
     .a_layout = REVERSED},
    {.name = "batch, b once",
     .batch_rank = 2,
     .batch = {2, 3},
     .b_once = 1,
     .b_layout = TRANSPOSED},
    {.name = "batch, a broadcast", .batch_rank = 2, .batch = {3, 2}, .a_once = 2, .residual = FULL},
    {.name = "batch, both broadcast",
     .batch_rank = 1,
     .batch = {3},
     .a_once = 1,
     .b_once = 2,
     .c_layout = REVERSED},
    {.name = "batch beta", .batch_rank = 1, .batch = {3}, .beta = 0.5, .c_layout = PADDED},
    {.name = "batch of none", .batch_rank = 1, .batch = {0}},
    {.name = "grouped", .experts = 3},
    {.name = "grouped s64",
     .experts = 4,
     .offsets = TENON_S64,
     .b_layout = TRANSPOSED,
     .bias = ROW},
    {.name = "grouped gated",
     .experts = 3,
     .gated = TENON_GATED_HALVES,
     .activation = TENON_ACTIVATION_SILU},
    {.name = "grouped bf16", .experts = 5, .a = TENON_BF16, .c = TENON_BF16, .residual = FULL},
    {.name = "arrays", .array = 4},
    {.name = "arrays strided",
     .array = 3,
     .a_layout = PADDED,
     .b_layout = STEPPED,
     .c_layout = PADDED,
     .bias = ROW,
     .beta = 1},
    {.name = "packed", .packed = 1},
    {.name = "packed f64", .packed = 1, .a = TENON_F64, .c = TENON_F64, .b_layout = TRANSPOSED},
    {.name = "packed bf16", .packed = 1, .a = TENON_BF16, .b_layout = REVERSED, .bias = ROW},
    {.name = "packed gated",
     .packed = 1,
     .gated = TENON_GATED_INTERLEAVED,
     .activation = TENON_ACTIVATION_SILU},
    {.name = "packed batch", .packed = 1, .batch_rank = 2, .batch = {2, 3}},
    {.name = "packed shared", .packed = 1, .batch_rank = 1, .batch = {4}, .b_once = 1},
    {.name = "packed experts", .packed = 1, .experts = 3},
    {.name = "packed scaled", .packed = 1, .b = TENON_S8, .b_scale = PER_BOTH, .groups = 4},
    {.name = "exact", .compute = TENON_COMPUTE_EXACT, .a = TENON_BF16},
    {.name = "fast",
     .compute = TENON_COMPUTE_FAST,
     .bias = ROW,
     .activation = TENON_ACTIVATION_RELU},
    {.name = "fast mixed", .compute = TENON_COMPUTE_FAST, .b = TENON_BF16, .b_layout = TRANSPOSED},
    {.name = "fast f8",
     .compute = TENON_COMPUTE_FAST,
     .a = TENON_F8_E4M3,
     .b = TENON_F8_E5M2,
     .a_scale = PER_ROW,
     .b_scale = PER_ROW,
     .b_layout = TRANSPOSED},
    {.name = "fast f8 turned",
     .compute = TENON_COMPUTE_FAST,
     .a = TENON_F8_E5M2,
     .b = TENON_F8_E4M3,
     .a_layout = TRANSPOSED},
    {.name = "fast f8 gated",
     .compute = TENON_COMPUTE_FAST,
     .a = TENON_F8_E4M3,
     .gated = TENON_GATED_HALVES,
     .activation = TENON_ACTIVATION_SILU},
};
enum { FEATURES = sizeof features / sizeof *features };

START_TEST(every_field) {
    static const int64_t m[] = {1, 6, 35, 263}, n[] = {17, 8, 50, 70}, k[] = {40, 24, 264, 16};
    world w = world_start("gemm fields", device_id[_i]);
    for (int f = 0; f < FEATURES; ++f)
        for (int size = 0; size < 4; ++size) {
            gemm_case x = features[f];
            x.m = m[size];
            x.n = n[size];
            x.k = k[size];
            run_gemm_case(&w, &x);
        }
    world_end(&w);
}
END_TEST

/* With k = 1 the sum adds next to nothing to the bound, so that it is the functions' own error that is held to it. */
START_TEST(activations) {
    static const double reach[] = {0.01, 1, 4, 12, 90};
    world w = world_start("gemm activations", device_id[_i]);
    for (int kind = TENON_ACTIVATION_RELU; kind <= TENON_ACTIVATION_TANH; ++kind)
        for (size_t i = 0; i < sizeof reach / sizeof *reach; ++i)
            for (int f64 = 0; f64 < 2; ++f64)
                run_gemm_case(&w, &(gemm_case){.name = "activation",
                                               .activation = (tenon_activation)kind,
                                               .reach = reach[i],
                                               .m = 61,
                                               .n = 83,
                                               .k = 1,
                                               .a = f64 ? TENON_F64 : TENON_F32,
                                               .c = f64 ? TENON_F64 : TENON_F32});
    world_end(&w);
}
END_TEST

/* Fields meet each other: features combined at random, as far as they go together. */
START_TEST(combinations) {
    world w = world_start("gemm combinations", device_id[_i]);
    for (int i = 0; i < 300; ++i) {
        rng *r = &w.random;
        gemm_case x = {.name = "combination",
                       .m = rng_between(r, 1, 40),
                       .n = rng_between(r, 1, 70),
                       .k = 8 * rng_between(r, 0, 20)};
        static const tenon_dtype pick[] = {TENON_F32, TENON_F32,  TENON_F64,
                                           TENON_F16, TENON_BF16, TENON_S8};
        x.a = pick[rng_below(r, 6)];
        x.b = pick[rng_below(r, 6)];
        x.c = pick[rng_below(r, 5)];
        x.extra = pick[rng_below(r, 5)];
        x.a_layout = (layout)rng_below(r, LAYOUTS);
        x.b_layout = (layout)rng_below(r, LAYOUTS);
        x.c_layout = rng_below(r, 2) ? DENSE : TRANSPOSED;
        if (rng_below(r, 2))
            x.alpha = 1.25;
        x.gated = rng_below(r, 4) ? TENON_GATED_NONE : (tenon_gated)rng_between(r, 1, 2);
        if (!x.gated && rng_below(r, 3) == 0)
            x.beta = 0.75;
        x.bias = (spread)rng_below(r, ALIAS);
        x.residual = (spread)rng_below(r, ALIAS + 1);
        x.activation = (tenon_activation)rng_below(r, TENON_ACTIVATION_CLAMP);
        x.groups = x.k ? 4 : 1;
        x.a_scale = rng_below(r, 3) ? NO_QUANTUM : (quantum)rng_between(r, PER_TENSOR, PER_BOTH);
        x.b_scale = rng_below(r, 3) ? NO_QUANTUM : (quantum)rng_between(r, PER_TENSOR, PER_BOTH);
        x.b_zero = rng_below(r, 3) ? NO_QUANTUM : (quantum)rng_between(r, PER_TENSOR, PER_BOTH);
        if (rng_below(r, 3) == 0) {
            x.batch_rank = (int32_t)rng_between(r, 1, 2);
            x.batch[0] = rng_between(r, 1, 3);
            x.batch[1] = rng_between(r, 1, 3);
            x.b_once = (int32_t)rng_below(r, 3);
        }
        run_gemm_case(&w, &x);
    }
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {shapes, layouts,   large,       long_sums,   short_sums,
                                  types,  byte_sums, every_field, activations, combinations};
    return conform_main("conformance gemm", tests, sizeof tests / sizeof *tests);
}
