/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_attention.c: `tenon bench attention`: options and suites become shapes, shapes jobs for
 * bench_run.c. What a shape is made of is attention_case.c's, what features cost
 * attention_costs.c's.
 */
#include "attention_costs.h"
#include "bench.h"
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const char *const notes =
    "q is batch x q_heads x q_len x head_dim, k and v are batch x kv_heads x k_len x head_dim, dense.\n"
    "Features: a window holds KEYS before the query; bias and mask are q_len x k_len, for all heads;\n"
    "pages of KEYS lie scattered; mixed lengths are spread evenly over the logarithms from k_len / 64\n"
    "to k_len, one after the other where q_len = k_len; v as a view of k is the first v_dim columns;\n"
    "a cache is k and v of a type of their own, as f16, f8_e4m3 or q8_0.\n\n"
    "columns:\n"
    BENCH_NOTES_TIME
    "  GFLOP/s      2 (head_dim + v_dim) operations for each query and key that it may see\n"
    "  GB/s         q and o, and the keys and values that some query sees, once\n"
    BENCH_NOTES_ROOF
    "  error        largest |result - exact| of a sample of queries; values lie in [-1, 1)\n\n"
    BENCH_NOTES_METHOD
    "\n\n"
    "prefill:  tenon bench attention --shape 1x32x1024x128 --causal\n"
    "decode:   tenon bench attention --q-heads 32 --kv-heads 8 --q-len 1 --k-len 4096 --head-dim 128";
/* clang-format on */

static const char *const dtype_words[] = {"f32", "f64", "f16", "bf16"};
static const tenon_dtype dtypes[] = {TENON_F32, TENON_F64, TENON_F16, TENON_BF16};

/* ---------------------------------------------------------------- shapes */

/* Options as given; absent ones NULL. */
typedef struct wanted {
    const char *batch, *q_heads, *kv_heads, *q_len, *k_len, *head_dim, *v_dim, *shape, *with,
        *suites;
    bool causal;
} wanted;

typedef struct shapes {
    attention_shape *items;
    size_t count, capacity;
} shapes;

