/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_gemm.c: `tenon bench gemm`: shapes, layouts and types of matrix products as jobs for
 * bench_run.c, and the check of what was computed: sampled outputs as double sums, written
 * independently of tenon's reference.
 */
#include "bench.h"

#include <math.h>

#define MOST_EXTENT (INT64_C(1) << 31)
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
    BENCH_NOTES_METHOD
    " Peers alternate with\n"
    "tenon repetition by repetition, each after the helper threads of the other have gone idle.";
/* clang-format on */

static const char *const dtype_words[] = {"f32", "f64", "f16", "bf16", "s8"};
static const tenon_dtype dtypes[] = {TENON_F32, TENON_F64, TENON_F16, TENON_BF16, TENON_S8};
static const char *const layout_words[] = {"nn", "nt", "tn", "tt"};

typedef struct gemm {
    int64_t m, n, k, batch;
    bool a_transposed, b_transposed;
    bench_array a, b, c;
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
    };
}

static tenon_status plan(void *state, tenon_context *context, size_t workspace, tenon_plan **out) {
    tenon_gemm_desc desc = describe(state);
    desc.workspace.bytes = workspace;
    return tenon_gemm_plan(context, &desc, out);
}

static tenon_status run(void *state, tenon_context *context, const tenon_plan *p) {
    const tenon_gemm_desc desc = describe(state);
    return tenon_gemm_run(context, p, &desc);
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

static peer_gemm product(const gemm *g, int64_t batch, bench_array *result) {
    const size_t element = g->c.dtype == TENON_F64 ? 8 : 4;
    const size_t at = (size_t)batch * element;
    return (peer_gemm){
        .element_bytes = (int)element,
        .a_transposed = g->a_transposed,
        .b_transposed = g->b_transposed,
        .m = g->m,
        .n = g->n,
        .k = g->k,
        .a = (const char *)g->a.data + at * (size_t)(g->m * g->k),
        .b = (const char *)g->b.data + at * (size_t)(g->k * g->n),
        .c = (char *)result->data + at * (size_t)(g->m * g->n),
    };
}

static bool peer_can(void *state, const peer_cblas *peer) {
    gemm *g = state;
    const peer_gemm p = product(g, 0, &g->c);
    return (g->a.dtype == TENON_F32 || g->a.dtype == TENON_F64) &&
           peer_has_gemm(peer, p.element_bytes) && peer_fits(peer, &p);
}

static void peer_run(void *state, const peer_cblas *peer, bench_array *result) {
    const gemm *g = state;
    for (int64_t batch = 0; batch < g->batch; ++batch) {
        const peer_gemm p = product(g, batch, result);
        peer_run_gemm(peer, &p);
    }
}

static peak_kind arithmetic_limit(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_F64:
        return PEAK_FMA_F64;
    case TENON_BF16:
        return peak_best(PEAK_DOT_BF16) ? PEAK_DOT_BF16 : PEAK_FMA_F32;
    case TENON_S8:
        return PEAK_DOT_I8;
    default:
        return PEAK_FMA_F32;
    }
}

static void job(bench_session *session, gemm *g, const char *layout, int dtype) {
    const tenon_dtype type = dtypes[dtype], out = type == TENON_S8 ? TENON_S32 : type;
    const double k = (double)g->k;
    const int64_t a = bench_count((const int64_t[]){g->batch, g->m, g->k}, 3);
    const int64_t b = bench_count((const int64_t[]){g->batch, g->k, g->n}, 3);
    const int64_t c = bench_count((const int64_t[]){g->batch, g->m, g->n}, 3);
    if (!bench_array_make(&g->a, type, a) || !bench_array_make(&g->b, type, b) ||
        !bench_array_make(&g->c, out, c)) {
        ++session->failures;
        goto out;
    }
    bench_array_fill(&g->a, 1);
    bench_array_fill(&g->b, 2);
    const bench_job j = {
        .op = "gemm",
        .dtype = dtype_words[dtype],
        .shape = {{"m", NULL, g->m, false},
                  {"n", NULL, g->n, false},
                  {"k", NULL, g->k, false},
                  {"batch", NULL, g->batch, false},
                  {"layout", layout, 0, false}},
        .shape_count = 5,
        .flops = 2 * (double)g->batch * (double)g->m * (double)g->n * k,
        .bytes = (double)(g->a.bytes + g->b.bytes + g->c.bytes),
        .arithmetic = arithmetic_limit(type),
        .memory = PEAK_READ,
        /* A sum of k products in any order, in f32 (f64: f64; integers: exact), rounded once to the
           type of C. */
        .error_bound = type == TENON_S8 ? 0
                       : type == TENON_F64
                           ? (k + 2) * bench_rounding(TENON_F64) * 2
                           : (k + 2) * bench_rounding(TENON_F32) + bench_rounding(out),
        .arrays = {&g->a, &g->b},
        .result = &g->c,
        .plan = plan,
        .run = run,
        .error = error,
        .peer_can = peer_can,
        .peer_run = peer_run,
        .state = g,
    };
    bench_run(session, &j);
out:
    bench_array_free(&g->a);
    bench_array_free(&g->b);
    bench_array_free(&g->c);
}

