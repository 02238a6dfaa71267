/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guarded.h: buffers between pages that may not be touched.
 *
 * A read or write beyond the guarded edge faults at once, whatever the kernel's width; the other
 * side, up to a page away, and the slack that an alignment leaves are filled with a pattern that
 * guard_intact compares. Not counted by fault.h.
 */
#ifndef TEST_GUARDED_H
#define TEST_GUARDED_H

#include <stdbool.h>
#include <stddef.h>

/*
 * `bytes` bytes aligned to `alignment` (a power of two up to 4096). With at_end the last byte lies
 * right before a forbidden page (less than `alignment` before it, if bytes is not a multiple), else
 * the first byte right after one. Ends the test program if there is no memory.
 */
void *guard_alloc(size_t bytes, size_t alignment, bool at_end);

/* True if nothing was written around the buffer. */
bool guard_intact(const void *buffer);

/* Frees a buffer; NULL is allowed. Returns what guard_intact did. */
bool guard_free(void *buffer);

/* Frees them all, for teardowns. False if one was not intact. */
bool guard_free_all(void);

/* Fills a buffer with a pattern, and tells whether all of it is still there: for outputs that must
 * not be touched. */
void canary_fill(void *memory, size_t bytes);
bool canary_intact(const void *memory, size_t bytes);

#endif
