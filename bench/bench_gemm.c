/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_gemm.c: `tenon bench gemm`: shapes, layouts and types of matrix products as jobs for
 * bench_run.c, and the check of what was computed: sampled outputs as double sums, written
 * independently of tenon's reference.
 */
#include "bench.h"
#include "bench_blocks.h"
#include "gemm_shapes.h"

#include <math.h>
#include <string.h>

/* Multiply-adds spent on checking one result; about a tenth of a second. */
#define CHECK_BUDGET (INT64_C(1) << 22)

/* clang-format off */
static const char *const notes =
    "Layouts name A, then B: n is stored as it is multiplied (m x k, k x n), t as its transpose; all\n"
    "row-major and dense.\n\n"
    "columns:\n"
    BENCH_NOTES_TIME
    "  GFLOP/s      2 m n k batch operations\n"
    "  GB/s         every operand once\n"
    BENCH_NOTES_ROOF
    "  error        largest |result - exact| / sum |a||b| of a sample of outputs\n"
    "  vs NAME      the peer's median, and how many times tenon's that is\n\n"
    BENCH_NOTES_METHOD "\n\n"
    "Peers run on as many threads and take turns with tenon, repetition by repetition. Whoever is timed\n"
    "has its threads up and nobody else's running: a turn begins when the process has used next to no\n"
    "processor time for 12 ms (helper threads of most libraries spin for 30 to 200 ms before they\n"
    "sleep; those that never sleep are waited for 250 ms), then come the calls that do not count. A\n"
    "peer that has several functions for a product (gemv where m or n is 1, gemm_batch_strided) is\n"
    "timed with each, and its fastest counts. What a peer prepares once for a product (a packed B, code\n"
    "or a primitive made for the shape), as tenon its plan, is not timed.";
/* clang-format on */

