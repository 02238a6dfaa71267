/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h: counts what tenon takes from the system and makes the n-th of it fail.
 *
 * A test that links the static library and `fault_dep` (tests/support/meson.build) has malloc,
 * calloc, realloc, aligned_alloc, posix_memalign, mmap, pthread_create and what gives them back
 * redirected here by the linker (--wrap). They count only inside a window: between
 * fault_watch(true) and fault_watch(false) the program does nothing but call tenon, so exactly
 * tenon's own requests are seen, on whichever thread; those of the test and of Check are not. What
 * was taken in a window is remembered until it is given back, whenever that happens.
 *
 * Requests are memory, mappings and threads, or on demand services: what else a system may refuse
 * for want of memory, files or permissions (open, read, advice, cutting a mapping in two, thread
 * attributes, affinity, sleeping on a futex).
 */
#ifndef TEST_FAULT_H
#define TEST_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* Opens or closes the window. Closed at first. */
void fault_watch(bool on);

/* The n-th request from now (1: the next) fails; with `sticky` every later one too, until
 * fault_disarm. Opens the window. */
void fault_arm(int64_t nth, bool sticky);

/* Each request from now fails with this probability, drawn from a generator of its own with this
 * seed, until fault_disarm. Opens the window. */
void fault_arm_random(double probability, uint64_t seed);

/* What counts as a request. At first FAULT_MEMORY. */
enum { FAULT_MEMORY = 1, FAULT_SERVICES = 2 };
void fault_select(unsigned kinds);

/* Closes the window and returns how many requests were made to fail since it was
 * armed. */
int64_t fault_disarm(void);

/* Requests (memory, mappings and threads, those that failed included) in windows since fault_reset.
 */
int64_t fault_count(void);
void fault_reset(void);

/* Things taken in windows and not given back yet: blocks, mappings and threads that were not
 * joined. */
int64_t fault_live(void);

/* Bytes of those that are memory. */
int64_t fault_live_bytes(void);

#endif
