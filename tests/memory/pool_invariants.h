/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_invariants.h: what must hold of a pool at every moment that nobody is inside: blocks tile
 * their segments, free ones are merged and listed in their class, every count is the sum of what it counts.
 */
#ifndef TEST_POOL_INVARIANTS_H
#define TEST_POOL_INVARIANTS_H

#include "memory/pool_state.h"

/* NULL, or what is wrong. Takes the pool's lock. */
const char *pool_invariants(tenon_pool *pool);

#endif
