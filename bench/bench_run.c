/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_run.c: measures one job on every thread count, warm and cold, and prints its rows (see
 * bench.h).
 *
 * A row is: tenon and its peers alternating, with probes of the machine's limits before, between
 * and after, then the error of what was computed. The limit of a row is the time that its flops
 * take at the arithmetic peak or its bytes at the bandwidth of a working set of that size,
 * whichever is longer; percent_of_limit is that time over the median.
 */
#include "bench.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds from one probe of the limits to the next while a row is timed: often enough to meet the
 * moments at which the machine is undisturbed, and a third of the time at most. */
#define PROBE_EVERY 0.15
/* A row above its limit says that the limit was never measured undisturbed: probed again, this
 * often at most, as a row within the noise of 100 % stays above. */
#define SECOND_LOOKS 4
#define MOST_BESIDE 64
#define MOST_CALLS (1 + PEER_MOST * PEER_MOST_WAYS)

typedef struct row {
    const bench_job *job;
    int threads;
    bool cold;
    char device[32], kernel[96], algorithm[64];
    const char *workspace; /* the bound as given; NULL: none */
    size_t workspace_bytes;
    timing_stats time;
    bench_rates limit;    /* the best that was measured up to the end of this row */
    double limit_seconds; /* NaN: no limit is known */
    double beside;        /* median bandwidth of the probes taken beside this row */
    double error;
    struct {
        double seconds; /* median of its fastest function; 0: it cannot do this */
        double spread;
        const peer_way *way;
    } peers[PEER_MOST]; /* in the order of the settings' */
} row;

/* A measured call of tenon or of a peer. */
typedef struct call {
    const bench_job *job;
    tenon_context *context;
    tenon_plan *plan;
    bench_array *result;
    int peer; /* index into the settings' peers; -1: tenon, and nothing below is set */
    const bench_peer *library;
    const peer_way *way;
    peer_product product;
    void *prepared;
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
    c->way->run(c->library, &c->product, c->prepared);
    return 0;
}

static void evict(void *state) {
    const call *c = state;
    for (int i = 0; i < BENCH_MOST_ARRAYS && c->job->arrays[i]; ++i)
        bench_array_evict(c->job->arrays[i]);
    bench_array_evict(c->result);
}

/* The limits of a row, and what its probes measured. */
typedef struct probing {
    bench_session *session;
    bench_limit_query query;
    double last; /* time of the last probe */
    double beside[MOST_BESIDE];
    int count;
} probing;

static bool probe(probing *p) {
    bench_rates now;
    if (!bench_limits_probe(&p->session->limits, &p->query, &now))
        return false;
    if (p->count < MOST_BESIDE)
        p->beside[p->count++] = now.memory;
    p->last = timing_now();
    return true;
}

/* What a failed probe, which has had its say, ends a race with. */
#define PROBE_FAILED 2

static int probe_when_due(void *state) {
    probing *p = state;
    return timing_now() - p->last < PROBE_EVERY || probe(p) ? 0 : PROBE_FAILED;
}

static probing limits_of(bench_session *session, const row *r) {
    const bench_job *job = r->job;
    const size_t set = bench_limits_memory_set(&session->limits, r->threads);
    return (probing){
        .session = session,
        .query = {.arithmetic = job->arithmetic,
                  .memory = job->memory,
                  .threads = r->threads,
                  .bytes = r->cold || job->bytes > (double)set ? set : (size_t)job->bytes}};
}

/* NaN where this CPU has no probe of what the job computes (integers without a dot product). */
static double limit_seconds(const bench_job *job, bench_rates limit) {
    const double moving = limit.memory > 0 ? job->bytes / limit.memory : 0;
    const double computing = limit.arithmetic > 0 ? job->flops / limit.arithmetic : 0;
    /* Half a roof would flatter or shame: without a probe of the arithmetic there is no limit. */
    if (job->arithmetic < PEAK_KINDS && !(limit.arithmetic > 0))
        return NAN;
    return moving > computing ? moving : computing;
}

