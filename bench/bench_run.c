/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_run.c: measures one job on every thread count, warm and cold, and prints its rows (see
 * bench.h).
 *
 * A row is: the machine's limits, tenon and its peers alternating, the limits again, the error of
 * what was computed. The limit of a row is the time that its flops take at the measured arithmetic
 * peak or its bytes at the measured bandwidth over a working set of that size, whichever is longer;
 * percent_of_limit is that time over the median.
 */
#include "bench.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Probes of a row: this many repetitions before it and as many after it, of this length. */
#define LIMIT_REPS 3
#define LIMIT_SECONDS 5e-3

typedef struct row {
    const bench_job *job;
    int threads;
    bool cold;
    char device[32], kernel[96], algorithm[64];
    const char *workspace; /* the bound as given; NULL: none */
    size_t workspace_bytes;
    timing_stats time;
    double limit_seconds; /* NaN: no limit is known */
    double error;
    int peer_count;
    struct {
        const char *name;
        double seconds;
    } peers[BENCH_MOST_PEERS];
} row;

/* Rates of the limits of one row, gathered before and after it. */
typedef struct limits {
    double arithmetic[2 * LIMIT_REPS];
    double memory[2 * LIMIT_REPS];
    double stream[2 * LIMIT_REPS];
} limits;

/* A measured call of tenon or of a peer. */
typedef struct call {
    const bench_job *job;
    tenon_context *context;
    tenon_plan *plan;
    const peer_cblas *peer;
    bench_array *result;
} call;

static int run_tenon(void *state) {
    const call *c = state;
    tenon_status status = c->job->run(c->job->state, c->context, c->plan);
    if (status == TENON_OK)
        status = tenon_sync(c->context);
    return status;
}

static int run_peer(void *state) {
    const call *c = state;
    c->job->peer_run(c->job->state, c->peer, c->result);
    return 0;
}

static void evict(void *state) {
    const call *c = state;
    for (int i = 0; i < BENCH_MOST_ARRAYS && c->job->arrays[i]; ++i)
        bench_array_evict(c->job->arrays[i]);
    bench_array_evict(c->result);
}

/* Appends LIMIT_REPS rates of the best probe of `kind`; leaves 0 where there is none. */
static bool sample(bench_session *session, peak_kind kind, int threads, size_t bytes,
                   double *rates) {
    const peak_probe *probe = kind < PEAK_KINDS ? peak_best(kind) : NULL;
    const peak_rules rules = {
        .threads = threads, .reps = LIMIT_REPS, .seconds = LIMIT_SECONDS, .bytes = bytes};
    return !probe || peak_measure(probe, &rules, &session->memory, rates);
}

static bool sample_limits(bench_session *session, const row *r, limits *l, int offset) {
    const bench_job *job = r->job;
    if (session->memory_set == 0)
        session->memory_set = peak_memory_set(r->threads);
    const size_t bytes = r->cold || job->bytes > (double)session->memory_set ? session->memory_set
                                                                             : (size_t)job->bytes;
    timing_settle();
    /* What writes may do so with stores around the caches, if that is faster. */
    const peak_kind stream = job->memory == PEAK_COPY ? PEAK_COPY_STREAM : PEAK_KINDS;
    return sample(session, job->arithmetic, r->threads, 0, l->arithmetic + offset) &&
           sample(session, job->memory, r->threads, bytes, l->memory + offset) &&
           sample(session, stream, r->threads, bytes, l->stream + offset);
}

/* NaN where this CPU has no probe of what the job computes (integers without a dot product). */
static double limit_seconds(const bench_job *job, limits *l) {
    const double arithmetic = timing_summarize(l->arithmetic, 2 * LIMIT_REPS).median;
    const double memory = timing_summarize(l->memory, 2 * LIMIT_REPS).median;
    const double stream = timing_summarize(l->stream, 2 * LIMIT_REPS).median;
    const double rate = memory > stream ? memory : stream;
    const double moving = rate > 0 ? job->bytes / rate : 0;
    const double computing = arithmetic > 0 ? job->flops / arithmetic : 0;
    /* Half a roof would flatter or shame: without a probe of the arithmetic there is no limit. */
    if (job->arithmetic < PEAK_KINDS && !(arithmetic > 0))
        return NAN;
    return moving > computing ? moving : computing;
}

