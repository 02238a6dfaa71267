/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c: the `tenon` command: picks the command named first and hands it the rest. It is a program
 * like any other that uses the library: it sees the public headers only.
 */
#include "commands.h"
#include "options.h"

#include <tenon/tenon.h>

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"info", "devices, instruction sets, caches, memory; why a backend is or is not there",
     command_info},
    {"peak", "this machine's limits, measured: multiply-add, dot product, memory", command_peak},
    {"bench", "how fast an operation runs: bench gemm, bench softmax, bench attention",
     command_bench},
    {"memory", "pools and allocators: memory bench", command_memory},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static void usage(FILE *out) {
    fputs("usage: tenon COMMAND [options]\n\ncommands:\n", out);
    for (size_t i = 0; i < COMMANDS; ++i)
        fprintf(out, "  %-8s%s\n", commands[i].name, commands[i].summary);
    fputs("\ntenon COMMAND --help tells more; tenon --version names the library.\n"
          "Exit codes: 0 all went well; 1 a measurement failed or a result was wrong; 2 bad "
          "options.\n",
          out);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return EXIT_FINE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        const int version = tenon_version();
        printf("tenon %d.%d.%d\n", version / 10000, version / 100 % 100, version % 100);
        return EXIT_FINE;
    }
    for (size_t i = 0; i < COMMANDS; ++i)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    complain("unknown command '%s' (tenon --help lists them)", argv[1]);
    return EXIT_USAGE;
}
