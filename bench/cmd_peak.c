/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_peak.c: `tenon peak`: every probe this processor can run, on every thread count asked for.
 * Prints what peak.c measures; decides nothing about it.
 */
#include "commands.h"

#include "json.h"
#include "machine.h"
#include "options.h"
#include "peak.h"
#include "shapes.h"
#include "table.h"
#include "timing.h"

#include <math.h>
#include <stdio.h>

#define MOST_REPS 1000
#define MOST_THREADS 1024

/* clang-format off */
static const char *const notes =
    "Arithmetic probes run one instruction on independent accumulators in registers. Memory probes\n"
    "walk over a working set much larger than all caches (--bytes chooses another); a copy counts\n"
    "bytes read and bytes written. spread is the interquartile range over the median. --json prints\n"
    "one object per line: op (\"peak\"), limit (fma, dot, read, copy, copy_stream), isa, instruction,\n"
    "dtype, threads, bytes, gflops or gbps (median), best, spread.";
/* clang-format on */

typedef struct peak_row {
    const peak_probe *probe;
    int threads;
    size_t bytes;
    double median, best, spread; /* rates; 1e9 operations or bytes a second */
} peak_row;

static void print_json(const peak_row *row) {
    json_writer json = {0};
    const bool memory = peak_is_memory(row->probe->kind);
    json_object(&json, NULL);
    json_text(&json, "op", "peak");
    json_text(&json, "limit", peak_kind_name(row->probe->kind));
    json_text(&json, "isa", row->probe->isa);
    json_text(&json, "instruction", row->probe->instruction);
    json_text(&json, "dtype", peak_kind_dtype(row->probe->kind));
    json_int(&json, "threads", row->threads);
    if (memory)
        json_int(&json, "bytes", (int64_t)row->bytes);
    else
        json_text(&json, "bytes", NULL);
    json_number(&json, "gflops", memory ? NAN : row->median);
    json_number(&json, "gbps", memory ? row->median : NAN);
    json_number(&json, "best", row->best);
    json_number(&json, "spread", row->spread);
    json_object_end(&json);
}

static void print_head(table *t) {
    table_begin(t);
    table_column(t, "limit", -11);
    table_column(t, "dtype", -5);
    table_column(t, "isa", -10);
    table_column(t, "instruction", -25);
    table_column(t, "threads", 7);
    table_column(t, "median", 8);
    table_column(t, "best", 8);
    table_column(t, "spread", 6);
    table_column(t, "unit", -8);
    table_end_row(t);
}

static void print_row(table *t, const peak_row *row) {
    const char *dtype = peak_kind_dtype(row->probe->kind);
    table_cell(t, "%s", peak_kind_name(row->probe->kind));
    table_cell(t, "%s", dtype ? dtype : "");
    table_cell(t, "%s", row->probe->isa);
    table_cell(t, "%s", row->probe->instruction);
    table_cell(t, "%d", row->threads);
    table_cell(t, "%.1f", row->median);
    table_cell(t, "%.1f", row->best);
    table_cell(t, "%.1f%%", 100 * row->spread);
    table_cell(t, "%s",
               peak_is_memory(row->probe->kind) ? "GB/s"
               : dtype[0] == 's'                ? "Gop/s"
                                                : "GFLOP/s");
    table_end_row(t);
}

static bool measure(peak_row *row, const peak_rules *rules, peak_memory *memory) {
    double rates[MOST_REPS];
    progress("peak: %s %s, %d threads", peak_kind_name(row->probe->kind), row->probe->isa,
             row->threads);
    if (!peak_measure(row->probe, rules, memory, rates))
        return false;
    const timing_stats stats = timing_summarize(rates, rules->reps);
    row->median = stats.median * 1e-9;
    row->best = stats.max * 1e-9;
    row->spread = stats.spread;
    return true;
}

int command_peak(int argc, char **argv) {
    const char *threads_text = NULL, *reps_text = "9", *bytes_text = NULL;
    bool json = false, pin = false;
    const options_row rows[] = {
        {"--threads", "LIST", "thread counts, e.g. 1,2,4..16:4 (default: 1 and all usable cores)",
         &threads_text, NULL},
        {"--reps", "N", "repetitions of each probe (default: 9)", &reps_text, NULL},
        {"--bytes", "N", "working set of the memory probes, all threads together", &bytes_text,
         NULL},
        {"--pin", NULL, "bind thread i to the i-th usable core", NULL, &pin},
        {"--json", NULL, "one JSON object per measured limit and line", NULL, &json},
        {0},
    };
    const options_command command = {"tenon peak", "Measures what this machine can do at most.",
                                     notes, rows};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;

    char all[32];
    const int cores = machine_cores();
    snprintf(all, sizeof all, cores > 1 ? "1,%d" : "%d", cores);
    shapes_list threads = {0};
    int64_t reps = 0, bytes = 0;
    if (!shapes_parse_int("--reps", reps_text, 1, MOST_REPS, &reps) ||
        (bytes_text && !shapes_parse_int("--bytes", bytes_text, 1, INT64_C(1) << 40, &bytes)) ||
        !shapes_parse_list("--threads", threads_text ? threads_text : all, 1, MOST_THREADS,
                           &threads))
        return EXIT_USAGE;

    int code = EXIT_FINE;
    table t;
    peak_memory memory = {0};
    size_t count;
    const peak_probe *probes = peak_probes(&count);
    if (!json)
        print_head(&t);
    for (size_t p = 0; p < count; ++p) {
        for (size_t i = 0; i < threads.rows && peak_supported(&probes[p]); ++i) {
            const int team = (int)threads.values[i];
            peak_row row = {.probe = &probes[p], .threads = team};
            row.bytes = bytes ? (size_t)bytes : peak_memory_set(team);
            const peak_rules rules = {.threads = team,
                                      .reps = (int)reps,
                                      .seconds = 20e-3,
                                      .bytes = row.bytes,
                                      .pin = pin};
            if (!measure(&row, &rules, &memory)) {
                code = EXIT_FAILED;
                continue;
            }
            if (json)
                print_json(&row);
            else
                print_row(&t, &row);
        }
    }
    progress_clear();
    peak_memory_free(&memory);
    shapes_free(&threads);
    return code;
}
