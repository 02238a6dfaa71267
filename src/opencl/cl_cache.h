/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_cache.h: files of built programs in a directory of the caller's (kernel_cache_path).
 *
 * A file is named by the hash of everything that its bytes depend on and repeats all of that in
 * its head, with a checksum over the rest: drivers crash on binaries that were cut short or
 * belong to another device, so nothing reaches one that is not byte for byte what was saved.
 */
#ifndef TN_CL_CACHE_H
#define TN_CL_CACHE_H

#include "opencl/cl_library.h"

/* What a binary was made from: sources and options by their hash, device and driver in words. */
typedef struct tn_cl_cache_key {
    char device[128], driver[128], version[128], platform[128];
    uint64_t low, high; /* two hashes of all that */
} tn_cl_cache_key;

void tn_cl_cache_key_begin(tn_cl_cache_key *key, const tn_cl *cl, cl_device_id id);
void tn_cl_cache_key_add(tn_cl_cache_key *key, const char *text);

/* What a file held; `memory` is of `total` bytes. */
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

#endif
