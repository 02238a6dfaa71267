/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory_layout.c: `tenon memory layout FILE…`: lays out the objects of each file with
 * tenon_memory_layout_with and says how far above the lower bound the result is. Files are those of
 * MiniMalloc and SOMAS: lines of id,lower,upper,size, alive from lower to upper - 1.
 */
#include "commands.h"

#include "json.h"
#include "options.h"
#include "shapes.h"
#include "table.h"
#include "timing.h"

#include <tenon/tenon.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const char *const notes =
    "FILE… come first. Each holds a line of titles and lines of id,lower,upper,size: bytes alive from\n"
    "lower up to, but without, upper (the format of MiniMalloc). ratio is the total over the lower\n"
    "bound, the most bytes alive at once. It depends on the file and the options only.";
/* clang-format on */

typedef struct problem {
    tenon_lifetime *objects;
    size_t count;
} problem;

/* Reads a file; says what is wrong with it. */
static bool read_problem(const char *path, size_t alignment, problem *p) {
    char line[256];
    size_t capacity = 0, number = 0;
    bool fine = true;
    FILE *file = fopen(path, "r");
    if (!file) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    while (fine && fgets(line, sizeof line, file)) {
        int64_t lower, upper, bytes;
        char behind;
        ++number;
        if (sscanf(line, "%*[^,],%" SCNd64 ",%" SCNd64 ",%" SCNd64 " %c", &lower, &upper, &bytes,
                   &behind) != 3 ||
            lower >= upper || bytes < 0) {
            fine = number == 1; /* titles */
            if (!fine)
                complain("%s:%zu: expected id,lower,upper,size with lower < upper", path, number);
            continue;
        }
        if (p->count == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            tenon_lifetime *grown = realloc(p->objects, capacity * sizeof *grown);
            fine = grown != NULL;
            if (!fine) {
                complain("%s: no memory for %zu objects", path, capacity);
                break;
            }
            p->objects = grown;
        }
        p->objects[p->count++] = (tenon_lifetime){
            .bytes = (size_t)bytes, .alignment = alignment, .first = lower, .last = upper - 1};
    }
    fclose(file);
    return fine;
}

typedef struct outcome {
    size_t total, bound;
    double ratio, seconds;
} outcome;

static void print_row(bool json, table *t, const char *path, const problem *p, const outcome *o) {
    if (json) {
        json_writer out = {0};
        json_object(&out, NULL);
        json_text(&out, "op", "memory layout");
        json_text(&out, "file", path);
        json_int(&out, "objects", (int64_t)p->count);
        json_int(&out, "lower_bound", (int64_t)o->bound);
        json_int(&out, "total", (int64_t)o->total);
        json_number(&out, "ratio", o->ratio);
        json_number(&out, "seconds", o->seconds);
        json_object_end(&out);
        return;
    }
    const char *name = strrchr(path, '/');
    table_cell(t, "%s", name ? name + 1 : path);
    table_cell(t, "%zu", p->count);
    table_cell(t, "%zu", o->bound);
    table_cell(t, "%zu", o->total);
    table_cell(t, "%.4f", o->ratio);
    table_cell(t, "%.2f", o->seconds);
    table_end_row(t);
}

static bool lay_out(const char *path, size_t alignment, double effort, bool json, table *t) {
    problem p = {NULL, 0};
    outcome o;
    bool fine = read_problem(path, alignment, &p);
    if (fine) {
        const tenon_layout_options options = {.struct_size = sizeof options, .effort = effort};
        const double start = timing_now();
        fine = tenon_memory_layout_with(NULL, p.objects, p.count, &options, &o.total, &o.bound) ==
               TENON_OK;
        o.seconds = timing_now() - start;
        o.ratio = o.bound > 0 ? (double)o.total / (double)o.bound : 1;
        if (fine)
            print_row(json, t, path, &p, &o);
        else
            complain("%s: %s", path, tenon_error_message(NULL));
    }
    free(p.objects);
    return fine;
}

static bool read_effort(const char *text, double *effort) {
    char *end;
    *effort = strtod(text, &end);
    if (end != text && *end == 0 && *effort >= -1)
        return true;
    complain("--effort: '%s' is not a number from -1", text);
    return false;
}

int command_memory_layout(int argc, char **argv) {
    const char *effort_text = "1", *alignment_text = "1";
    bool json = false;
    const options_row rows[] = {
        {"--effort", "E", "most work of the search, 1: the default's; -1: none", &effort_text,
         NULL},
        {"--alignment", "BYTES", "of every object, a power of two (1)", &alignment_text, NULL},
        {"--json", NULL, "one JSON object per line", NULL, &json},
        {0},
    };
    const options_command command = {
        "tenon memory layout FILE…",
        "Packs objects with known lifetimes into one block and compares with the lower bound.",
        notes, rows};
    int files = 0;
    while (files < argc && argv[files][0] != '-')
        ++files;
    const options_outcome parsed = options_parse(&command, argc - files, argv + files);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;
    double effort;
    int64_t alignment;
    if (!read_effort(effort_text, &effort) ||
        !shapes_parse_int("--alignment", alignment_text, 1, (int64_t)1 << 40, &alignment))
        return EXIT_USAGE;
    if (files == 0) {
        complain("memory layout: FILE is missing (tenon memory layout --help tells more)");
        return EXIT_USAGE;
    }

    table t;
    if (!json) {
        table_begin(&t);
        table_column(&t, "file", -28);
        table_column(&t, "objects", 8);
        table_column(&t, "lower bound", 12);
        table_column(&t, "total", 12);
        table_column(&t, "ratio", 7);
        table_column(&t, "seconds", 8);
        table_end_row(&t);
    }
    bool fine = true;
    for (int i = 0; i < files; ++i)
        fine &= lay_out(argv[i], (size_t)alignment, effort, json, &t);
    return fine ? EXIT_FINE : EXIT_FAILED;
}
