/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_attention.c: `tenon bench attention`: prefill and decode shapes as jobs for bench_run.c,
 * and the check of sampled queries against the formula in double.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

#define MOST_EXTENT (INT64_C(1) << 31)
#define MOST_HEAD_DIM 576 /* tenon/attention.h */
/* Multiply-adds spent on checking one result. */
#define CHECK_BUDGET (INT64_C(1) << 22)

/* clang-format off */
static const char *const notes =
    "q is batch x q_heads x q_len x head_dim, k and v are batch x kv_heads x k_len x head_dim, dense.\n\n"
    "columns:\n"
    BENCH_NOTES_TIME
    "  GFLOP/s      4 batch q_heads head_dim operations for each query and key that it may see\n"
    "  GB/s         q, k, v and o once\n"
    BENCH_NOTES_ROOF
    "  error        largest |result - exact| of a sample of queries; values lie in [-1, 1)\n\n"
    BENCH_NOTES_METHOD
    "\n\n"
    "prefill:  tenon bench attention --shape 1x32x1024x128 --causal\n"
    "decode:   tenon bench attention --q-heads 32 --kv-heads 8 --q-len 1 --k-len 4096 --head-dim 128";
/* clang-format on */

static const char *const dtype_words[] = {"f32", "f64", "f16", "bf16"};
static const tenon_dtype dtypes[] = {TENON_F32, TENON_F64, TENON_F16, TENON_BF16};

typedef struct attention {
    int64_t batch, q_heads, kv_heads, q_len, k_len, d;
    bool causal;
    bench_array q, k, v, o;
} attention;

static tenon_attention_desc describe(const attention *a) {
    return (tenon_attention_desc){
        .struct_size = sizeof(tenon_attention_desc),
        .q = tenon_tensor4(a->q.data, a->q.dtype, a->batch, a->q_heads, a->q_len, a->d),
        .k = tenon_tensor4(a->k.data, a->k.dtype, a->batch, a->kv_heads, a->k_len, a->d),
        .v = tenon_tensor4(a->v.data, a->v.dtype, a->batch, a->kv_heads, a->k_len, a->d),
        .o = tenon_tensor4(a->o.data, a->o.dtype, a->batch, a->q_heads, a->q_len, a->d),
        .causal = a->causal ? TENON_CAUSAL_BOTTOM_RIGHT : TENON_CAUSAL_NONE,
    };
}

static tenon_status plan(void *state, tenon_context *context, size_t workspace, tenon_plan **out) {
    tenon_attention_desc desc = describe(state);
    desc.workspace.bytes = workspace;
    return tenon_attention_plan(context, &desc, out);
}

static tenon_status run(void *state, tenon_context *context, const tenon_plan *p) {
    const tenon_attention_desc desc = describe(state);
    return tenon_attention_run(context, p, &desc);
}

/* How many keys query i may see. */
static int64_t visible(const attention *a, int64_t i) {
    if (!a->causal)
        return a->k_len;
    const int64_t position = i + a->k_len - a->q_len;
    return position < 0 ? 0 : position >= a->k_len ? a->k_len : position + 1;
}

/* Largest |result - exact| of one query; `weights` has room for k_len numbers. */
static double query_error(const attention *a, const bench_array *result, int64_t at,
                          double *weights) {
    const int64_t i = at % a->q_len, head = at / a->q_len % a->q_heads,
                  batch = at / a->q_len / a->q_heads;
    const int64_t kv_head = head / (a->q_heads / a->kv_heads), keys = visible(a, i);
    const int64_t q = at * a->d, kv = (batch * a->kv_heads + kv_head) * a->k_len * a->d;
    double highest = -INFINITY, sum = 0, worst = 0;
    for (int64_t j = 0; j < keys; ++j) {
        double score = 0;
        for (int64_t x = 0; x < a->d; ++x)
            score += bench_array_get(&a->q, q + x) * bench_array_get(&a->k, kv + j * a->d + x);
        weights[j] = score / sqrt((double)a->d);
        highest = fmax(highest, weights[j]);
    }
    for (int64_t j = 0; j < keys; ++j) {
        weights[j] = exp(weights[j] - highest);
        sum += weights[j];
    }
    for (int64_t x = 0; x < a->d && !isnan(worst); ++x) {
        double exact = 0;
        for (int64_t j = 0; j < keys; ++j)
            exact += weights[j] / sum * bench_array_get(&a->v, kv + j * a->d + x);
        const double e = fabs(bench_array_get(result, q + x) - exact);
        if (!(e <= worst))
            worst = e;
    }
    return worst;
}