static void shape_text(const bench_job *job, char *text, size_t capacity) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < job->shape_count && used < capacity; ++i) {
        const bench_extent *e = &job->shape[i];
        const char *gap = i ? " " : "";
        used += (size_t)(e->text ? snprintf(text + used, capacity - used, "%s%s=%s", gap, e->name,
                                            e->text)
                                 : snprintf(text + used, capacity - used, "%s%s=%lld", gap, e->name,
                                            (long long)e->value));
    }
}

static void print_json(const row *r) {
    json_writer json = {0};
    const bench_job *job = r->job;
    json_object(&json, NULL);
    json_text(&json, "op", job->op);
    json_text(&json, "device", r->device);
    json_text(&json, "kernel", r->kernel);
    json_text(&json, "dtype", job->dtype);
    json_int(&json, "threads", r->threads);
    json_bool(&json, "cold", r->cold);
    if (r->workspace) {
        json_text(&json, "algorithm", r->algorithm);
        json_text(&json, "workspace", r->workspace);
        json_int(&json, "workspace_bytes", (int64_t)r->workspace_bytes);
    }
    for (int i = 0; i < job->shape_count; ++i) {
        const bench_extent *e = &job->shape[i];
        if (e->text)
            json_text(&json, e->name, e->text);
        else if (e->boolean)
            json_bool(&json, e->name, e->value != 0);
        else
            json_int(&json, e->name, e->value);
    }
    json_number(&json, "seconds", r->time.median);
    json_number(&json, "seconds_min", r->time.min);
    json_number(&json, "spread", r->time.spread);
    json_number(&json, "gflops", job->flops / r->time.median * 1e-9);
    json_number(&json, "gbps", job->bytes / r->time.median * 1e-9);
    json_number(&json, "percent_of_limit", 100 * r->limit_seconds / r->time.median);
    json_number(&json, "error", r->error);
    json_list(&json, "vs");
    for (int i = 0; i < r->peer_count; ++i) {
        json_object(&json, NULL);
        json_text(&json, "name", r->peers[i].name);
        json_number(&json, "seconds", r->peers[i].seconds);
        json_number(&json, "ratio", r->peers[i].seconds / r->time.median);
        json_object_end(&json);
    }
    json_list_end(&json);
    json_object_end(&json);
}

static void print_head(bench_session *session, const bench_job *job) {
    table *t = &session->table;
    table_begin(t);
    table_column(t, "dtype", -5);
    for (int i = 0; i < job->shape_count; ++i) {
        const bench_extent *e = &job->shape[i];
        const int title = (int)strlen(e->name), widest = e->text ? 12 : 6;
        table_column(t, e->name, title > widest ? title : widest);
    }
    table_column(t, "threads", 7);
    table_column(t, "data", -4);
    if (session->settings->workspace_count) {
        table_column(t, "workspace", 9);
        table_column(t, "bytes", 9);
        table_column(t, "algorithm", -16);
    }
    table_column(t, "median", 8);
    table_column(t, "spread", 6);
    table_column(t, "GFLOP/s", 7);
    table_column(t, "GB/s", 6);
    table_column(t, "limit", 6);
    table_column(t, "error", 7);
    for (int i = 0; i < session->settings->peer_count; ++i) {
        char title[80];
        snprintf(title, sizeof title, "vs %s", session->settings->peers[i].name);
        table_column(t, title, (int)(strlen(title) > 16 ? strlen(title) : 16));
    }
    table_column(t, "kernel", -1);
    table_end_row(t);
    session->table_open = true;
}

