/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory_replay.c: `tenon memory replay FILE`: the options, and the table of what
 * traces_replay.c measures.
 */
#include "commands.h"

#include "json.h"
#include "machine.h"
#include "options.h"
#include "shapes.h"
#include "table.h"
#include "traces_input.h"
#include "traces_replay.h"

#include <stdio.h>
#include <string.h>

enum { MOST_PEERS = 8, PATH = 512 };

/* clang-format off */
static const char *const notes =
    TRACES_INPUT_NOTES "\n\n"
    "Columns:\n"
    "  time         of one operation (an allocation or a free), memory not touched: the fastest round\n"
    "  touched      of one operation when every page of every block is written\n"
    "  footprint    the most the process held beyond what it began with (resident pages)\n"
    "  over live    footprint over the most bytes alive at once, as asked for\n"
    "  reserved     the same of what the pool says it holds (peak_reserved)\n"
    "  unused       share of what was held that was not alive, mean over the replay\n"
    "Each allocator is measured in processes of its own. A library that is preloaded replaces\n"
    "\"malloc\"; one given by --vs is opened at run time.";
/* clang-format on */

typedef struct replay_options {
    traces_input input;
    const char *peers_text, *time_text, *budget_text;
    bool no_touch, json;
} replay_options;

static void print_json(const replay_options *o, const traces *t, const traces_allocator *a,
                       const traces_figures *f) {
    const double live = (double)t->peak_live;
    json_writer json = {0};
    json_object(&json, NULL);
    json_text(&json, "op", "memory replay");
    json_text(&json, "file", o->input.file);
    json_text(&json, "allocator", a->name);
    json_int(&json, "events", (int64_t)t->events_count);
    json_int(&json, "blocks", (int64_t)t->blocks_count);
    json_int(&json, "peak_live", (int64_t)t->peak_live);
    json_int(&json, "peak_live_tokens", (int64_t)t->used);
    json_text(&json, "error", f->error[0] != '\0' ? f->error : NULL);
    json_number(&json, "seconds", f->seconds);
    json_number(&json, "seconds_touched", f->touched);
    json_int(&json, "footprint", (int64_t)f->peak_resident);
    json_number(&json, "footprint_over_live", (double)f->peak_resident / live);
    json_int(&json, "reserved", (int64_t)f->peak_reserved);
    json_number(&json, "reserved_over_live", (double)f->peak_reserved / live);
    json_number(&json, "unused", f->unused);
    json_int(&json, "failures", (int64_t)f->failures);
    json_object_end(&json);
}

static void print_row(table *out, const traces *t, const traces_allocator *a,
                      const traces_figures *f) {
    char text[32];
    const double live = (double)t->peak_live;
    table_cell(out, "%s", a->name);
    table_cell(out, "%s", table_seconds(f->seconds, text, sizeof text));
    if (f->touched > 0) {
        table_cell(out, "%s", table_seconds(f->touched, text, sizeof text));
        table_cell(out, "%s", table_bytes(f->peak_resident, text, sizeof text));
        table_cell(out, "%.4f", (double)f->peak_resident / live);
    } else {
        for (int i = 0; i < 3; ++i)
            table_cell(out, "-");
    }
    if (a->pool)
        table_cell(out, "%.4f", (double)f->peak_reserved / live);
    else
        table_cell(out, "-");
    if (f->touched > 0)
        table_cell(out, "%.1f %%", 100 * f->unused);
    else
        table_cell(out, "-");
    table_cell(out, "%llu", (unsigned long long)f->failures);
    table_end_row(out);
}

static void print_title(table *out, const traces *t) {
    char live[32];
    printf("%zu events, %zu blocks, at most %s alive\n", t->events_count, t->blocks_count,
           table_bytes(t->peak_live, live, sizeof live));
    if (t->used != 0)
        printf("pages over the tokens in them, when most were alive: %.4f\n",
               (double)t->peak_live / (double)t->used);
    putchar('\n');
    table_begin(out);
    table_column(out, "allocator", -22);
    table_column(out, "time", 9);
    table_column(out, "touched", 9);
    table_column(out, "footprint", 10);
    table_column(out, "over live", 10);
    table_column(out, "reserved", 9);
    table_column(out, "unused", 8);
    table_column(out, "failures", 9);
    table_end_row(out);
}