static double error(void *state, const bench_array *result) {
    const attention *a = state;
    const int64_t queries = a->batch * a->q_heads * a->q_len,
                  affordable = CHECK_BUDGET / (2 * a->k_len * a->d) + 2;
    double *weights = malloc((size_t)a->k_len * sizeof *weights), worst = 0;
    uint64_t random = 1;
    if (!weights)
        return NAN;
    for (int64_t s = 0; s < queries && s < affordable && !isnan(worst); ++s) {
        const int64_t at = queries <= affordable ? s
                           : s == 0              ? 0
                           : s == 1              ? queries - 1
                                    : (int64_t)(bench_random(&random) % (uint64_t)queries);
        const double e = query_error(a, result, at, weights);
        if (!(e <= worst))
            worst = e;
    }
    free(weights);
    return worst;
}

static peak_kind arithmetic_limit(tenon_dtype dtype) {
    if (dtype == TENON_F64)
        return PEAK_FMA_F64;
    return dtype == TENON_BF16 && peak_best(PEAK_DOT_BF16) ? PEAK_DOT_BF16 : PEAK_FMA_F32;
}

/* Scores are sums of d products, each at most 1, over sqrt(d); outputs are sums of k_len; then one
 * rounding. */
static double error_bound(const attention *a, tenon_dtype type) {
    const double d = (double)a->d,
                 inner = bench_rounding(type == TENON_F64 ? TENON_F64 : TENON_F32);
    return (2 * d * sqrt(d) + (double)a->k_len + 64) * inner + bench_rounding(type);
}

static void job(bench_session *session, attention *a, int dtype) {
    const tenon_dtype type = dtypes[dtype];
    const int64_t q = bench_count((const int64_t[]){a->batch, a->q_heads, a->q_len, a->d}, 4);
    const int64_t kv = bench_count((const int64_t[]){a->batch, a->kv_heads, a->k_len, a->d}, 4);
    if (!bench_array_make(&a->q, type, q) || !bench_array_make(&a->k, type, kv) ||
        !bench_array_make(&a->v, type, kv) || !bench_array_make(&a->o, type, q)) {
        ++session->failures;
        goto out;
    }
    bench_array_fill(&a->q, 1);
    bench_array_fill(&a->k, 2);
    bench_array_fill(&a->v, 3);
    double pairs = 0;
    for (int64_t i = 0; i < a->q_len; ++i)
        pairs += (double)visible(a, i);
    const bench_job j = {
        .op = "attention",
        .dtype = dtype_words[dtype],
        .shape = {{"batch", NULL, a->batch, false},
                  {"q_heads", NULL, a->q_heads, false},
                  {"kv_heads", NULL, a->kv_heads, false},
                  {"q_len", NULL, a->q_len, false},
                  {"k_len", NULL, a->k_len, false},
                  {"head_dim", NULL, a->d, false},
                  {"causal", NULL, a->causal, true}},
        .shape_count = 7,
        .flops = 4 * (double)a->batch * (double)a->q_heads * (double)a->d * pairs,
        .bytes = (double)(a->q.bytes + a->k.bytes + a->v.bytes + a->o.bytes),
        .arithmetic = arithmetic_limit(type),
        .memory = PEAK_READ,
        .error_bound = error_bound(a, type),
        .arrays = {&a->q, &a->k, &a->v},
        .result = &a->o,
        .plan = plan,
        .run = run,
        .error = error,
        .state = a,
    };
    bench_run(session, &j);
out:
    bench_array_free(&a->q);
    bench_array_free(&a->k);
    bench_array_free(&a->v);
    bench_array_free(&a->o);
}

/* Lists of extents; `shape` rows are batch, q_heads, q_len, head_dim. An absent kv_heads or k_len
 * follows the queries'. */
typedef struct shapes {
    bool causal;
    const char *batch_text, *q_heads_text, *kv_heads_text, *q_len_text, *k_len_text, *d_text,
        *shape_text;
    shapes_list shape, kv_heads, k_len;
} shapes;

/* All combinations of the separate lists, as rows of `shape`. */
static bool combine_lists(shapes *s) {
    const char *const names[4] = {"--batch", "--q-heads", "--q-len", "--head-dim"};
    const char *const texts[4] = {
        s->batch_text ? s->batch_text : "1", s->q_heads_text ? s->q_heads_text : "32",
        s->q_len_text ? s->q_len_text : "1024", s->d_text ? s->d_text : "128"};
    shapes_list lists[4] = {{0}};
    size_t rows = 1;
    bool ok = true;
    for (int i = 0; i < 4 && ok; ++i) {
        ok = shapes_parse_list(names[i], texts[i], 1, i == 3 ? MOST_HEAD_DIM : MOST_EXTENT,
                               &lists[i]);
        rows *= lists[i].rows;
        if (ok && rows > SHAPES_MOST_VALUES) {
            complain("%s: more than %d shapes in all", names[i], SHAPES_MOST_VALUES);
            ok = false;
        }
    }
    s->shape = (shapes_list){
        .values = ok ? malloc(rows * 4 * sizeof(int64_t)) : NULL, .rows = rows, .parts = 4};
    for (size_t r = 0; s->shape.values && r < rows; ++r) {
        size_t rest = r;
        for (int i = 3; i >= 0; --i) {
            s->shape.values[4 * r + (size_t)i] = lists[i].values[rest % lists[i].rows];
            rest /= lists[i].rows;
        }
    }
    for (int i = 0; i < 4; ++i)
        shapes_free(&lists[i]);
    return s->shape.values != NULL;
}

