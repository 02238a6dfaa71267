/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_shapes.h: which products `tenon bench gemm` measures: the options that say so, the named
 * suites (gemm_suites.def), and the list of shapes that both come to.
 */
#ifndef BENCH_GEMM_SHAPES_H
#define BENCH_GEMM_SHAPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gemm_shape {
    const char *suite; /* NULL: of none */
    int64_t m, n, k, batch;
    const char *layout; /* "nn", "nt", "tn", "tt" */
} gemm_shape;

/* Zero-initialise. */
typedef struct gemm_shapes {
    gemm_shape *items;
    size_t count, capacity;
} gemm_shapes;

/* The options as given; NULL where not. */
typedef struct gemm_shapes_options {
    const char *m, *n, *k, *mnk, *batch, *layout, *suites;
} gemm_shapes_options;

/* Rows for an options table. */
#define GEMM_SHAPES_ROWS(o)                                                                        \
    {"--m", "LIST", "rows of C: 1,2,4..64:4", &(o)->m, NULL},                                      \
        {"--n", "LIST", "columns of C", &(o)->n, NULL},                                            \
        {"--k", "LIST", "length of the sums", &(o)->k, NULL},                                      \
        {"--mnk", "LIST",                                                                          \
         "whole shapes, 1024x512x64, or cubes, 256..1024:256\n(default without --m, --n, --k: "    \
         "1024,2048)",                                                                             \
         &(o)->mnk, NULL},                                                                         \
        {"--batch", "LIST", "independent products in one call (default: 1)", &(o)->batch, NULL},   \
        {"--layout", "LIST", "of nn, nt, tn, tt (default: nn)", &(o)->layout, NULL}, {             \
        "--suite", "LIST",                                                                         \
            "named suites of shapes instead (`--suite list` names them), of\nthem those that the " \
            "options above choose; with --vs each ends\n"                                          \
            "with a summary",                                                                      \
            &(o)->suites, NULL                                                                     \
    }

/* Makes the list; false after a sentence on stderr. */
bool gemm_shapes_read(const gemm_shapes_options *options, gemm_shapes *shapes);

/* One line for each shape, one JSON object with --json. */
void gemm_shapes_print(const gemm_shapes *shapes, bool json);

/* The suites and what they hold. */
void gemm_suites_print(bool json);

void gemm_shapes_free(gemm_shapes *shapes);

#endif
