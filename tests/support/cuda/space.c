/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space.c: the address space of the devices.
 *
 * Device addresses are addresses of a range that the host can't touch: a program that follows a
 * device pointer on the host dies as it would with a GPU. The bytes lie in a second range at a
 * constant distance. Addresses are never used again, so that accesses to freed memory are seen;
 * memory of cuMemAlloc lies at odd multiples of 256, which is all that CUDA promises (CUDA C++
 * Programming Guide, "Device Memory Accesses"). Called by the driver functions and by loads and
 * stores; callers hold the driver's lock.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RANGE (UINT64_C(1) << 40)
enum { PAGE = 4096 };

typedef struct extent {
    u64 address;
    size_t bytes;
} extent;

static u8 *host_range;   /* where bytes lie */
static u64 device_range; /* what addresses say */
static u64 used;         /* of the range, from its start */
static extent *backing;  /* sorted */
static u32 backings, backings_room;
static extent *former; /* no longer backed */
static u32 formers, formers_room;
static u32 last; /* index of the last hit */

static bool open_ranges(void) {
    if (host_range)
        return true;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *device = mmap(NULL, RANGE, PROT_NONE, flags, -1, 0);
    void *host = mmap(NULL, RANGE, PROT_NONE, flags, -1, 0);
    if (device == MAP_FAILED || host == MAP_FAILED)
        return false;
    host_range = host;
    device_range = (u64)(uintptr_t)device;
    used = 1 << 21;
    return true;
}

static u8 *host_of(u64 address) {
    return host_range + (address - device_range);
}

bool sim_space_owns(u64 address) {
    return host_range && address - device_range < RANGE;
}

u64 sim_space_reserve(size_t bytes, size_t align) {
    if (!open_ranges() || bytes > RANGE)
        return 0;
    u64 start = (device_range + used + PAGE + align - 1) / align * align;
    if (align < PAGE) { /* a page of its own, and an alignment of no more than was asked for */
        start = (device_range + used + 2 * PAGE - 1) / PAGE * PAGE + align;
    }
    u64 end = (start + bytes + PAGE - 1) / PAGE * PAGE + PAGE;
    if (end - device_range > RANGE)
        return 0;
    used = end - device_range;
    return start;
}

/* The first backing at or behind the address's end, by binary search. */
static u32 lower(u64 address) {
    u32 lo = 0, hi = backings;
    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (backing[mid].address + backing[mid].bytes <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool sim_space_back(u64 address, size_t bytes, int file, size_t offset) {
    u64 start = address / PAGE * PAGE;
    size_t length = (size_t)((address + bytes + PAGE - 1) / PAGE * PAGE - start);
    int flags = MAP_FIXED | (file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    if (mmap(host_of(start), length, PROT_READ | PROT_WRITE, flags, file, (off_t)offset) ==
        MAP_FAILED)
        return false;
    u32 at = lower(address);
    backing = sim_grow(backing, &backings_room, backings + 1, sizeof *backing);
    memmove(&backing[at + 1], &backing[at], (backings - at) * sizeof *backing);
    backing[at] = (extent){address, bytes};
    ++backings;
    last = at;
    return true;
}

void sim_space_unback(u64 address) {
    u32 at = lower(address);
    if (at == backings || backing[at].address != address)
        return;
    u64 start = address / PAGE * PAGE;
    size_t length = (size_t)((address + backing[at].bytes + PAGE - 1) / PAGE * PAGE - start);
    mmap(host_of(start), length, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
         -1, 0);
    former = sim_grow(former, &formers_room, formers + 1, sizeof *former);
    former[formers++] = backing[at];
    memmove(&backing[at], &backing[at + 1], (backings - at - 1) * sizeof *backing);
    --backings;
    last = 0;
}

void sim_space_release(u64 address, size_t bytes) {
    (void)bytes;
    sim_space_unback(address);
}

bool sim_space_find(u64 address, u64 *base, size_t *bytes) {
    u32 at = last < backings && address - backing[last].address < backing[last].bytes
                 ? last
                 : lower(address);
    if (at == backings || address < backing[at].address)
        return false;
    last = at;
    *base = backing[at].address;
    *bytes = backing[at].bytes;
    return true;
}

/* Neighbouring mappings are one: a segment of a pool grows by mapping more behind it. */
u8 *sim_space_at(u64 address, size_t bytes) {
    u64 base;
    size_t length;
    if (!sim_space_find(address, &base, &length))
        return NULL;
    for (u32 at = last; bytes > base + length - address;) {
        if (++at == backings || backing[at].address != base + length)
            return NULL;
        length += backing[at].bytes;
    }
    return host_of(address);
}

bool sim_space_was_freed(u64 address) {
    for (u32 i = 0; i < formers; ++i)
        if (address - former[i].address < former[i].bytes)
            return true;
    return false;
}

void sim_space_fill(u64 address, size_t bytes) {
    u8 *p = sim_space_at(address, bytes);
    if (p && sim_options.poison)
        memset(p, 0xff, bytes);
}

void sim_space_reset(void) {
    while (backings)
        sim_space_unback(backing[backings - 1].address);
    free(backing);
    free(former);
    backing = former = NULL;
    backings_room = formers = formers_room = last = 0;
}