/* The pool, malloc, and the libraries of a comma list, whose text goes into `names`. Returns how
 * many; 0 after a sentence. */
static int contenders(const replay_options *o, int64_t budget, char *names, size_t capacity,
                      traces_allocator *all) {
    int count = 0;
    all[count++] = (traces_allocator){.name = "tenon pool", .pool = true, .budget = (size_t)budget};
    all[count++] = (traces_allocator){.name = "malloc"};
    if (o->peers_text == NULL)
        return count;
    if (strlen(o->peers_text) >= capacity) {
        complain("--vs is too long");
        return 0;
    }
    strcpy(names, o->peers_text);
    for (char *at = names; at != NULL;) {
        char *comma = strchr(at, ',');
        if (comma != NULL)
            *comma++ = '\0';
        if (*at == '\0' || count == 2 + MOST_PEERS) {
            complain("--vs is %s; expected one to %d libraries with commas between", o->peers_text,
                     MOST_PEERS);
            return 0;
        }
        const char *slash = strrchr(at, '/');
        all[count++] = (traces_allocator){.name = slash ? slash + 1 : at, .library = at};
        at = comma;
    }
    return count;
}

static int replay(const replay_options *o, const traces_allocator *all, int count, double min_time,
                  const traces *t) {
    traces_rules rules = {.min_time = min_time, .touch = !o->no_touch, .most_seconds = 300};
    const size_t available = machine_memory_available();
    if (rules.touch && available != 0 && t->peak_live / 4 * 7 > available) {
        complain("up to %zu bytes are alive at once, too many to touch on this machine; "
                 "--scale makes them less, --no-touch leaves them alone",
                 t->peak_live);
        return EXIT_FAILED;
    }
    table out;
    if (!o->json)
        print_title(&out, t);
    int failures = 0;
    for (int i = 0; i < count; ++i) {
        traces_figures f;
        progress("%s", all[i].name);
        traces_replay(t, &all[i], &rules, &f);
        progress_clear();
        if (f.error[0] != '\0') {
            complain("%s: %s", all[i].name, f.error);
            ++failures;
        }
        if (o->json)
            print_json(o, t, &all[i], &f);
        else if (f.error[0] == '\0')
            print_row(&out, t, &all[i], &f);
    }
    return failures != 0 ? EXIT_FAILED : EXIT_FINE;
}

int command_memory_replay(int argc, char **argv) {
    replay_options o = {.json = false};
    const options_row rows[] = {
        TRACES_INPUT_ROWS(&o.input),
        {"--vs", "LIBS", "malloc libraries to compare with (libmimalloc.so.2, ...)", &o.peers_text,
         NULL},
        {"--budget", "BYTES", "of the pool (default: none)", &o.budget_text, NULL},
        {"--min-time", "SECONDS", "timed rounds of each allocator (default: 0.3)", &o.time_text,
         NULL},
        {"--no-touch", NULL, "do not write to the memory: times only", NULL, &o.no_touch},
        {"--json", NULL, "one JSON object per allocator", NULL, &o.json},
        {0},
    };
    const options_command command = {
        "tenon memory replay FILE",
        "Plays a trace against a pool, malloc and malloc libraries: time and footprint.", notes,
        rows};
    if (!traces_input_file(&o.input, "tenon memory replay", &argc, &argv))
        return EXIT_USAGE;
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;

    double min_time = 0.3;
    int64_t budget = 0;
    char names[PATH];
    traces_allocator all[2 + MOST_PEERS];
    if ((o.time_text && !shapes_parse_seconds("--min-time", o.time_text, &min_time)) ||
        (o.budget_text && !shapes_parse_int("--budget", o.budget_text, 1, INT64_MAX, &budget)))
        return EXIT_USAGE;
    const int count = contenders(&o, budget, names, sizeof names, all);
    if (count == 0)
        return EXIT_USAGE;
    traces t;
    const int code = traces_input_read(&o.input, &t);
    if (code != EXIT_FINE)
        return code;
    const int result = replay(&o, all, count, min_time, &t);
    traces_free(&t);
    return result;
}
