/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c: the `tenon` command: the table of its commands. It is a program like any other that uses
 * the library: it sees the public headers only.
 */
#include "commands.h"
#include "options.h"

#include <tenon/tenon.h>

#include <stdio.h>
#include <string.h>

static const subcommand rows[] = {
    {"info", "devices, instruction sets, caches, memory; why a backend is or is not there",
     command_info, NULL},
    {"peak", "this machine's limits, measured: multiply-add, dot product, memory", command_peak,
     NULL},
    {"bench", "how fast an operation runs", NULL, &bench_operations},
    {"memory", "pools and allocators", NULL, &memory_commands},
    {0},
};

static const subcommands commands = {
    .name = "tenon",
    .what = "command",
    .operand = "COMMAND",
    .notes = "tenon --version names the library. Exit codes: 0 all went well; 1 a measurement "
             "failed or a\nresult was wrong; 2 bad options.\n",
    .rows = rows,
};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        const int version = tenon_version();
        printf("tenon %d.%d.%d\n", version / 10000, version / 100 % 100, version % 100);
        return EXIT_FINE;
    }
    return subcommands_run(&commands, argc - 1, argv + 1);
}
