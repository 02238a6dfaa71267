/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_costs.c: the price list of attention's features (see attention_costs.h).
 *
 * A row is the median of alternating repetitions of two calls in one context, the shape with a
 * feature and the shape without. `time` is their ratio, `work` that of the pairs of query and key,
 * and the cost is what the time is above the work: a mask or soft cap leaves the work alone and
 * costs what it takes; causality and windows take work away, and the cost is what of it was done
 * anyway.
 */
#include "attention_costs.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const features[] = {"causal", "window=511", "softcap=50", "alibi",   "sinks",
                                       "bias",   "mask",       "lse",        "page=16", "page=256",
                                       "mixed",  "cache=f16",  "cache=q8_0"};
#define FEATURES (sizeof features / sizeof *features)

typedef struct side {
    attention_case a;
    tenon_context *context;
    tenon_plan *plan;
} side;

static int run_side(void *state) {
    side *s = state;
    const tenon_status status = attention_case_run(&s->a, s->context, s->plan);
    return status == TENON_OK ? tenon_sync(s->context) : status;
}

/* `lacking`: set, and no complaint, if the device does not take such a case. */
static bool open_side(side *s, const attention_shape *shape, tenon_dtype dtype,
                      tenon_context *context, bool *lacking) {
    s->context = context;
    if (!attention_case_make(&s->a, shape, dtype))
        return false;
    const tenon_status status = attention_case_plan(&s->a, context, 0, &s->plan);
    *lacking = status == TENON_ERROR_UNSUPPORTED;
    if (status != TENON_OK && !*lacking)
        complain("%s", tenon_error_message(context));
    bench_array_poison(&s->a.o);
    return status == TENON_OK;
}

static void close_side(side *s) {
    tenon_plan_destroy(s->plan);
    attention_case_free(&s->a);
}

static bool right(side *s) {
    const double error = attention_case_error(&s->a, &s->a.o);
    if (error <= attention_case_bound(&s->a))
        return true;
    complain("attention with %s is wrong: error %.2e where rounding explains %.2e", s->a.shape.text,
             error, attention_case_bound(&s->a));
    return false;
}

static void print(const side *plain, const side *with, const char *feature, const char *dtype,
                  const timing_stats *t, bool json) {
    const double time = t[1].median / t[0].median, work = with->a.pairs / plain->a.pairs;
    if (!json) {
        printf("  %-12s%10.3f ms%10.3f ms%9.1f%%%9.1f%%%9.1f%%%9.1f%%\n", feature,
               t[0].median * 1e3, t[1].median * 1e3, 100 * fmax(t[0].spread, t[1].spread),
               100 * time, 100 * work, 100 * (time / work - 1));
        fflush(stdout);
        return;
    }
    json_writer w = {0};
    const attention_shape *s = &plain->a.shape;
    json_object(&w, NULL);
    json_text(&w, "op", "attention-cost");
    json_text(&w, "dtype", dtype);
    json_int(&w, "batch", s->batch);
    json_int(&w, "q_heads", s->q_heads);
    json_int(&w, "kv_heads", s->kv_heads);
    json_int(&w, "q_len", s->q_len);
    json_int(&w, "k_len", s->k_len);
    json_int(&w, "head_dim", s->d);
    json_int(&w, "v_dim", s->dv);
    json_bool(&w, "causal", s->with.causal);
    json_text(&w, "with", s->text[0] ? s->text : "-");
    json_text(&w, "feature", feature);
    json_number(&w, "seconds_without", t[0].median);
    json_number(&w, "seconds", t[1].median);
    json_number(&w, "time", time);
    json_number(&w, "work", work);
    json_number(&w, "cost", time / work - 1);
    json_object_end(&w);
}

static bool measure(const attention_shape *base, const attention_shape *shape, const char *feature,
                    tenon_dtype dtype, const char *word, const bench_settings *settings,
                    tenon_context *context) {
    side sides[2] = {{{.dtype = dtype}, NULL, NULL}};
    timing_contender c[2] = {{.run = run_side, .state = &sides[0]},
                             {.run = run_side, .state = &sides[1]}};
    timing_stats t[2];
    bool lacking = false, ok = open_side(&sides[0], base, dtype, context, &lacking) &&
                               open_side(&sides[1], shape, dtype, context, &lacking);
    if (ok && timing_alternate(c, 2, &settings->rules) != 0) {
        complain("%s", tenon_error_message(context));
        ok = false;
    }
    for (int i = 0; i < 2 && ok; ++i)
        t[i] = timing_summarize(c[i].samples, c[i].count);
    if (ok)
        print(&sides[0], &sides[1], feature, word, t, settings->json);
    ok = ok && right(&sides[0]) && right(&sides[1]);
    for (int i = 0; i < 2; ++i) {
        free(c[i].samples);
        close_side(&sides[i]);
    }
    return ok || lacking;
}

/* Whether the feature makes the shape another one, and a legal one. */
static bool applies(const attention_shape *base, attention_shape *s, const char *feature) {
    char text[sizeof s->text] = "";
    *s = *base;
    if (!attention_features_read("--costs", feature, &s->with, text))
        return false;
    if (strlen(s->text) + strlen(text) + 2 < sizeof s->text && text[0])
        snprintf(s->text + strlen(s->text), sizeof s->text - strlen(s->text), "%s%s",
                 s->text[0] ? "+" : "", text);
    return !attention_shape_wrong(s) && !(s->with.mixed && s->batch == 1) &&
           !(s->with.windowed && s->with.window >= s->k_len) &&
           !(strcmp(feature, "causal") == 0 && (base->with.causal || s->q_len == 1));
}

bool attention_costs(const attention_shape *shape, tenon_dtype dtype, const char *dtype_word,
                     const bench_settings *settings) {
    bool ok = true;
    for (size_t i = 0; i < settings->threads.rows; ++i) {
        const tenon_context_desc desc = {.struct_size = sizeof desc,
                                         .device = settings->device,
                                         .threads = (int)settings->threads.values[i]};
        tenon_context *context = NULL;
        if (tenon_context_create(&desc, &context) != TENON_OK) {
            complain("%s", tenon_error_message(NULL));
            return false;
        }
        if (!settings->json)
            printf("%s, %lld x %lld/%lld heads, %lld queries x %lld keys, %lld/%lld wide%s, %d "
                   "threads\n  %-12s%13s%13s%10s%10s%10s%10s\n",
                   dtype_word, (long long)shape->batch, (long long)shape->q_heads,
                   (long long)shape->kv_heads, (long long)shape->q_len, (long long)shape->k_len,
                   (long long)shape->d, (long long)shape->dv, shape->with.causal ? ", causal" : "",
                   desc.threads, "feature", "without", "with", "spread", "time", "work", "cost");
        for (size_t f = 0; f < FEATURES; ++f) {
            attention_shape s;
            if (applies(shape, &s, features[f]))
                ok = measure(shape, &s, features[f], dtype, dtype_word, settings, context) && ok;
        }
        tenon_context_destroy(context);
    }
    return ok;
}
