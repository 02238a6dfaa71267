/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces_input.h: the file that `tenon memory replay` and `tenon memory picture` are given: the
 * options that say how it is read, and the reading.
 */
#ifndef BENCH_TRACES_INPUT_H
#define BENCH_TRACES_INPUT_H

#include "options.h"
#include "traces.h"

typedef struct traces_input {
    const char *file; /* "-": standard input */
    const char *format, *page, *token_bytes, *speed, *scale;
} traces_input;

/* clang-format off */
/* Rows for an options table. */
#define TRACES_INPUT_ROWS(i)                                                                        \
    {"--format", "NAME", "tenon, azure, somas or minimalloc (default: by the first line)",          \
     &(i)->format, NULL},                                                                           \
    {"--page", "TOKENS", "azure: caches in pages of that many tokens (default: in one piece)",      \
     &(i)->page, NULL},                                                                             \
    {"--token-bytes", "N", "azure: keys and values of one token (default: 16384)",                  \
     &(i)->token_bytes, NULL},                                                                      \
    {"--speed", "X", "azure: requests come X times as fast (default: 1)", &(i)->speed, NULL},       \
    {"--scale", "X", "multiply all sizes by X (default: 1)", &(i)->scale, NULL}

#define TRACES_INPUT_NOTES                                                                          \
    "FILE is a recording of tenon_memory_record or of `tenon memory generate`, a trace of requests\n" \
    "as Azure publishes it (TIMESTAMP,ContextTokens,GeneratedTokens), or lifetimes of tensors as\n" \
    "SOMAS and MiniMalloc have them (id,lower,upper,size); \"-\" is standard input."
/* clang-format on */

/* Takes FILE out of the arguments; false, after a sentence, if it is not there. */
bool traces_input_file(traces_input *input, const char *command, int *argc, char ***argv);

/* Reads it. EXIT_FINE, or the exit code after a sentence. */
int traces_input_read(const traces_input *input, traces *t);

#endif
