/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subcommands.h: `tenon`, `tenon bench` and `tenon memory` are tables of this kind: the first
 * argument picks a row, which runs or is a table in its turn. --help is printed from the same
 * tables, so no text about them can fall behind them.
 */
#ifndef BENCH_SUBCOMMANDS_H
#define BENCH_SUBCOMMANDS_H

typedef struct subcommands subcommands;

/* A table ends with a row whose name is NULL. */
typedef struct subcommand {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); /* gets what follows the name; answers the exit code */
    const subcommands *below;          /* instead of run */
} subcommand;

struct subcommands {
    const char *name;    /* "tenon memory" */
    const char *what;    /* what a row is called: "command", "operation" */
    const char *operand; /* the same in the line of usage: "COMMAND" */
    const char *notes;   /* whole lines after the list; NULL: none */
    const subcommand *rows;
};

/* Runs the row that argv[0] names, or prints help; what is wrong is said on stderr. */
int subcommands_run(const subcommands *table, int argc, char **argv);

#endif
