/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subcommands.c: dispatch and help of tables of commands (see subcommands.h). It knows no command.
 */
#include "subcommands.h"

#include "options.h"

#include <stdio.h>
#include <string.h>

/* "  memory   pools and allocators: bench, generate, ...": a table's row lists the rows below
 * it. */
static void print_row(FILE *out, const subcommand *row, int width) {
    fprintf(out, "  %-*s%s", width, row->name, row->summary);
    for (const subcommand *below = row->below ? row->below->rows : NULL; below && below->name;
         ++below)
        fprintf(out, "%s%s", below == row->below->rows ? ": " : ", ", below->name);
    fputc('\n', out);
}

static void usage(FILE *out, const subcommands *table) {
    int width = 0;
    for (const subcommand *row = table->rows; row->name; ++row)
        width = (int)strlen(row->name) > width ? (int)strlen(row->name) : width;
    fprintf(out, "usage: %s %s [options]\n\n%ss:\n", table->name, table->operand, table->what);
    for (const subcommand *row = table->rows; row->name; ++row)
        print_row(out, row, width + 2);
    fprintf(out, "\n%s%s %s --help tells more.\n", table->notes ? table->notes : "", table->name,
            table->operand);
}

int subcommands_run(const subcommands *table, int argc, char **argv) {
    if (argc < 1) {
        usage(stderr, table);
        return EXIT_USAGE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 ||
        strcmp(argv[0], "help") == 0) {
        usage(stdout, table);
        return EXIT_FINE;
    }
    for (const subcommand *row = table->rows; row->name; ++row) {
        if (strcmp(argv[0], row->name) != 0)
            continue;
        return row->below ? subcommands_run(row->below, argc - 1, argv + 1)
                          : row->run(argc - 1, argv + 1);
    }
    complain("unknown %s '%s' (%s --help lists them)", table->what, argv[0], table->name);
    return EXIT_USAGE;
}
