/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peak.h: the machine's limits, measured: how fast this CPU multiplies and adds, takes dot
 * products, reads and copies memory, on a given number of threads. `tenon peak` prints them; `tenon
 * bench` measures each row against them.
 *
 * A probe is a loop of one instruction on independent accumulators (peak_*.c, one file for each
 * instruction set, compiled with its own flags). peak_team runs it on threads of its own, so that
 * the figure owes nothing to tenon.
 */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

#include "timing.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum peak_kind {
    PEAK_FMA_F64,
    PEAK_FMA_F32,
    PEAK_DOT_BF16, /* bf16 pairs into f32 */
    PEAK_DOT_I8,   /* u8 x s8 quads into s32 */
    PEAK_READ,
    PEAK_COPY,        /* plain stores */
    PEAK_COPY_STREAM, /* stores that go around the caches */
    PEAK_KINDS
} peak_kind;

typedef struct peak_probe {
    peak_kind kind;
    const char *isa;         /* "avx2", "avx512vnni", ... */
    const char *instruction; /* what the loop consists of */
    bool (*supported)(void); /* NULL: everywhere */

    /* Arithmetic kinds: `steps` times `operations_per_step` operations (a multiply-add is two). */
    double operations_per_step;
    void (*compute)(int64_t steps);

    /* Memory kinds: one pass over `bytes` (a multiple of 512) at 64-byte aligned addresses;
     * PEAK_READ ignores target. */
    void (*move)(char *target, const char *source, size_t bytes);
} peak_probe;

/* All probes of this build, narrowest instruction set first within a kind; unsupported ones
 * included. */
const peak_probe *peak_probes(size_t *count);
bool peak_supported(const peak_probe *probe);

/* The widest supported probe of a kind, or NULL. PEAK_READ and the FMA kinds always have one. */
const peak_probe *peak_best(peak_kind kind);

const char *peak_kind_name(peak_kind kind);  /* "fma", "dot", "read", "copy", "copy_stream" */
const char *peak_kind_dtype(peak_kind kind); /* "f32", "bf16", ...; NULL for memory */
bool peak_is_memory(peak_kind kind);

/* Memory that the bandwidth probes walk over, kept from one measurement to the next.
 * Zero-initialise. */
typedef struct peak_memory {
    char *data;
    size_t bytes;
} peak_memory;

void peak_memory_free(peak_memory *memory);

/* How to measure. */
typedef struct peak_rules {
    int threads;
    int reps;
    double seconds; /* of one repetition, about */
    size_t bytes;   /* working set of memory kinds, all threads and both operands together */
    bool pin;       /* thread i on the i-th usable core */
} peak_rules;

/*
 * Measures `reps` repetitions and appends their rates (operations or bytes per second, in a copy
 * both read and written bytes count) to rates[0..reps). Threads that cannot be started make it
 * fail: a limit of fewer threads is another limit. False, after a sentence on stderr, when threads
 * or memory are not to be had.
 */
bool peak_measure(const peak_probe *probe, const peak_rules *rules, peak_memory *memory,
                  double *rates);

/* Bytes that reach past all caches of `threads` cores: what "from memory" means here. */
size_t peak_memory_set(int threads);

#endif
