/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h: command lines of the `tenon` command. A command is one table that drives parsing and
 * --help alike; values arrive as text and are read by shapes.h. Also the one voice in which the
 * program complains.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* Exit codes of the program, stated in its --help. */
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* A piece of the command line; not terminated. */
typedef struct options_value {
    const char *text;
    size_t length;
} options_value;

/* Values of an option that may be given several times, and each time as a list with commas. */
#define OPTIONS_MOST_VALUES 8
typedef struct options_values {
    options_value items[OPTIONS_MOST_VALUES];
    int count;
} options_values;

/* One --name VALUE (text set), --name VALUE,... that may come again (text NULL) or --name (operand
 * NULL). A table ends with a row whose name is NULL. */
typedef struct options_row {
    const char *name;    /* with its dashes */
    const char *operand; /* what --help calls the value; NULL for a flag */
    const char *help;    /* may hold line breaks */
    const char **text;   /* receives the value; left alone when the option is not given */
    void *other;         /* without text: the options_values to append to, a flag's bool to set */
} options_row;

typedef struct options_command {
    const char *name;    /* "tenon bench gemm" */
    const char *summary; /* one sentence */
    const char *notes;   /* shown after the options; NULL: none */
    const options_row *rows;
} options_command;

typedef enum options_outcome { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_WRONG } options_outcome;

/* Reads argv[0..argc) against the table; --help prints it on stdout. What is wrong is said on
 * stderr. */
options_outcome options_parse(const options_command *command, int argc, char **argv);

/* One line on stderr, with the program's name in front, clear of any progress line. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line on stderr that the next one replaces; nothing unless stderr is a terminal. */
void progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_clear(void);

#endif