static bool append(shapes *list, const attention_shape *shape, const char *option) {
    if (!attention_shape_check(option, shape))
        return false;
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        attention_shape *items = realloc(list->items, capacity * sizeof *items);
        if (!items) {
            complain("out of memory");
            return false;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *shape;
    return true;
}

/* A suite's beginning (summary set) or one of its cases. */
static const struct row {
    const char *suite, *summary;
    int64_t batch, q_heads, kv_heads, q_len, k_len, d, dv;
    const char *with;
} rows[] = {
#define SUITE(name, summary) {name, summary, 0, 0, 0, 0, 0, 0, 0, NULL},
#define CASE(batch, q_heads, kv_heads, q_len, k_len, d, dv, with)                                  \
    {NULL, NULL, batch, q_heads, kv_heads, q_len, k_len, d, dv, with},
#include "attention_suites.def"
#undef SUITE
#undef CASE
};
#define ROWS (sizeof rows / sizeof *rows)

static bool read_suite(size_t at, shapes *list) {
    const char *suite = rows[at].suite;
    for (++at; at < ROWS && !rows[at].suite; ++at) {
        const struct row *r = &rows[at];
        attention_shape s = {.suite = suite,
                             .batch = r->batch,
                             .q_heads = r->q_heads,
                             .kv_heads = r->kv_heads,
                             .q_len = r->q_len,
                             .k_len = r->k_len,
                             .d = r->d,
                             .dv = r->dv};
        if (!attention_features_read("--suite", r->with, &s.with, s.text) ||
            !append(list, &s, "--suite"))
            return false;
    }
    return true;
}

static bool read_suites(const wanted *w, shapes *list) {
    const char *names[ROWS];
    size_t at[ROWS], count = 0;
    int chosen[ROWS];
    if (w->batch || w->q_heads || w->kv_heads || w->q_len || w->k_len || w->head_dim || w->v_dim ||
        w->shape || w->with || w->causal) {
        complain("--suite brings its own shapes and features: give no others");
        return false;
    }
    for (size_t i = 0; i < ROWS; ++i)
        if (rows[i].suite) {
            names[count] = rows[i].suite;
            at[count++] = i;
        }
    const size_t some = shapes_parse_words("--suite", w->suites, names, count, chosen,
                                           sizeof chosen / sizeof *chosen);
    for (size_t i = 0; i < some; ++i)
        if (!read_suite(at[chosen[i]], list))
            return false;
    return some > 0;
}

static void print_suites(bool json) {
    for (size_t i = 0; i < ROWS; ++i) {
        const struct row *r = &rows[i];
        if (json && r->suite) {
            json_writer writer = {0};
            json_object(&writer, NULL);
            json_text(&writer, "suite", r->suite);
            json_text(&writer, "summary", r->summary);
            json_object_end(&writer);
        } else if (r->suite) {
            printf("%s%-9s%s\n", i ? "\n" : "", r->suite, r->summary);
        } else if (!json) {
            printf("  %lld x %lld/%lld heads, %lld queries x %lld keys, %lld/%lld wide%s%s\n",
                   (long long)r->batch, (long long)r->q_heads, (long long)r->kv_heads,
                   (long long)r->q_len, (long long)r->k_len, (long long)r->d, (long long)r->dv,
                   r->with[0] ? ", " : "", r->with);
        }
    }
}

/* Options of the queries, and what --shape has instead of them. */
enum { BATCH, Q_HEADS, Q_LEN, D, PARTS };

/* All combinations of the separate lists, as rows of `tuples`. */
static bool combine_lists(const wanted *w, shapes_list *tuples) {
    static const char *const names[PARTS] = {"--batch", "--q-heads", "--q-len", "--head-dim"};
    const char *const texts[PARTS] = {w->batch ? w->batch : "1", w->q_heads ? w->q_heads : "32",
                                      w->q_len ? w->q_len : "1024",
                                      w->head_dim ? w->head_dim : "128"};
    shapes_list lists[PARTS] = {{0}};
    size_t count = 1;
    bool ok = true;
    for (int i = 0; i < PARTS && ok; ++i) {
        ok = shapes_parse_list(names[i], texts[i], 1,
                               i == D ? ATTENTION_MOST_HEAD_DIM : ATTENTION_MOST_EXTENT, &lists[i]);
        count *= lists[i].rows;
        if (ok && count > SHAPES_MOST_VALUES) {
            complain("%s: more than %d shapes in all", names[i], SHAPES_MOST_VALUES);
            ok = false;
        }
    }
    *tuples = (shapes_list){.values = ok ? malloc(count * PARTS * sizeof(int64_t)) : NULL,
                            .rows = count,
                            .parts = PARTS};
    for (size_t r = 0; tuples->values && r < count; ++r) {
        size_t rest = r;
        for (int i = PARTS; i-- > 0;) {
            tuples->values[PARTS * r + (size_t)i] = lists[i].values[rest % lists[i].rows];
            rest /= lists[i].rows;
        }
    }
    for (int i = 0; i < PARTS; ++i)
        shapes_free(&lists[i]);
    return tuples->values != NULL;
}

/* The queries' tuples with every number of key heads, keys and columns of v; absent ones follow the
 * queries. */
static bool combine(const shapes_list *tuples, const shapes_list *kv_heads,
                    const shapes_list *k_len, const shapes_list *v_dim, attention_shape s,
                    shapes *list) {
    for (size_t i = 0; i < tuples->rows; ++i)
        for (size_t h = 0; h < (kv_heads->rows ? kv_heads->rows : 1); ++h)
            for (size_t l = 0; l < (k_len->rows ? k_len->rows : 1); ++l)
                for (size_t c = 0; c < (v_dim->rows ? v_dim->rows : 1); ++c) {
                    const int64_t *q = tuples->values + PARTS * i;
                    s.batch = q[BATCH];
                    s.q_heads = q[Q_HEADS];
                    s.q_len = q[Q_LEN];
                    s.d = q[D];
                    s.kv_heads = kv_heads->rows ? kv_heads->values[h] : s.q_heads;
                    s.k_len = k_len->rows ? k_len->values[l] : s.q_len;
                    s.dv = v_dim->rows ? v_dim->values[c] : s.d;
                    if (s.q_heads % s.kv_heads) {
                        complain("--kv-heads: %lld does not divide %lld q heads",
                                 (long long)s.kv_heads, (long long)s.q_heads);
                        return false;
                    }
                    if (!append(list, &s, "--with"))
                        return false;
                }
    return true;
}

static bool read_options(const wanted *w, shapes *list) {
    shapes_list tuples = {0}, kv_heads = {0}, k_len = {0}, v_dim = {0};
    attention_shape s = {0};
    bool ok = false;
    if (w->shape && (w->batch || w->q_heads || w->q_len || w->head_dim)) {
        complain("--shape already says batch, q heads, q length and head dimension");
        return false;
    }
    if (!(w->shape ? shapes_parse_tuples("--shape", w->shape, PARTS, false, &tuples)
                   : combine_lists(w, &tuples)))
        goto out;
    for (size_t i = 0; i < tuples.rows; ++i)
        if (tuples.values[PARTS * i + D] > ATTENTION_MOST_HEAD_DIM) {
            complain("--shape: a head dimension of %lld is above %d",
                     (long long)tuples.values[PARTS * i + D], ATTENTION_MOST_HEAD_DIM);
            goto out;
        }
    if ((w->kv_heads &&
         !shapes_parse_list("--kv-heads", w->kv_heads, 1, ATTENTION_MOST_EXTENT, &kv_heads)) ||
        (w->k_len && !shapes_parse_list("--k-len", w->k_len, 1, ATTENTION_MOST_EXTENT, &k_len)) ||
        (w->v_dim && !shapes_parse_list("--v-dim", w->v_dim, 1, ATTENTION_MOST_HEAD_DIM, &v_dim)) ||
        (w->with && !attention_features_read("--with", w->with, &s.with, s.text)))
        goto out;
    s.with.causal |= w->causal;
    ok = combine(&tuples, &kv_heads, &k_len, &v_dim, s, list);
out:
    shapes_free(&tuples);
    shapes_free(&kv_heads);
    shapes_free(&k_len);
    shapes_free(&v_dim);
    return ok;
}

static void print_shapes(const shapes *list, bool json) {
    for (size_t i = 0; i < list->count; ++i) {
        const attention_shape *s = &list->items[i];
        const struct {
            const char *name;
            int64_t value;
        } extents[] = {{"batch", s->batch}, {"q_heads", s->q_heads}, {"kv_heads", s->kv_heads},
                       {"q_len", s->q_len}, {"k_len", s->k_len},     {"head_dim", s->d},
                       {"v_dim", s->dv}};
        json_writer writer = {0};
        if (json) {
            json_object(&writer, NULL);
            json_text(&writer, "op", "attention");
        } else if (s->suite) {
            printf("%s ", s->suite);
        }
        for (size_t e = 0; e < sizeof extents / sizeof *extents; ++e) {
            if (json)
                json_int(&writer, extents[e].name, extents[e].value);
            else
                printf("%s=%lld ", extents[e].name, (long long)extents[e].value);
        }
        if (json) {
            json_bool(&writer, "causal", s->with.causal);
            json_text(&writer, "with", s->text);
            json_text(&writer, "suite", s->suite);
            json_object_end(&writer);
        } else {
            printf("causal=%s with=%s\n", s->with.causal ? "yes" : "no",
                   s->text[0] ? s->text : "-");
        }
    }
}

/* ---------------------------------------------------------------- jobs */

static peak_kind arithmetic_limit(tenon_dtype dtype) {
    if (dtype == TENON_F64)
        return PEAK_FMA_F64;
    return dtype == TENON_BF16 && peak_best(PEAK_DOT_BF16) ? PEAK_DOT_BF16 : PEAK_FMA_F32;
}

static void job(bench_session *session, const attention_shape *s, int dtype) {
    attention_case a;
    if (!attention_case_make(&a, s, dtypes[dtype])) {
        ++session->failures;
        goto out;
    }
    const bench_job j = {
        .op = "attention",
        .suite = s->suite,
        .dtype = dtype_words[dtype],
        .shape = {{"batch", NULL, s->batch, false},
                  {"q_heads", NULL, s->q_heads, false},
                  {"kv_heads", NULL, s->kv_heads, false},
                  {"q_len", NULL, s->q_len, false},
                  {"k_len", NULL, s->k_len, false},
                  {"head_dim", NULL, s->d, false},
                  {"v_dim", NULL, s->dv, false},
                  {"causal", NULL, s->with.causal, true},
                  {"with", s->text[0] ? s->text : "-", 0, false}},
        .shape_count = 9,
        .flops = attention_case_flops(&a),
        .bytes = a.bytes,
        .arithmetic = arithmetic_limit(a.dtype),
        .memory = PEAK_READ,
        .error_bound = attention_case_bound(&a),
        .arrays = {&a.q, &a.k, s->with.view ? NULL : &a.v, s->with.bias ? &a.bias : NULL},
        .result = &a.o,
        .plan = attention_case_plan,
        .run = attention_case_run,
        .error = attention_case_error,
        .state = &a,
    };
    bench_run(session, &j);
out:
    attention_case_free(&a);
}

static int measure(const shapes *list, bool costs, bench_settings *settings) {
    if (!bench_settings_parse(settings, dtype_words, sizeof dtypes / sizeof *dtypes))
        return EXIT_USAGE;
    bench_session session = {.settings = settings,
                             .jobs = (int64_t)(list->count * settings->dtype_count)};
    for (size_t i = 0; i < list->count; ++i)
        for (size_t d = 0; d < settings->dtype_count; ++d) {
            const int dtype = settings->dtypes[d];
            if (!costs)
                job(&session, &list->items[i], dtype);
            else if (!attention_costs(&list->items[i], dtypes[dtype], dtype_words[dtype], settings))
                ++session.failures;
        }
    return bench_session_end(&session);
}

int bench_attention(int argc, char **argv) {
    bench_settings settings = {0};
    wanted w = {0};
    bool list = false, costs = false;
    const options_row options[] = {
        {"--shape", "LIST", "BATCHxHEADSxLENGTHxHEAD_DIM of the queries", &w.shape, NULL},
        {"--batch", "LIST", "sequences (default: 1)", &w.batch, NULL},
        {"--q-heads", "LIST", "heads of q (default: 32)", &w.q_heads, NULL},
        {"--kv-heads", "LIST", "heads of k and v (default: as q)", &w.kv_heads, NULL},
        {"--q-len", "LIST", "queries of each sequence (default: 1024)", &w.q_len, NULL},
        {"--k-len", "LIST", "keys of each sequence (default: as queries)", &w.k_len, NULL},
        {"--head-dim", "LIST", "length of a head's vectors (default: 128)", &w.head_dim, NULL},
        {"--v-dim", "LIST", "the same of v and o (default: as k)", &w.v_dim, NULL},
        {"--causal", NULL, "query i sees keys up to i + k_len - q_len", NULL, &w.causal},
        {"--with", "LIST",
         "features, together: " ATTENTION_FEATURES_FIRST "\n" ATTENTION_FEATURES_LAST, &w.with,
         NULL},
        {"--suite", "LIST", "named suites of shapes instead; `--suite list` names them", &w.suites,
         NULL},
        {"--list", NULL, "print the shapes instead of measuring them", NULL, &list},
        {"--costs", NULL, "of each shape, what each feature costs beside the shape without", NULL,
         &costs},
        BENCH_COMMON_ROWS(&settings, "of f32, f64, f16, bf16 (default: f32)"),
        {0},
    };
    const options_command command = {"tenon bench attention",
                                     "Measures scaled dot product attention.", notes, options};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;
    if (w.suites && strcmp(w.suites, "list") == 0) {
        print_suites(settings.json);
        return EXIT_FINE;
    }

    int code = EXIT_USAGE;
    shapes all = {0};
    if (w.suites ? !read_suites(&w, &all) : !read_options(&w, &all))
        goto out;
    if (list) {
        print_shapes(&all, settings.json);
        code = EXIT_FINE;
    } else {
        code = measure(&all, costs, &settings);
    }
out:
    free(all.items);
    bench_settings_free(&settings);
    return code;
}
