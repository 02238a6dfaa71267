/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h: what `tenon bench` is made of. An operation (bench_gemm.c, bench_softmax.c,
 * bench_attention.c) turns its options into jobs, one for each combination of shape and type;
 * bench_run.c measures a job on every thread count, warm or cold, against peers and against the
 * machine's limits, and prints its rows.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "bench_data.h"
#include "bench_limits.h"
#include "bench_scores.h"
#include "options.h"
#include "peer_gemm.h"
#include "shapes.h"
#include "table.h"
#include "timing.h"

#include <tenon/tenon.h>

#define BENCH_MOST_DTYPES 19
#define BENCH_MOST_ARRAYS 4
#define BENCH_MOST_SHAPE 10
#define BENCH_MOST_WORKSPACES 16

/* A bound on the workspace: bytes, or percent of what the fastest algorithm takes. */
typedef struct bench_workspace {
    char text[24]; /* as given */
    bool percent;
    double value;
} bench_workspace;

/* Options every operation has: as text, then as parsed by bench_settings_parse. */
typedef struct bench_settings {
    const char *dtypes_text, *threads_text, *device, *reps_text, *min_time_text, *workspaces_text;
    options_values peer_items;
    bool cold, warm, json;
    int dtypes[BENCH_MOST_DTYPES]; /* indices into the operation's words */
    size_t dtype_count;
    shapes_list threads;
    bench_workspace workspaces[BENCH_MOST_WORKSPACES];
    int workspace_count; /* 0: no bound, and nothing is said of it */
    timing_rules rules;
    bench_peer peers[PEER_MOST];
    int peer_count;
} bench_settings;

/* clang-format off */
/* Parts of the help that operations share. */
#define BENCH_NOTES_TIME                                                                           \
    "  median       time of one call\n"                                                            \
    "  spread       interquartile range over the median\n"
#define BENCH_NOTES_ROOF                                                                           \
    "  limit        time that the measured limit takes, in percent of the median: flops at the\n"  \
    "               multiply-add or dot-product peak or bytes at the read bandwidth of a working\n" \
    "               set of that size, whichever takes longer\n"
#define BENCH_NOTES_METHOD                                                                         \
    "Limits are measured before, between and after the timed calls of each row, on as many threads;\n" \
    "a limit is the best rate that the process has measured so far, so early rows may stand\n"      \
    "against a lower one than late rows. A row whose error rounding does not explain is reported\n"  \
    "and makes the exit code 1.\n\n"                                                                \
    "A warm repetition is 20 ms of calls (one at least) after 10 ms of calls that do not count; a row\n" \
    "is the median of repetitions. Cores that were idle take some milliseconds to come up."

/* Rows for an options table of the settings. */
#define BENCH_COMMON_ROWS(s, dtype_help)                                                           \
    {"--dtype", "LIST", dtype_help, &(s)->dtypes_text, NULL},                                      \
    {"--threads", "LIST", "thread counts (default: all usable cores)", &(s)->threads_text, NULL},  \
    {"--cold", NULL, "operands in memory, in no cache; one call per repetition", NULL, &(s)->cold}, \
    {"--warm", NULL, "operands where the last call left them (default; with --cold: both)", NULL,  \
     &(s)->warm},                                                                                  \
    {"--reps", "N", "repetitions of each row (default: as --min-time asks, at least 5)",           \
     &(s)->reps_text, NULL},                                                                       \
    {"--min-time", "SECONDS", "timed calls of tenon in each row (default: 0.3)",                   \
     &(s)->min_time_text, NULL},                                                                   \
    {"--device", "NAME", "device string of the context (default: auto)", &(s)->device, NULL},      \
    {"--workspace", "LIST",                                                                        \
     "bounds on the workspace, a row for each: bytes (64K, 2M) or\n"                               \
     "parts of what the fastest algorithm takes: 100%,50%,10%,0",                                  \
     &(s)->workspaces_text, NULL},                                                                 \
    {"--json", NULL, "one JSON object per measured row and line", NULL, &(s)->json}
/* clang-format on */

bool bench_settings_parse(bench_settings *settings, const char *const *dtype_words,
                          size_t dtype_count);
void bench_settings_free(bench_settings *settings);

/* One extent (or other property, when `text` is set) of a shape, printed in this order. */
typedef struct bench_extent {
    const char *name;
    const char *text;
    int64_t value;
    bool boolean; /* JSON: true or false */
} bench_extent;

/* One thing to measure. The state behind it belongs to the operation, which knows its descriptors.
 */
typedef struct bench_job {
    const char *op;
    const char *suite; /* that the shape belongs to; NULL: to none */
    const char *way;   /* one of several in which the shape is measured, told apart in summaries;
                          NULL: there is one */
    const char *dtype;
    bench_extent shape[BENCH_MOST_SHAPE];
    int shape_count;
    double flops;         /* of one call */
    double bytes;         /* operands, each once */
    peak_kind arithmetic; /* the limit that flops are held against; PEAK_KINDS: none */
    peak_kind memory;     /* PEAK_READ, or PEAK_COPY for what writes as much as it reads */
    double error_bound;   /* largest error that rounding explains */
    bench_array *arrays[BENCH_MOST_ARRAYS]; /* operands, to be evicted when cold; NULL ends */
    bench_array *result;                    /* tenon's output, poisoned before the first run */

    /* `workspace` as in tenon_workspace.bytes: 0 is no bound. */
    tenon_status (*plan)(void *state, tenon_context *context, size_t workspace, tenon_plan **plan);
    tenon_status (*run)(void *state, tenon_context *context, const tenon_plan *plan);
    double (*error)(
        void *state,
        const bench_array *result); /* against float64, as the operation's help defines it */
    /* The same for peers, into `result`. NULL: no peer can. */
    peer_product (*product)(void *state, const bench_array *result);
    void *state;
} bench_job;

/* What lasts from the first row to the last. Zero-initialise, set `settings` and `jobs`. */
typedef struct bench_session {
    const bench_settings *settings;
    int64_t jobs; /* how many will come, for the progress line */
    int64_t job;  /* how many have */
    int failures;
    bench_limits limits;
    bench_scores scores; /* of the rows that belong to suites */
    table table;
    bool table_open;
} bench_session;

/* Measures and prints every row of a job. Failures are said on stderr and counted; the next job may
 * go on. */
void bench_run(bench_session *session, const bench_job *job);

/* Ends a session and answers the exit code. */
int bench_session_end(bench_session *session);

int bench_gemm(int argc, char **argv);
int bench_softmax(int argc, char **argv);
int bench_attention(int argc, char **argv);

#endif