/* After the race: the limits of the row, with a second look at those that it seems to beat. */
static bool conclude(probing *p, row *r) {
    if (!probe(p))
        return false;
    for (int looks = 0;; ++looks) {
        r->limit = bench_limits_best(&p->session->limits, &p->query);
        r->limit_seconds = limit_seconds(r->job, r->limit);
        if (looks == SECOND_LOOKS || !(r->limit_seconds > r->time.median))
            break;
        if (!probe(p))
            return false;
    }
    r->beside = timing_summarize(p->beside, p->count).median;
    return true;
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

static void print_json(const bench_settings *settings, const row *r) {
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
    if (job->suite)
        json_text(&json, "suite", job->suite);
    json_number(&json, "seconds", r->time.median);
    json_number(&json, "seconds_min", r->time.min);
    json_number(&json, "spread", r->time.spread);
    json_number(&json, "gflops", job->flops / r->time.median * 1e-9);
    json_number(&json, "gbps", job->bytes / r->time.median * 1e-9);
    json_number(&json, "percent_of_limit", 100 * r->limit_seconds / r->time.median);
    json_number(&json, "limit_gflops", r->limit.arithmetic > 0 ? r->limit.arithmetic * 1e-9 : NAN);
    json_number(&json, "limit_gbps", r->limit.memory * 1e-9);
    json_number(&json, "beside_gbps", r->beside * 1e-9);
    json_number(&json, "error", r->error);
    json_list(&json, "vs");
    for (int i = 0; i < settings->peer_count; ++i) {
        if (r->peers[i].seconds == 0)
            continue;
        json_object(&json, NULL);
        json_text(&json, "name", settings->peers[i].library.name);
        json_number(&json, "seconds", r->peers[i].seconds);
        json_number(&json, "ratio", r->peers[i].seconds / r->time.median);
        json_number(&json, "spread", r->peers[i].spread);
        json_text(&json, "function", r->peers[i].way->name);
        json_object_end(&json);
    }
    json_list_end(&json);
    json_object_end(&json);
}

static void print_head(bench_session *session, const bench_job *job) {
    table *t = &session->table;
    table_begin(t);
    if (job->suite)
        table_column(t, "suite", -8);
    table_column(t, "dtype", -7);
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
        snprintf(title, sizeof title, "vs %s", session->settings->peers[i].library.name);
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
    if (job->suite)
        table_cell(t, "%s", job->suite);
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
    for (int i = 0; i < session->settings->peer_count; ++i) {
        const double seconds = r->peers[i].seconds;
        if (seconds > 0) {
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

/* Alternates tenon, which is calls[0], and the peers; fills the times of the row. */
static int race(probing *p, row *r, call *calls, int count) {
    timing_contender contenders[MOST_CALLS] = {0};
    for (int i = 0; i < count; ++i) {
        contenders[i].run = i == 0 ? run_tenon : run_peer;
        contenders[i].state = &calls[i];
        contenders[i].before_cold = evict;
    }
    timing_rules rules = p->session->settings->rules;
    rules.cold = r->cold;
    rules.between = probe_when_due;
    rules.state = p;
    const int status = timing_alternate(contenders, count, &rules);
    for (int i = 0; i < count; ++i) {
        if (status == 0) {
            const timing_stats time = timing_summarize(contenders[i].samples, contenders[i].count);
            const int peer = calls[i].peer;
            if (peer < 0) {
                r->time = time;
            } else if (r->peers[peer].seconds == 0 || time.median < r->peers[peer].seconds) {
                r->peers[peer].seconds = time.median;
                r->peers[peer].spread = time.spread;
                r->peers[peer].way = calls[i].way;
            }
        }
        free(contenders[i].samples);
    }
    return status;
}

/* The calls of the peers behind tenon's, each with a result of its own. Answers how many calls
 * there are, or 0. */
static int line_up_peers(const bench_session *session, const row *r, call *calls,
                         bench_array *results) {
    const bench_job *job = r->job;
    int count = 1;
    for (int i = 0; job->product && i < session->settings->peer_count; ++i) {
        const bench_peer *peer = &session->settings->peers[i];
        peer_set_threads(peer, r->threads);
        for (int w = 0; w < peer->way_count; ++w) {
            const peer_way *way = peer->ways[w];
            bench_array *result = &results[count];
            if (!result->data && !bench_array_make(result, job->result->dtype, job->result->count))
                return 0;
            call *c = &calls[count];
            *c = (call){.job = job,
                        .peer = i,
                        .library = peer,
                        .way = way,
                        .result = result,
                        .product = job->product(job->state, result)};
            if (!way->can(peer, &c->product) ||
                (way->prepare && !(c->prepared = way->prepare(peer, &c->product)))) {
                *c = (call){0};
                continue;
            }
            bench_array_poison(result);
            ++count;
        }
    }
    return count;
}

static bool measure(bench_session *session, row *r, tenon_context *context, tenon_plan *plan) {
    call calls[MOST_CALLS] = {
        {.job = r->job, .context = context, .plan = plan, .peer = -1, .result = r->job->result}};
    bench_array results[MOST_CALLS] = {0};
    probing p = limits_of(session, r);
    bool ok = false;
    bench_array_poison(r->job->result);
    const int count = line_up_peers(session, r, calls, results);
    if (count == 0 || !probe(&p))
        goto out;
    const int status = race(&p, r, calls, count);
    if (status && status != PROBE_FAILED)
        complain("%s: %s", r->job->op,
                 status == TIMING_NO_MEMORY ? "no memory for samples"
                                            : tenon_error_message(context));
    if (status || !conclude(&p, r))
        goto out;
    r->error = r->job->error(r->job->state, r->job->result);
    judge(session, r->job, "tenon", r->error);
    for (int i = 1; i < count; ++i)
        judge(session, r->job, calls[i].library->library.name,
              r->job->error(r->job->state, &results[i]));
    ok = true;
out:
    for (int i = 1; i < MOST_CALLS; ++i) {
        if (calls[i].prepared)
            calls[i].way->release(calls[i].library, calls[i].prepared);
        bench_array_free(&results[i]);
    }
    return ok;
}

/* Rows of suites, for the summary at the end. */
static bool keep_score(bench_session *session, const row *r) {
    const bench_job *job = r->job;
    bench_scores_row score = {.key = {.op = job->op,
                                      .suite = job->suite,
                                      .way = job->way,
                                      .dtype = job->dtype,
                                      .threads = r->threads,
                                      .cold = r->cold}};
    if (!job->suite || session->settings->peer_count == 0)
        return true;
    shape_text(job, score.shape, sizeof score.shape);
    for (int i = 0; i < session->settings->peer_count; ++i)
        score.ratios[i] = r->peers[i].seconds / r->time.median;
    return bench_scores_add(&session->scores, &score);
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
        if (!measure(session, &r, context, plan) || !keep_score(session, &r)) {
            ++session->failures;
            continue;
        }
        if (settings->json)
            print_json(settings, &r);
        else
            print_row(session, &r);
    }
}

/* What tenon_workspace.bytes has to be for a bound, given the bytes of the fastest algorithm. There
 * 0 would be no bound at all, and nothing takes a single byte. */
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

/* What the column `limit` of the table above refers to. */
static void print_footnote(const bench_session *session) {
    if (session->table_open)
        puts("limit: of the best rate that this process measured up to that row");
}

int bench_session_end(bench_session *session) {
    const bench_settings *settings = session->settings;
    const char *names[PEER_MOST];
    for (int i = 0; i < settings->peer_count; ++i)
        names[i] = settings->peers[i].library.name;
    progress_clear();
    print_footnote(session);
    bench_scores_print(&session->scores, names, settings->peer_count, settings->json);
    bench_scores_free(&session->scores);
    bench_limits_free(&session->limits);
    if (session->failures)
        complain("%d rows could not be measured or were wrong", session->failures);
    return session->failures ? EXIT_FAILED : EXIT_FINE;
}
