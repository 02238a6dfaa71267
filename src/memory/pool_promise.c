/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_promise.c: what the pools for which nobody set a budget may hold, all of this process
 * together.
 *
 * Under overcommit a segment costs nothing until it is written to, so what the system says is
 * available does not show what pools have promised and nobody has touched yet. This account does:
 * the bytes of segments that such pools hold, held to the most that could be had at any time since
 * it was last empty. Two words that are looked at when a segment comes or goes; no lock, nothing on
 * the quick way. A fork copies the account along with the pools that it is of.
 *
 * What was touched meanwhile lowers what is available and is not added again, so memory that
 * becomes free elsewhere is found late, never memory that is not there. Pools with a budget, and
 * hooks, are not in it: they were told.
 */
#include "core/checked.h"
#include "memory/pool_state.h"

static _Atomic size_t promised;
static _Atomic size_t most;

/* A sixteenth, a GiB at most, is for page tables, stacks and whatever else the program will
 * want. */
static size_t less_margin(size_t available) {
    const size_t margin_most = (size_t)1 << 30;
    return available - (available / 16 < margin_most ? available / 16 : margin_most);
}

/* The most that may be promised in all, now that `pages` bytes could be written to. */
static size_t limit_of(size_t pages) {
    size_t now = less_margin(pages), known = atomic_load(&most);
    if (atomic_load(&promised) == 0)
        atomic_store(&most, now);
    else
        while (known < now && !atomic_compare_exchange_weak(&most, &known, now)) {
        }
    return atomic_load(&most);
}

size_t tn_budget_of_system(size_t held, size_t granularity) {
    const size_t pages = tn_os_pages_available(), addresses = tn_os_addresses_available();
    size_t available = pages < addresses ? pages : addresses;
    if (available == SIZE_MAX || !tn_add_size(available, held, &available))
        return 0;
    size_t budget = less_margin(available);
    if (pages != SIZE_MAX) {
        const size_t limit = limit_of(pages), all = atomic_load(&promised);
        const size_t others = all > held ? all - held : 0;
        const size_t left = limit > others ? limit - others : 0;
        budget = budget < left ? budget : left;
    }
    budget &= ~(granularity - 1);
    return budget != 0 ? budget : granularity;
}

const char *tn_promise(size_t bytes) {
    const size_t pages = tn_os_pages_available();
    if (bytes > pages || bytes > tn_os_addresses_available())
        return "less is available to this process";
    const size_t limit = pages == SIZE_MAX ? SIZE_MAX : limit_of(pages);
    size_t all = atomic_load(&promised);
    do {
        if (all > limit || bytes > limit - all)
            return "less is left beside what pools of this process hold";
    } while (!atomic_compare_exchange_weak(&promised, &all, all + bytes));
    return NULL;
}

void tn_promise_back(size_t bytes) {
    atomic_fetch_sub(&promised, bytes);
}
