/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_cache.h: what is kept of a built program, in a file of a directory (kernel_cache_path) or in
 * memory of the caller's (tenon_context_save_kernels), which is such files one after the other.
 *
 * Kept programs repeat everything that their bytes depend on in a head, with checksums over it and
 * over the rest: drivers crash on binaries that were cut short or belong to another device, so
 * nothing reaches one that is not byte for byte what was saved. A file is named by a hash.
 */
#ifndef TN_CL_CACHE_H
#define TN_CL_CACHE_H

#include "opencl/cl_library.h"

/* What a binary was made from: device, driver, program and its own options in words, sources and
 * all options by their hash. */
typedef struct tn_cl_cache_key {
    char device[128], driver[128], version[128], platform[128];
    char program[32], options[TN_CL_OPTIONS];
    uint64_t low, high; /* two hashes of all that */
} tn_cl_cache_key;

void tn_cl_cache_key_begin(tn_cl_cache_key *key, const tn_cl *cl, cl_device_id id,
                           const char *program, const char *options);
void tn_cl_cache_key_add(tn_cl_cache_key *key, const char *text);

/* A binary that is whole, in memory of its own; `memory` is of `total` bytes. */
typedef struct tn_cl_cached {
    void *memory;
    size_t total;
    const unsigned char *binary;
    size_t bytes;
} tn_cl_cached;

/* False: there is none, or it is not whole, or there is no memory for it. */
bool tn_cl_cache_read(const char *directory, const tn_cl_cache_key *key, tn_cl_cached *out);
void tn_cl_cache_end(tn_cl_cached *cached);

/* Harmless if it fails. */
void tn_cl_cache_write(const char *directory, const tn_cl_cache_key *key, const void *binary,
                       size_t bytes);

/* ---- in memory */

/* Bytes of a kept program, and of its head: the binary follows. */
size_t tn_cl_kept_bytes(size_t binary);
size_t tn_cl_kept_head(void);

/* Puts the head in front of a binary that lies tn_cl_kept_head() after `to`, at any address. */
void tn_cl_kept_seal(unsigned char *to, const tn_cl_cache_key *key, size_t binary);

/* A kept program in the caller's memory: its head is whole, its binary has yet to be checked. */
typedef struct tn_cl_kept {
    tn_cl_cache_key key;
    const unsigned char *binary;
    size_t bytes;
    uint64_t sum_low, sum_high;
} tn_cl_kept;

/* The one at *at of `memory`, and *at behind it. False: there is none, or its head is damaged. */
bool tn_cl_kept_next(const unsigned char *memory, size_t bytes, size_t *at, tn_cl_kept *out);

/* A copy of its binary, which nobody else can change. False: it is not whole, or there is no memory
 * for it. */
bool tn_cl_kept_take(const tn_cl_kept *kept, tn_cl_cached *out);

#endif
