/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_bench.c: the table of `tenon bench`, and the options that all its operations share. Measuring
 * is bench_run.c's.
 */
#include "bench.h"

#include "commands.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_THREADS 1024

static const subcommand rows[] = {
    {"gemm", "C = A B, batched or not, in all four layouts", bench_gemm, NULL},
    {"softmax", "rows of a matrix", bench_softmax, NULL},
    {"attention", "scaled dot product attention: prefill and decode", bench_attention, NULL},
    {0},
};

const subcommands bench_operations = {
    .name = "tenon bench",
    .what = "operation",
    .operand = "OPERATION",
    .notes =
        "Every LIST takes numbers and ranges: 1,2,4..64:4 (adding 4), 1..1024*2 (doubling). "
        "All\ncombinations are measured. The column limit holds a row against the best rate of the "
        "machine that\nthe process has measured so far, beside the rows themselves.\n",
    .rows = rows,
};

static bool open_peers(bench_settings *s) {
    for (; s->peer_count < s->peer_items.count; ++s->peer_count)
        if (!peer_open(s->peer_items.items[s->peer_count], &s->peers[s->peer_count]))
            return false;
    return true;
}

/* "50%", "0", "4096", "64K", "2M", "1G". */
static bool parse_workspace(const char *text, bench_workspace *out) {
    char *end = NULL;
    out->value = strtod(text, &end);
    out->percent = *end == '%';
    if (strchr("KMG", *end) && *end) {
        out->value *= *end == 'K' ? 1 << 10 : *end == 'M' ? 1 << 20 : 1 << 30;
        ++end;
    } else if (out->percent) {
        ++end;
    }
    return end != text && *end == '\0' && *text >= '0' && *text <= '9' && out->value <= 1e15;
}

static bool parse_workspaces(bench_settings *s) {
    const char *at = s->workspaces_text;
    while (at && *at) {
        const size_t length = strcspn(at, ",");
        bench_workspace *w = &s->workspaces[s->workspace_count];
        if (s->workspace_count == BENCH_MOST_WORKSPACES) {
            complain("--workspace: more than %d bounds", BENCH_MOST_WORKSPACES);
            return false;
        }
        snprintf(w->text, sizeof w->text, "%.*s", (int)length, at);
        if (length >= sizeof w->text || !parse_workspace(w->text, w)) {
            complain("--workspace: '%.*s' is neither bytes (4096, 64K, 2M) nor a part (50%%)",
                     (int)length, at);
            return false;
        }
        ++s->workspace_count;
        at += length + (at[length] == ',');
    }
    return true;
}

bool bench_settings_parse(bench_settings *s, const char *const *dtype_words, size_t dtype_count) {
    char all[32];
    snprintf(all, sizeof all, "%d", machine_cores());
    s->rules.min_time = 0.3;
    s->warm = s->warm || !s->cold;
    s->dtype_count = shapes_parse_words("--dtype", s->dtypes_text ? s->dtypes_text : "f32",
                                        dtype_words, dtype_count, s->dtypes, BENCH_MOST_DTYPES);
    return s->dtype_count > 0 &&
           shapes_parse_list("--threads", s->threads_text ? s->threads_text : all, 1, MOST_THREADS,
                             &s->threads) &&
           (!s->reps_text ||
            shapes_parse_int("--reps", s->reps_text, 1, 1000000, &s->rules.reps)) &&
           (!s->min_time_text ||
            shapes_parse_seconds("--min-time", s->min_time_text, &s->rules.min_time)) &&
           parse_workspaces(s) && open_peers(s);
}

void bench_settings_free(bench_settings *s) {
    shapes_free(&s->threads);
}
