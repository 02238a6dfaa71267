/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commands.h: the commands of the `tenon` program: functions, which get the arguments after their
 * own name and answer the exit code, and tables of further commands. A new command adds a row to
 * the table it belongs to, in main.c, cmd_bench.c or cmd_memory.c.
 */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

#include "subcommands.h"

int command_info(int argc, char **argv);
int command_peak(int argc, char **argv);

/* `tenon bench` and `tenon memory`. */
extern const subcommands bench_operations;
extern const subcommands memory_commands;

int command_memory_bench(int argc, char **argv);
int command_memory_generate(int argc, char **argv);
int command_memory_layout(int argc, char **argv);
int command_memory_picture(int argc, char **argv);
int command_memory_replay(int argc, char **argv);

#endif
