/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_cache.c: see cl_cache.h.
 */
#include "opencl/cl_cache.h"

#include <stdio.h>
#include <string.h>

#include "core/os.h"

enum {
    FORMAT = 2,            /* of the files; a program of another one builds anew */
    MOST_BYTES = 256 << 20 /* a file that claims to hold more is damaged */
};

/* Words of the machine that wrote it: a binary is of no use elsewhere either. */
typedef struct head {
    char magic[8];
    uint32_t format, bytes_of_head;
    tn_cl_cache_key key;
    uint64_t bytes;             /* of the binary that follows */
    uint64_t sum_low, sum_high; /* over the binary */
    uint64_t own;               /* over the head up to here */
} head;

static const char magic[8] = "tenonCL";

/* FNV-1a, and the same walk with another prime and rotation: no damage is likely to fit both. */
static void add_hash(uint64_t *low, uint64_t *high, const void *memory, size_t bytes) {
    const unsigned char *at = memory;
    for (size_t i = 0; i < bytes; ++i) {
        *low = (*low ^ at[i]) * 0x100000001b3u;
        *high = ((*high << 5 | *high >> 59) + at[i]) * 0x9e3779b97f4a7c15u;
    }
}

void tn_cl_cache_key_add(tn_cl_cache_key *key, const char *text) {
    add_hash(&key->low, &key->high, text, strlen(text) + 1);
}

void tn_cl_cache_key_begin(tn_cl_cache_key *key, const tn_cl *cl, cl_device_id id,
                           const char *program, const char *options) {
    cl_platform_id platform = NULL;
    memset(key, 0, sizeof *key); /* compared byte for byte */
    (void)snprintf(key->program, sizeof key->program, "%s", program);
    (void)snprintf(key->options, sizeof key->options, "%s", options);
    key->low = 0xcbf29ce484222325u;
    key->high = 0x243f6a8885a308d3u;
    tn_cl_device_text(cl, id, CL_DEVICE_NAME, key->device, sizeof key->device);
    tn_cl_device_text(cl, id, CL_DRIVER_VERSION, key->driver, sizeof key->driver);
    tn_cl_device_text(cl, id, CL_DEVICE_VERSION, key->version, sizeof key->version);
    if (cl->clGetDeviceInfo(id, CL_DEVICE_PLATFORM, sizeof platform, (void *)&platform, NULL) ==
        CL_SUCCESS)
        (void)cl->clGetPlatformInfo(platform, CL_PLATFORM_VERSION, sizeof key->platform - 1,
                                    key->platform, NULL);
    tn_cl_cache_key_add(key, key->device);
    tn_cl_cache_key_add(key, key->driver);
    tn_cl_cache_key_add(key, key->version);
    tn_cl_cache_key_add(key, key->platform);
}

static bool path_of(const char *directory, const tn_cl_cache_key *key, char *path,
                    size_t capacity) {
    const int n = snprintf(path, capacity, "%s/tenon-%016llx%016llx.clb", directory,
                           (unsigned long long)key->high, (unsigned long long)key->low);
    return n > 0 && (size_t)n < capacity;
}

static uint64_t sum_of(const head *h) {
    uint64_t low = 0, high = 0;
    add_hash(&low, &high, h, offsetof(head, own));
    return low ^ high;
}

static bool head_is_right(const head *h) {
    return memcmp(h->magic, magic, sizeof magic) == 0 && h->format == FORMAT &&
           h->bytes_of_head == sizeof *h && h->own == sum_of(h) && h->bytes > 0 &&
           h->bytes <= MOST_BYTES && h->key.program[sizeof h->key.program - 1] == 0 &&
           h->key.options[sizeof h->key.options - 1] == 0;
}

static head head_of(const tn_cl_cache_key *key, const void *binary, size_t bytes) {
    head h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, magic, sizeof magic);
    h.format = FORMAT;
    h.bytes_of_head = sizeof h;
    h.key = *key;
    h.bytes = bytes;
    add_hash(&h.sum_low, &h.sum_high, binary, bytes);
    h.own = sum_of(&h);
    return h;
}

static bool is_whole(const tn_cl_cached *c, uint64_t sum_low, uint64_t sum_high) {
    uint64_t low = 0, high = 0;
    add_hash(&low, &high, c->binary, c->bytes);
    return low == sum_low && high == sum_high;
}

/* ---------------------------------------------------------------- files */

bool tn_cl_cache_read(const char *directory, const tn_cl_cache_key *key, tn_cl_cached *out) {
    char path[1024];
    head h;
    *out = (tn_cl_cached){0};
    if (!path_of(directory, key, path, sizeof path) ||
        tn_os_read_file(path, 0, &h, sizeof h) != (int64_t)sizeof h || !head_is_right(&h) ||
        memcmp(&h.key, key, sizeof *key) != 0)
        return false;
    out->bytes = (size_t)h.bytes;
    out->total = out->bytes + 1; /* one more, to see that it ends there */
    out->memory = tn_host_alloc(NULL, out->total, TN_CACHE_LINE);
    out->binary = out->memory;
    if (out->memory &&
        tn_os_read_file(path, sizeof h, out->memory, out->total) == (int64_t)out->bytes &&
        is_whole(out, h.sum_low, h.sum_high))
        return true;
    tn_cl_cache_end(out);
    return false;
}

void tn_cl_cache_end(tn_cl_cached *cached) {
    tn_host_free(NULL, cached->memory, cached->total);
    *cached = (tn_cl_cached){0};
}

void tn_cl_cache_write(const char *directory, const tn_cl_cache_key *key, const void *binary,
                       size_t bytes) {
    char path[1024];
    if (bytes > MOST_BYTES || !path_of(directory, key, path, sizeof path))
        return;
    const head h = head_of(key, binary, bytes);
    (void)tn_os_replace_file(path, &h, sizeof h, binary, bytes);
}

/* ---------------------------------------------------------------- the caller's memory */

size_t tn_cl_kept_head(void) {
    return sizeof(head);
}

size_t tn_cl_kept_bytes(size_t binary) {
    return sizeof(head) + binary;
}

void tn_cl_kept_seal(unsigned char *to, const tn_cl_cache_key *key, size_t binary) {
    const head h = head_of(key, to + sizeof h, binary);
    memcpy(to, &h, sizeof h);
}

bool tn_cl_kept_next(const unsigned char *memory, size_t bytes, size_t *at, tn_cl_kept *out) {
    head h;
    for (; bytes - *at >= sizeof h; ++*at) { /* behind what is no save of ours there may be one */
        if (memcmp(memory + *at, magic, sizeof magic) != 0)
            continue;
        memcpy(&h, memory + *at, sizeof h);
        if (!head_is_right(&h) || h.bytes > bytes - *at - sizeof h)
            continue;
        *out = (tn_cl_kept){.key = h.key,
                            .binary = memory + *at + sizeof h,
                            .bytes = (size_t)h.bytes,
                            .sum_low = h.sum_low,
                            .sum_high = h.sum_high};
        *at += sizeof h + (size_t)h.bytes;
        return true;
    }
    return false;
}

bool tn_cl_kept_take(const tn_cl_kept *kept, tn_cl_cached *out) {
    *out = (tn_cl_cached){.bytes = kept->bytes, .total = kept->bytes};
    out->memory = tn_host_alloc(NULL, out->total, TN_CACHE_LINE);
    out->binary = out->memory;
    if (out->memory) {
        memcpy(out->memory, kept->binary, kept->bytes);
        if (is_whole(out, kept->sum_low, kept->sum_high))
            return true;
    }
    tn_cl_cache_end(out);
    return false;
}