static bool parse_shapes(shapes *s) {
    if (s->shape_text && (s->batch_text || s->q_heads_text || s->q_len_text || s->d_text)) {
        complain("--shape already says batch, q heads, q length and head dimension");
        return false;
    }
    if (!(s->shape_text ? shapes_parse_tuples("--shape", s->shape_text, 4, false, &s->shape)
                        : combine_lists(s)))
        return false;
    for (size_t i = 0; i < s->shape.rows; ++i)
        if (s->shape.values[4 * i + 3] > MOST_HEAD_DIM) {
            complain("--shape: a head dimension of %lld is above %d",
                     (long long)s->shape.values[4 * i + 3], MOST_HEAD_DIM);
            return false;
        }
    if ((s->kv_heads_text &&
         !shapes_parse_list("--kv-heads", s->kv_heads_text, 1, MOST_EXTENT, &s->kv_heads)) ||
        (s->k_len_text && !shapes_parse_list("--k-len", s->k_len_text, 1, MOST_EXTENT, &s->k_len)))
        return false;
    for (size_t i = 0; i < s->shape.rows; ++i)
        for (size_t h = 0; h < s->kv_heads.rows; ++h)
            if (s->shape.values[4 * i + 1] % s->kv_heads.values[h]) {
                complain("--kv-heads: %lld does not divide %lld q heads",
                         (long long)s->kv_heads.values[h], (long long)s->shape.values[4 * i + 1]);
                return false;
            }
    return true;
}

/* Key heads, key lengths and types of one row of `shape`. */
static void combine(bench_session *session, const shapes *s, const int64_t *shape) {
    const bench_settings *settings = session->settings;
    const size_t kv_heads = s->kv_heads.rows ? s->kv_heads.rows : 1,
                 k_lens = s->k_len.rows ? s->k_len.rows : 1;
    for (size_t h = 0; h < kv_heads; ++h)
        for (size_t l = 0; l < k_lens; ++l)
            for (size_t t = 0; t < settings->dtype_count; ++t) {
                attention a = {
                    .batch = shape[0], .q_heads = shape[1], .q_len = shape[2], .d = shape[3]};
                a.kv_heads = s->kv_heads.rows ? s->kv_heads.values[h] : a.q_heads;
                a.k_len = s->k_len.rows ? s->k_len.values[l] : a.q_len;
                a.causal = s->causal;
                job(session, &a, settings->dtypes[t]);
            }
}

int bench_attention(int argc, char **argv) {
    bench_settings settings = {0};
    shapes s = {0};
    const options_row rows[] = {
        {"--shape", "LIST", "BATCHxHEADSxLENGTHxHEAD_DIM of the queries", &s.shape_text, NULL},
        {"--batch", "LIST", "sequences (default: 1)", &s.batch_text, NULL},
        {"--q-heads", "LIST", "heads of q (default: 32)", &s.q_heads_text, NULL},
        {"--kv-heads", "LIST", "heads of k and v (default: as q)", &s.kv_heads_text, NULL},
        {"--q-len", "LIST", "queries of each sequence (default: 1024)", &s.q_len_text, NULL},
        {"--k-len", "LIST", "keys of each sequence (default: as queries)", &s.k_len_text, NULL},
        {"--head-dim", "LIST", "length of a head's vectors (default: 128)", &s.d_text, NULL},
        {"--causal", NULL, "query i sees keys up to i + k_len - q_len", NULL, &s.causal},
        BENCH_COMMON_ROWS(&settings, "of f32, f64, f16, bf16 (default: f32)"),
        {0},
    };
    const options_command command = {"tenon bench attention",
                                     "Measures scaled dot product attention.", notes, rows};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;

    int code = EXIT_USAGE;
    if (parse_shapes(&s) &&
        bench_settings_parse(&settings, dtype_words, sizeof dtypes / sizeof *dtypes)) {
        bench_session session = {.settings = &settings};
        const size_t each =
            (s.kv_heads.rows ? s.kv_heads.rows : 1) * (s.k_len.rows ? s.k_len.rows : 1);
        session.jobs = (int64_t)(s.shape.rows * each * settings.dtype_count);
        for (size_t i = 0; i < s.shape.rows; ++i)
            combine(&session, &s, s.shape.values + 4 * i);
        code = bench_session_end(&session);
    }
    shapes_free(&s.shape);
    shapes_free(&s.kv_heads);
    shapes_free(&s.k_len);
    bench_settings_free(&settings);
    return code;
}