/* What --dtype says, and the types of A, B and C that it stands for. */
static const char *const dtype_words[] = {
    "f32",  "f64",  "f16",  "bf16", "s8",   "u8",   "f8_e4m3", "f8_e5m2", "q8_0", "q4_0",
    "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "iq4_nl",  "mxfp4",   "nvfp4"};
static const struct types {
    tenon_dtype a, b, c;
} types[] = {{TENON_F32, TENON_F32, TENON_F32},         {TENON_F64, TENON_F64, TENON_F64},
             {TENON_F16, TENON_F16, TENON_F16},         {TENON_BF16, TENON_BF16, TENON_BF16},
             {TENON_S8, TENON_S8, TENON_S32},           {TENON_U8, TENON_S8, TENON_S32},
             {TENON_F8_E4M3, TENON_F8_E4M3, TENON_F32}, {TENON_F8_E5M2, TENON_F8_E5M2, TENON_F32},
             {TENON_F32, TENON_Q8_0, TENON_F32},        {TENON_F32, TENON_Q4_0, TENON_F32},
             {TENON_F32, TENON_Q4_1, TENON_F32},        {TENON_F32, TENON_Q5_0, TENON_F32},
             {TENON_F32, TENON_Q5_1, TENON_F32},        {TENON_F32, TENON_Q4_K, TENON_F32},
             {TENON_F32, TENON_Q5_K, TENON_F32},        {TENON_F32, TENON_Q6_K, TENON_F32},
             {TENON_F32, TENON_IQ4_NL, TENON_F32},      {TENON_F32, TENON_MXFP4, TENON_F32},
             {TENON_F32, TENON_NVFP4, TENON_F32}};

/* What --b says. */
static const char *const b_words[] = {"plain", "prepacked"};
enum { B_PLAIN, B_PREPACKED, B_WAYS };
typedef struct gemm_ways {
    const char *text;
    int items[B_WAYS];
    size_t count;
} gemm_ways;

/* What --compute says. */
static const char *const compute_words[] = {"default", "exact", "fast"};

typedef struct gemm {
    int64_t m, n, k, batch;
    bool a_transposed, b_transposed, prepacked;
    tenon_compute compute;
    bench_array a, b, c;
    bench_array packed;   /* B as tenon packs it for the context of the plan; bytes */
    tenon_gemm_desc desc; /* filled once: a call costs a fraction of filling it */
} gemm;

static tenon_tensor operand(const bench_array *array, int64_t batch, int64_t rows, int64_t columns,
                            bool transposed) {
    const int64_t stored_rows = transposed ? columns : rows,
                  stored_columns = transposed ? rows : columns;
    const tenon_tensor t =
        batch == 1 ? tenon_matrix(array->data, array->dtype, stored_rows, stored_columns)
                   : tenon_tensor3(array->data, array->dtype, batch, stored_rows, stored_columns);
    return transposed ? tenon_transposed(t) : t;
}

static tenon_gemm_desc describe(const gemm *g) {
    return (tenon_gemm_desc){
        .struct_size = sizeof(tenon_gemm_desc),
        .a = operand(&g->a, g->batch, g->m, g->k, g->a_transposed),
        .b = operand(&g->b, g->batch, g->k, g->n, g->b_transposed),
        .c = operand(&g->c, g->batch, g->m, g->n, false),
        .compute = g->compute,
    };
}

/* Packs B for the context, whose kernels decide how. */
static tenon_status pack(gemm *g, tenon_context *context) {
    size_t bytes = 0;
    g->desc = describe(g);
    bench_array_free(&g->packed);
    tenon_status status = tenon_gemm_pack_size(context, &g->desc, &bytes);
    if (status == TENON_OK && !bench_array_make(&g->packed, TENON_U8, (int64_t)bytes))
        status = TENON_ERROR_OUT_OF_MEMORY;
    if (status == TENON_OK)
        status = tenon_gemm_pack(context, &g->desc, g->packed.data, bytes);
    if (status == TENON_OK) {
        g->desc.b_packed = g->packed.data;
        g->desc.b_packed_bytes = bytes;
    }
    return status;
}

static tenon_status plan(void *state, tenon_context *context, size_t workspace, tenon_plan **out) {
    gemm *g = state;
    const tenon_status status = g->prepacked ? pack(g, context) : TENON_OK;
    tenon_gemm_desc desc = g->desc;
    desc.workspace.bytes = workspace;
    return status == TENON_OK ? tenon_gemm_plan(context, &desc, out) : status;
}

static tenon_status run(void *state, tenon_context *context, const tenon_plan *p) {
    return tenon_gemm_run(context, p, &((const gemm *)state)->desc);
}

/* |result - exact| / sum |a||b| of one output; 0 where both are 0. */
static double error_at(const gemm *g, const bench_array *result, int64_t batch, int64_t i,
                       int64_t j) {
    double sum = 0, magnitude = 0;
    for (int64_t p = 0; p < g->k; ++p) {
        const double a = bench_array_get(
            &g->a, batch * g->m * g->k + (g->a_transposed ? p * g->m + i : i * g->k + p));
        const double b = bench_array_get(
            &g->b, batch * g->k * g->n + (g->b_transposed ? j * g->k + p : p * g->n + j));
        sum += a * b;
        magnitude += fabs(a * b);
    }
    const double difference = fabs(bench_array_get(result, (batch * g->m + i) * g->n + j) - sum);
    return difference == 0 ? 0 : difference / magnitude;
}

static double error(void *state, const bench_array *result) {
    const gemm *g = state;
    const int64_t outputs = g->batch * g->m * g->n, affordable = CHECK_BUDGET / g->k + 4;
    uint64_t random = 1;
    double worst = 0;
    for (int64_t s = 0; s < outputs && s < affordable; ++s) {
        /* All of them where that is affordable; else the corners, then anywhere. */
        const int64_t at = outputs <= affordable ? s
                           : s == 0              ? 0
                           : s == 1              ? g->n - 1
                           : s == 2              ? outputs - g->n
                           : s == 3              ? outputs - 1
                                    : (int64_t)(bench_random(&random) % (uint64_t)outputs);
        const double e = error_at(g, result, at / (g->m * g->n), at / g->n % g->m, at % g->n);
        if (!(e <= worst))
            worst = e;
        if (isnan(worst))
            break;
    }
    return worst;
}

static peer_product product(void *state, const bench_array *result) {
    const gemm *g = state;
    return (peer_product){
        .a_type = g->a.dtype,
        .b_type = g->b.dtype,
        .c_type = g->c.dtype,
        .a_transposed = g->a_transposed,
        .b_transposed = g->b_transposed,
        .prepacked = g->prepacked,
        .m = g->m,
        .n = g->n,
        .k = g->k,
        .batch = g->batch,
        .a = g->a.data,
        .b = g->b.data,
        .c = result->data,
    };
}

static peak_kind arithmetic_limit(const struct types *type, tenon_compute compute) {
    if (bench_is_block(type->b))
        return compute == TENON_COMPUTE_FAST ? PEAK_DOT_I8 : PEAK_FMA_F32;
    switch (type->a) {
    case TENON_F64:
        return PEAK_FMA_F64;
    case TENON_BF16: /* which holds both f8 types exactly */
    case TENON_F8_E4M3:
    case TENON_F8_E5M2:
        return peak_best(PEAK_DOT_BF16) ? PEAK_DOT_BF16 : PEAK_FMA_F32;
    case TENON_S8:
    case TENON_U8:
        return PEAK_DOT_I8;
    default:
        return PEAK_FMA_F32;
    }
}

static void job(bench_session *session, gemm *g, const gemm_shape *shape, int dtype,
                const char *way) {
    const struct types *type = &types[dtype];
    if (bench_is_block(type->b) && !g->b_transposed) {
        complain("b of %s: its columns are contiguous, layout nt or tt", dtype_words[dtype]);
        ++session->failures;
        return;
    }
    const double k = (double)g->k;
    const int64_t a = bench_count((const int64_t[]){g->batch, g->m, g->k}, 3);
    const int64_t b = bench_count((const int64_t[]){g->batch, g->k, g->n}, 3);
    const int64_t c = bench_count((const int64_t[]){g->batch, g->m, g->n}, 3);
    if (!bench_array_make(&g->a, type->a, a) || !bench_array_make(&g->b, type->b, b) ||
        !bench_array_make(&g->c, type->c, c)) {
        ++session->failures;
        goto out;
    }
    bench_array_fill(&g->a, 1);
    bench_array_fill(&g->b, 2);
    g->desc = describe(g);
    const bench_job j = {
        .op = "gemm",
        .suite = shape->suite,
        .way = way,
        .dtype = dtype_words[dtype],
        .shape = {{"m", NULL, g->m, false},
                  {"n", NULL, g->n, false},
                  {"k", NULL, g->k, false},
                  {"batch", NULL, g->batch, false},
                  {"layout", shape->layout, 0, false},
                  {"way", way, 0, false}},
        .shape_count = way ? 6 : 5,
        .flops = 2 * (double)g->batch * (double)g->m * (double)g->n * k,
        .bytes = (double)(g->a.bytes + g->b.bytes + g->c.bytes),
        .arithmetic = arithmetic_limit(type, g->compute),
        .memory = PEAK_READ,
        /* A sum of k products in any order, in f32 (f64: f64; integers: exact), rounded once to the
           type of C. */
        .error_bound = type->c == TENON_S32 ? 0
                       : bench_is_block(type->b) && g->compute == TENON_COMPUTE_FAST
                           ? 1.0 / 127 /* A rounded to bytes: of a block's largest, not of each */
                       : type->c == TENON_F64
                           ? (k + 2) * bench_rounding(TENON_F64) * 2
                           : (k + 2) * bench_rounding(TENON_F32) + bench_rounding(type->c),
        .arrays = {&g->a, g->prepacked ? &g->packed : &g->b},
        .result = &g->c,
        .plan = plan,
        .run = run,
        .error = error,
        .product = product,
        .state = g,
    };
    bench_run(session, &j);
out:
    bench_array_free(&g->a);
    bench_array_free(&g->b);
    bench_array_free(&g->c);
    bench_array_free(&g->packed);
}

static void measure(bench_session *session, const gemm_shape *shape, const gemm_ways *ways,
                    tenon_compute compute) {
    const bench_settings *settings = session->settings;
    for (size_t d = 0; d < settings->dtype_count; ++d)
        for (size_t w = 0; w < ways->count; ++w) {
            gemm g = {.m = shape->m,
                      .n = shape->n,
                      .k = shape->k,
                      .batch = shape->batch,
                      .a_transposed = shape->layout[0] == 't',
                      .b_transposed = shape->layout[1] == 't',
                      .compute = compute,
                      .prepacked = ways->items[w] == B_PREPACKED};
            job(session, &g, shape, settings->dtypes[d],
                ways->text ? b_words[ways->items[w]] : NULL);
        }
}

static bool parse_ways(gemm_ways *ways, const bench_settings *settings) {
    ways->count = shapes_parse_words("--b", ways->text ? ways->text : b_words[B_PLAIN], b_words,
                                     B_WAYS, ways->items, B_WAYS);
    for (size_t w = 0; w < ways->count; ++w)
        if (ways->items[w] == B_PREPACKED && settings->cold) {
            complain("--b: what peers have packed cannot be put out of the caches: prepacked is "
                     "not measured --cold");
            return false;
        }
    return ways->count > 0;
}

int bench_gemm(int argc, char **argv) {
    bench_settings settings = {0};
    gemm_shapes_options wanted = {0};
    gemm_ways ways = {0};
    bool list = false;
    const char *compute_text = "default";
    int compute = 0;
    const options_row rows[] = {
        GEMM_SHAPES_ROWS(&wanted),
        {"--b", "LIST",
         "of plain (as it lies) and prepacked (constant: tenon and the\npeers that can have it in "
         "a layout of their own) (default:\nplain)",
         &ways.text, NULL},
        {"--compute", "MODE", "of default, exact, fast (blocks: A rounded to bytes)", &compute_text,
         NULL},
        {"--list", NULL, "print the shapes instead of measuring them", NULL, &list},
        BENCH_COMMON_ROWS(&settings, "of f32, f64, f16, bf16, s8 (C is s32), u8 (B is s8, C s32),\n"
                                     "f8_e4m3, f8_e5m2 (C is f32), and B of a block type, q8_0 to\n"
                                     "nvfp4 (A and C are f32, layout nt) (default: f32)"),
        {"--vs", "LIST",
         "libraries to race, each FILE.so, NAME=FILE.so or a bare name:\nCBLAS (f32 and f64), "
         "AOCL-DLP, "
         "oneDNN, libxsmm (small ones,\none thread), clblast (f32 and f64, on an OpenCL device);\n"
         "may be given several times",
         NULL, &settings.peer_items},
        {0},
    };
    const options_command command = {"tenon bench gemm", "Measures matrix products, C = A B.",
                                     notes, rows};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;
    if (wanted.suites && strcmp(wanted.suites, "list") == 0) {
        gemm_suites_print(settings.json);
        return EXIT_FINE;
    }

    int code = EXIT_USAGE;
    gemm_shapes shapes = {0};
    if (!gemm_shapes_read(&wanted, &shapes) ||
        shapes_parse_words("--compute", compute_text, compute_words, 3, &compute, 1) == 0)
        goto out;
    if (list) {
        gemm_shapes_print(&shapes, settings.json);
        code = EXIT_FINE;
    } else if (bench_settings_parse(&settings, dtype_words, sizeof types / sizeof *types) &&
               parse_ways(&ways, &settings)) {
        bench_session session = {.settings = &settings,
                                 .jobs =
                                     (int64_t)(shapes.count * settings.dtype_count * ways.count)};
        for (size_t i = 0; i < shapes.count; ++i)
            measure(&session, &shapes.items[i], &ways, (tenon_compute)compute);
        code = bench_session_end(&session);
    }
out:
    gemm_shapes_free(&shapes);
    bench_settings_free(&settings);
    return code;
}