static void print_row(bench_session *session, const row *r) {
    char text[32];
    table *t = &session->table;
    const bench_job *job = r->job;
    if (!session->table_open)
        print_head(session, job);
    table_cell(t, "%s", job->dtype);
    for (int i = 0; i < job->shape_count; ++i) {
        if (job->shape[i].text)
            table_cell(t, "%s", job->shape[i].text);
        else if (job->shape[i].boolean)
            table_cell(t, "%s", job->shape[i].value ? "yes" : "no");
        else
            table_cell(t, "%lld", (long long)job->shape[i].value);
    }
    table_cell(t, "%d", r->threads);
    table_cell(t, "%s", r->cold ? "cold" : "warm");
    if (r->workspace) {
        table_cell(t, "%s", r->workspace);
        table_cell(t, "%zu", r->workspace_bytes);
        table_cell(t, "%s", r->algorithm);
    }
    table_cell(t, "%s", table_seconds(r->time.median, text, sizeof text));
    table_cell(t, "%.1f%%", 100 * r->time.spread);
    table_cell(t, "%.4g", job->flops / r->time.median * 1e-9);
    table_cell(t, "%.3g", job->bytes / r->time.median * 1e-9);
    if (isfinite(r->limit_seconds))
        table_cell(t, "%.1f%%", 100 * r->limit_seconds / r->time.median);
    else
        table_cell(t, "-");
    table_cell(t, "%.1e", r->error);
    for (int i = 0, next = 0; i < session->settings->peer_count; ++i) {
        if (next < r->peer_count && r->peers[next].name == session->settings->peers[i].name) {
            const double seconds = r->peers[next++].seconds;
            table_cell(t, "%s x%.2f", table_seconds(seconds, text, sizeof text),
                       seconds / r->time.median);
        } else {
            table_cell(t, "-");
        }
    }
    table_cell(t, "%s", r->kernel);
    table_end_row(t);
}

/* An answer that rounding does not explain is not worth timing: said, and counted as a failure. */
static void judge(bench_session *session, const bench_job *job, const char *who, double error) {
    if (error <= job->error_bound)
        return;
    char shape[192];
    shape_text(job, shape, sizeof shape);
    complain("%s %s %s: %s is wrong: error %.2e where rounding explains %.2e", job->op, job->dtype,
             shape, who, error, job->error_bound);
    ++session->failures;
}

/* Alternates tenon and the peers; fills the times of the row. */
static int race(bench_session *session, row *r, call *calls, int count) {
    timing_contender contenders[1 + BENCH_MOST_PEERS] = {0};
    for (int i = 0; i < count; ++i) {
        contenders[i].run = i == 0 ? run_tenon : run_peer;
        contenders[i].state = &calls[i];
        contenders[i].before_cold = evict;
    }
    timing_rules rules = session->settings->rules;
    rules.cold = r->cold;
    const int status = timing_alternate(contenders, count, &rules);
    for (int i = 0; i < count; ++i) {
        if (status == 0 && i == 0) {
            r->time = timing_summarize(contenders[0].samples, contenders[0].count);
        } else if (status == 0) {
            r->peers[i - 1].name = calls[i].peer->name;
            r->peers[i - 1].seconds =
                timing_summarize(contenders[i].samples, contenders[i].count).median;
            r->peer_count = i;
        }
        free(contenders[i].samples);
    }
    return status;
}

/* Results of the peers, each in memory of its own; calls[0] is tenon's. Answers how many calls
 * there are, or 0. */
static int line_up_peers(const bench_session *session, const row *r, call *calls,
                         bench_array *results) {
    int count = 1;
    for (int i = 0; i < session->settings->peer_count; ++i) {
        const peer_cblas *peer = &session->settings->peers[i];
        if (!r->job->peer_can || !r->job->peer_can(r->job->state, peer))
            continue;
        if (!bench_array_make(&results[count], r->job->result->dtype, r->job->result->count))
            return 0;
        bench_array_poison(&results[count]);
        peer_set_threads(peer, r->threads);
        calls[count] = (call){.job = r->job, .peer = peer, .result = &results[count]};
        ++count;
    }
    return count;
}

static bool measure(bench_session *session, row *r, tenon_context *context, tenon_plan *plan) {
    call calls[1 + BENCH_MOST_PEERS] = {
        {.job = r->job, .context = context, .plan = plan, .result = r->job->result}};
    bench_array results[1 + BENCH_MOST_PEERS] = {0};
    limits l = {0};
    bool ok = false;
    bench_array_poison(r->job->result);
    const int count = line_up_peers(session, r, calls, results);
    if (count == 0 || !sample_limits(session, r, &l, 0))
        goto out;
    const int status = race(session, r, calls, count);
    if (status) {
        complain("%s: %s", r->job->op,
                 status == TIMING_NO_MEMORY ? "no memory for samples"
                                            : tenon_error_message(context));
        goto out;
    }
    if (!sample_limits(session, r, &l, LIMIT_REPS))
        goto out;
    r->limit_seconds = limit_seconds(r->job, &l);
    r->error = r->job->error(r->job->state, r->job->result);
    judge(session, r->job, "tenon", r->error);
    for (int i = 1; i < count; ++i)
        judge(session, r->job, calls[i].peer->name, r->job->error(r->job->state, &results[i]));
    ok = true;
out:
    for (int i = 1; i < 1 + BENCH_MOST_PEERS; ++i)
        bench_array_free(&results[i]);
    return ok;
}

