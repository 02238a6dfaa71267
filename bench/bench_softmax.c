/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_softmax.c: `tenon bench softmax`: rows x columns matrices as jobs for bench_run.c, and the
 * check of sampled rows against exponentials and sums in double.
 */
#include "bench.h"

#include <math.h>

#define MOST_EXTENT (INT64_C(1) << 31)
/* Exponentials spent on checking one result. */
#define CHECK_BUDGET (INT64_C(1) << 20)

/* clang-format off */
static const char *const notes =
    "y = softmax(x) along rows, into another matrix.\n\n"
    "columns:\n"
    BENCH_NOTES_TIME
    "  GFLOP/s      4 operations for each element (subtract, exp, add, multiply)\n"
    "  GB/s         x and y once\n"
    "  limit        time that copying x to y takes, in percent of the median: plain or streaming\n"
    "               stores, the faster one, over a working set of that size\n"
    "  error        largest |result - exact| over the row's largest value, of a sample of rows\n\n"
    BENCH_NOTES_METHOD;
/* clang-format on */

static const char *const dtype_words[] = {"f32", "f64", "f16", "bf16"};
static const tenon_dtype dtypes[] = {TENON_F32, TENON_F64, TENON_F16, TENON_BF16};

typedef struct softmax {
    int64_t rows, cols;
    bench_array x, y;
} softmax;

static tenon_softmax_desc describe(const softmax *s) {
    return (tenon_softmax_desc){
        .struct_size = sizeof(tenon_softmax_desc),
        .x = tenon_matrix(s->x.data, s->x.dtype, s->rows, s->cols),
        .y = tenon_matrix(s->y.data, s->y.dtype, s->rows, s->cols),
    };
}

static tenon_status plan(void *state, tenon_context *context, size_t workspace, tenon_plan **out) {
    tenon_softmax_desc desc = describe(state);
    desc.workspace.bytes = workspace;
    return tenon_softmax_plan(context, &desc, out);
}

static tenon_status run(void *state, tenon_context *context, const tenon_plan *p) {
    const tenon_softmax_desc desc = describe(state);
    return tenon_softmax_run(context, p, &desc);
}

static double row_error(const softmax *s, const bench_array *result, int64_t row) {
    const int64_t start = row * s->cols;
    double highest = -INFINITY, sum = 0, worst = 0;
    for (int64_t j = 0; j < s->cols; ++j)
        highest = fmax(highest, bench_array_get(&s->x, start + j));
    for (int64_t j = 0; j < s->cols; ++j)
        sum += exp(bench_array_get(&s->x, start + j) - highest);
    for (int64_t j = 0; j < s->cols; ++j) {
        const double exact = exp(bench_array_get(&s->x, start + j) - highest) / sum;
        const double e =
            fabs(bench_array_get(result, start + j) - exact) * sum; /* the largest is 1 / sum */
        if (!(e <= worst))
            worst = e;
        if (isnan(worst))
            break;
    }
    return worst;
}

static double error(void *state, const bench_array *result) {
    const softmax *s = state;
    const int64_t affordable = CHECK_BUDGET / s->cols + 2;
    uint64_t random = 1;
    double worst = 0;
    for (int64_t i = 0; i < s->rows && i < affordable && !isnan(worst); ++i) {
        const int64_t row = s->rows <= affordable ? i
                            : i == 0              ? 0
                            : i == 1              ? s->rows - 1
                                     : (int64_t)(bench_random(&random) % (uint64_t)s->rows);
        const double e = row_error(s, result, row);
        if (!(e <= worst))
            worst = e;
    }
    return worst;
}

static void job(bench_session *session, int64_t rows, int64_t cols, int dtype) {
    softmax s = {.rows = rows, .cols = cols};
    const tenon_dtype type = dtypes[dtype];
    const int64_t count = bench_count((const int64_t[]){rows, cols}, 2);
    const double inner = bench_rounding(type == TENON_F64 ? TENON_F64 : TENON_F32);
    if (!bench_array_make(&s.x, type, count) || !bench_array_make(&s.y, type, count)) {
        ++session->failures;
        goto out;
    }
    bench_array_fill(&s.x, 1);
    const bench_job j = {
        .op = "softmax",
        .dtype = dtype_words[dtype],
        .shape = {{"rows", NULL, rows, false}, {"cols", NULL, cols, false}},
        .shape_count = 2,
        .flops = 4 * (double)count,
        .bytes = (double)(s.x.bytes + s.y.bytes),
        .arithmetic = PEAK_KINDS,
        .memory = PEAK_COPY,
        /* exp and the division within some roundings, a sum of cols terms; f16 results also round
           to its denormals. */
        .error_bound = (32 + (double)cols) * inner + bench_rounding(type) +
                       (type == TENON_F16 ? (double)cols * 0x1p-24 : 0),
        .arrays = {&s.x},
        .result = &s.y,
        .plan = plan,
        .run = run,
        .error = error,
        .state = &s,
    };
    bench_run(session, &j);
out:
    bench_array_free(&s.x);
    bench_array_free(&s.y);
}

int bench_softmax(int argc, char **argv) {
    bench_settings settings = {0};
    const char *rows_text = NULL, *cols_text = NULL, *shapes_text = NULL;
    const options_row options[] = {
        {"--rows", "LIST", "number of rows: 1,2,4..64:4", &rows_text, NULL},
        {"--cols", "LIST", "elements of each row", &cols_text, NULL},
        {"--shape", "LIST",
         "both as ROWSxCOLS (default without --rows, "
         "--cols:\n512x512,4096x4096,32x128256,65536x128)",
         &shapes_text, NULL},
        BENCH_COMMON_ROWS(&settings, "of f32, f64, f16, bf16 (default: f32)"),
        {0},
    };
    const options_command command = {"tenon bench softmax",
                                     "Measures softmax of the rows of a matrix.", notes, options};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;

    int code = EXIT_USAGE;
    shapes_list rows = {0}, cols = {0}, shapes = {0};
    if (!rows_text != !cols_text) {
        complain("--rows and --cols are given together (%s is missing)",
                 rows_text ? "--cols" : "--rows");
        return EXIT_USAGE;
    }
    if (!rows_text && !shapes_text)
        shapes_text = "512x512,4096x4096,32x128256,65536x128";
    if ((!rows_text || (shapes_parse_list("--rows", rows_text, 1, MOST_EXTENT, &rows) &&
                        shapes_parse_list("--cols", cols_text, 1, MOST_EXTENT, &cols))) &&
        (!shapes_text || shapes_parse_tuples("--shape", shapes_text, 2, false, &shapes)) &&
        bench_settings_parse(&settings, dtype_words, sizeof dtypes / sizeof *dtypes)) {
        bench_session session = {.settings = &settings};
        session.jobs = (int64_t)((shapes.rows + rows.rows * cols.rows) * settings.dtype_count);
        for (size_t d = 0; d < settings.dtype_count; ++d) {
            for (size_t i = 0; i < shapes.rows; ++i)
                job(&session, shapes.values[2 * i], shapes.values[2 * i + 1], settings.dtypes[d]);
            for (size_t r = 0; r < rows.rows; ++r)
                for (size_t c = 0; c < cols.rows; ++c)
                    job(&session, rows.values[r], cols.values[c], settings.dtypes[d]);
        }
        code = bench_session_end(&session);
    }
    shapes_free(&rows);
    shapes_free(&cols);
    shapes_free(&shapes);
    bench_settings_free(&settings);
    return code;
}
