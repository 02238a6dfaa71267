/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory.c: the table of `tenon memory`. What each command does is in a file of its own,
 * cmd_memory_*.c.
 */
#include "commands.h"

#include <stddef.h>

static const subcommand rows[] = {
    {"bench", "how fast a pool allocates and frees, beside malloc libraries", command_memory_bench,
     NULL},
    {"generate", "writes a trace that looks like use: serving, training", command_memory_generate,
     NULL},
    {"layout", "how well objects with known lifetimes are packed into one block",
     command_memory_layout, NULL},
    {"picture", "draws a trace's blocks over time as SVG", command_memory_picture, NULL},
    {"replay", "plays a trace against a pool and malloc libraries", command_memory_replay, NULL},
    {0},
};

const subcommands memory_commands = {
    .name = "tenon memory", .what = "command", .operand = "COMMAND", .rows = rows};