/* The warm and the cold row of one plan; `bound` is what it was planned under, or NULL. */
static void run_plan(bench_session *session, const bench_job *job, int threads,
                     tenon_context *context, tenon_plan *plan, const bench_workspace *bound) {
    const bench_settings *settings = session->settings;
    tenon_plan_info info = {.struct_size = sizeof info};
    if (tenon_plan_query(plan, &info) != TENON_OK) {
        complain("%s", tenon_error_message(NULL));
        ++session->failures;
        return;
    }
    for (int cold = 0; cold < 2; ++cold) {
        if (cold ? !settings->cold : !settings->warm)
            continue;
        row r = {.job = job,
                 .threads = threads,
                 .cold = cold,
                 .workspace = bound ? bound->text : NULL,
                 .workspace_bytes = info.workspace,
                 .limit_seconds = NAN};
        snprintf(r.device, sizeof r.device, "%s", info.device);
        snprintf(r.kernel, sizeof r.kernel, "%s", info.kernel);
        snprintf(r.algorithm, sizeof r.algorithm, "%s", info.algorithm);
        char shape[192];
        shape_text(job, shape, sizeof shape);
        progress("[%lld/%lld] %s %s %s, %d threads, %s", (long long)session->job,
                 (long long)session->jobs, job->op, job->dtype, shape, threads,
                 cold ? "cold" : "warm");
        if (!measure(session, &r, context, plan))
            ++session->failures;
        else if (settings->json)
            print_json(&r);
        else
            print_row(session, &r);
    }
}

/* What tenon_workspace.bytes has to be for a bound, given the bytes of the fastest algorithm. There 0
 * would be no bound at all, and nothing takes a single byte. */
static size_t bound_bytes(const bench_workspace *bound, size_t preferred) {
    const double bytes = bound->percent ? bound->value / 100 * (double)preferred : bound->value;
    return bytes < 1 ? 1 : (size_t)bytes;
}

/* One thread count: a context, and a plan without bound or one for each that was asked for. */
static void run_threads(bench_session *session, const bench_job *job, int threads) {
    const bench_settings *settings = session->settings;
    const tenon_context_desc desc = {
        .struct_size = sizeof desc, .device = settings->device, .threads = threads};
    tenon_context *context = NULL;
    tenon_plan *fastest = NULL;
    if (tenon_context_create(&desc, &context) != TENON_OK) {
        complain("--device %s: %s", settings->device ? settings->device : "auto",
                 tenon_error_message(NULL));
        ++session->failures;
        return;
    }
    tenon_plan_info info = {.struct_size = sizeof info};
    if (job->plan(job->state, context, 0, &fastest) != TENON_OK ||
        tenon_plan_query(fastest, &info) != TENON_OK) {
        complain("%s", tenon_error_message(context));
        ++session->failures;
        goto out;
    }
    if (settings->workspace_count == 0)
        run_plan(session, job, threads, context, fastest, NULL);
    for (int i = 0; i < settings->workspace_count; ++i) {
        const bench_workspace *bound = &settings->workspaces[i];
        tenon_plan *plan = NULL;
        if (job->plan(job->state, context, bound_bytes(bound, info.workspace_preferred), &plan) !=
            TENON_OK) {
            complain("--workspace %s: %s", bound->text, tenon_error_message(context));
            ++session->failures;
            continue;
        }
        run_plan(session, job, threads, context, plan, bound);
        tenon_plan_destroy(plan);
    }
out:
    tenon_plan_destroy(fastest);
    tenon_context_destroy(context);
}

void bench_run(bench_session *session, const bench_job *job) {
    ++session->job;
    for (size_t i = 0; i < session->settings->threads.rows; ++i)
        run_threads(session, job, (int)session->settings->threads.values[i]);
}

int bench_session_end(bench_session *session) {
    progress_clear();
    peak_memory_free(&session->memory);
    if (session->failures)
        complain("%d rows could not be measured or were wrong", session->failures);
    return session->failures ? EXIT_FAILED : EXIT_FINE;
}
