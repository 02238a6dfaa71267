/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory.c: `tenon memory WHAT`: finds the sub-command. What each does is in a file of its own,
 * cmd_memory_*.c; a new one adds its function to commands.h and a row to the table here.
 */
#include "commands.h"
#include "options.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} subcommands[] = {
    {"bench", "how fast a pool allocates and frees, beside malloc libraries", command_memory_bench},
    {"generate", "writes a trace that looks like use: serving, training", command_memory_generate},
    {"layout", "how well objects with known lifetimes are packed into one block",
     command_memory_layout},
    {"picture", "draws a trace's blocks over time as SVG", command_memory_picture},
    {"replay", "plays a trace against a pool and malloc libraries", command_memory_replay},
};
#define SUBCOMMANDS (sizeof subcommands / sizeof *subcommands)

static void usage(FILE *out) {
    fputs("usage: tenon memory COMMAND [options]\n\ncommands:\n", out);
    for (size_t i = 0; i < SUBCOMMANDS; ++i)
        fprintf(out, "  %-10s%s\n", subcommands[i].name, subcommands[i].summary);
    fputs("\ntenon memory COMMAND --help tells more.\n", out);
}

int command_memory(int argc, char **argv) {
    if (argc < 1) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        usage(stdout);
        return EXIT_FINE;
    }
    for (size_t i = 0; i < SUBCOMMANDS; ++i)
        if (strcmp(argv[0], subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    complain("unknown command 'memory %s' (tenon memory --help lists them)", argv[0]);
    return EXIT_USAGE;
}