/* Shapes as m, n, k rows: --mnk as it stands, and all combinations of --m, --n, --k. */
typedef struct shapes {
    const char *m_text, *n_text, *k_text, *mnk_text, *batch_text, *layout_text;
    shapes_list m, n, k, mnk, batch;
    int layouts[4];
    size_t layout_count;
} shapes;

static bool parse_shapes(shapes *s) {
    const bool separate = s->m_text || s->n_text || s->k_text;
    if (separate && !(s->m_text && s->n_text && s->k_text)) {
        complain("--m, --n and --k are given together (%s is missing)", !s->m_text   ? "--m"
                                                                        : !s->n_text ? "--n"
                                                                                     : "--k");
        return false;
    }
    if (!separate && !s->mnk_text)
        s->mnk_text = "1024,2048";
    s->layout_count = shapes_parse_words("--layout", s->layout_text ? s->layout_text : "nn",
                                         layout_words, 4, s->layouts, 4);
    return s->layout_count > 0 &&
           (!separate || (shapes_parse_list("--m", s->m_text, 1, MOST_EXTENT, &s->m) &&
                          shapes_parse_list("--n", s->n_text, 1, MOST_EXTENT, &s->n) &&
                          shapes_parse_list("--k", s->k_text, 1, MOST_EXTENT, &s->k))) &&
           (!s->mnk_text || shapes_parse_tuples("--mnk", s->mnk_text, 3, true, &s->mnk)) &&
           shapes_parse_list("--batch", s->batch_text ? s->batch_text : "1", 1, MOST_EXTENT,
                             &s->batch);
}

/* Types, layouts and batches of one m, n, k. */
static void combine(bench_session *session, const shapes *s, const int64_t mnk[3]) {
    const bench_settings *settings = session->settings;
    for (size_t d = 0; d < settings->dtype_count; ++d)
        for (size_t l = 0; l < s->layout_count; ++l)
            for (size_t b = 0; b < s->batch.rows; ++b) {
                const char *layout = layout_words[s->layouts[l]];
                gemm g = {.m = mnk[0],
                          .n = mnk[1],
                          .k = mnk[2],
                          .batch = s->batch.values[b],
                          .a_transposed = layout[0] == 't',
                          .b_transposed = layout[1] == 't'};
                job(session, &g, layout, settings->dtypes[d]);
            }
}

int bench_gemm(int argc, char **argv) {
    bench_settings settings = {0};
    shapes s = {0};
    const options_row rows[] = {
        {"--m", "LIST", "rows of C: 1,2,4..64:4", &s.m_text, NULL},
        {"--n", "LIST", "columns of C", &s.n_text, NULL},
        {"--k", "LIST", "length of the sums", &s.k_text, NULL},
        {"--mnk", "LIST",
         "whole shapes, 1024x512x64, or cubes, 256..1024:256\n(default without --m, --n, --k: "
         "1024,2048)",
         &s.mnk_text, NULL},
        {"--batch", "LIST", "independent products in one call (default: 1)", &s.batch_text, NULL},
        {"--layout", "LIST", "of nn, nt, tn, tt (default: nn)", &s.layout_text, NULL},
        BENCH_COMMON_ROWS(&settings, "of f32, f64, f16, bf16, s8 (C is s32) (default: f32)"),
        {"--vs", "LIST", "CBLAS libraries to race, FILE.so or NAME=FILE.so (f32 and f64)",
         &settings.peers_text, NULL},
        {0},
    };
    const options_command command = {"tenon bench gemm", "Measures matrix products, C = A B.",
                                     notes, rows};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;

    int code = EXIT_USAGE;
    if (parse_shapes(&s) &&
        bench_settings_parse(&settings, dtype_words, sizeof dtypes / sizeof *dtypes)) {
        const size_t each = settings.dtype_count * s.layout_count * s.batch.rows;
        bench_session session = {.settings = &settings};
        session.jobs = (int64_t)((s.mnk.rows + s.m.rows * s.n.rows * s.k.rows) * each);
        for (size_t i = 0; i < s.mnk.rows; ++i)
            combine(&session, &s, s.mnk.values + 3 * i);
        for (size_t m = 0; m < s.m.rows; ++m)
            for (size_t n = 0; n < s.n.rows; ++n)
                for (size_t k = 0; k < s.k.rows; ++k)
                    combine(&session, &s,
                            (const int64_t[]){s.m.values[m], s.n.values[n], s.k.values[k]});
        code = bench_session_end(&session);
    }
    shapes_free(&s.m);
    shapes_free(&s.n);
    shapes_free(&s.k);
    shapes_free(&s.mnk);
    shapes_free(&s.batch);
    bench_settings_free(&settings);
    return code;
}
