/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commands.h: the commands of the `tenon` program. Each gets the arguments after its own name and
 * answers the exit code.
 */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

int command_info(int argc, char **argv);
int command_peak(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_memory(int argc, char **argv);

/* Those of `tenon memory`, which gives them the arguments after the second name. */
int command_memory_bench(int argc, char **argv);
int command_memory_generate(int argc, char **argv);
int command_memory_layout(int argc, char **argv);
int command_memory_picture(int argc, char **argv);
int command_memory_replay(int argc, char **argv);

#endif
