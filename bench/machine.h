/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h: what the `tenon` command needs to know about the machine to measure it: usable cores,
 * cache sizes, memory. Measuring must not depend on the library that is measured, so these facts
 * are read from the system itself.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

/* Cores this process may use (affinity mask, control group's quota), at least 1. */
int machine_cores(void);

/* Bytes of one data cache of `level` (1, 2, 3) as seen by the first core, and all of them added up
 * when the process uses `threads` cores. 0 when the system does not say. */
size_t machine_cache_bytes(int level);
size_t machine_caches_bytes(int threads);

/* Bytes of physical memory: installed, and what can be had without swapping. 0 when unknown. */
size_t machine_memory_total(void);
size_t machine_memory_available(void);

/* Model name of the processor, copied into `text`; "unknown" when the system does not say. */
void machine_processor(char *text, size_t capacity);

/* Binds the calling thread to the index-th core it may use (modulo their number). False if refused.
 */
bool machine_pin(int index);

#endif
