/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory_bench.c: `tenon memory bench`: what an allocation and its free cost, in tenon's pool and
 * in malloc libraries that are opened at run time.
 */
#include "commands.h"
#include "options.h"

int command_memory_bench(int argc, char **argv) {
    const options_row rows[] = {{0}};
    const options_command command = {"tenon memory bench",
                                     "Measures what an allocation and its free cost.", NULL, rows};
    const options_outcome outcome = options_parse(&command, argc, argv);
    return outcome == OPTIONS_WRONG ? EXIT_USAGE : EXIT_FINE;
}
