/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_search.c: betters a placement by taking a few objects out and putting each back where it
 * does least harm (ruin and recreate: Schrimpf et al., J. Comput. Phys. 159, 2000; iterated greedy:
 * Ruiz and Stuetzle, EJOR 177, 2007), worse layouts being accepted at times as in simulated
 * annealing.
 *
 * A layout is an order: each object lies on the highest of those before it that live with it.
 * Every layout without needless gaps is such an order, that of its offsets. As in scheduling, the
 * total is the longest path in a graph, so it pays to move objects on a longest path only, and with
 * `head` (what must lie below an object) and `tail` (what must lie above) of all others, the total
 * that results from putting an object back is known for every place in one pass (Taillard, EJOR 47,
 * 1990). That is exact for the first object put back; what it does to heads and tails of the
 * others is neglected until all are back and the order is evaluated.
 *
 * On a longest path, objects that are alive with the fullest clique must be somewhere beside the
 * rest of it, so there is nothing to gain by moving them: it is the others that make gaps there.
 */
#include <string.h>

#include "memory/layout.h"

/*
 * Chosen on MiniMalloc's instances A to K at the default work: up to 5 or 14 objects taken out, 1
 * to 12 cycles, 2.5 to 5 % of heat and other seeds differ by 2 % in the mean and 4 % in the worst.
 */
enum {
    REMOVED_MOST = 8,
    HEAT = 20,        /* the hottest temperature is a 20th of the total */
    CYCLES = 12,      /* of heating and cooling */
    COOLINGS = 6,     /* halvings of the temperature in a cycle */
    MOVES_HOT = 2000, /* with fewer there is no way back from worse layouts: no heat at all */
    MOVES_WORTH = 200 /* fewer are not worth their time */
};

typedef struct search {
    const tn_layout_item *items;
    uint32_t count;
    uint32_t fullest;   /* the clique of most bytes */
    uint32_t *order;    /* the layout as it is */
    uint32_t *trial;    /* as it may become */
    uint64_t *head;     /* bytes below an object: its offset */
    uint64_t *tail;     /* bytes above it */
    uint64_t *reach;    /* bytes below the object to be put back, if it comes before place i */
    uint32_t *critical; /* places in `order` of the objects on longest paths */
    uint32_t criticals, crossings; /* those not in the fullest clique come first */
    unsigned char *out;            /* set of places */
    tn_skyline line;
    uint64_t random, work;
} search;

size_t tn_layout_search_scratch(uint32_t count, uint32_t cliques) {
    size_t n = count;
    return (3 * n + 1) * sizeof(uint64_t) + tn_skyline_scratch(cliques) + 3 * n * sizeof(uint32_t) +
           n;
}

static void cut(search *s, const tn_layout_part *part, void *scratch) {
    size_t n = part->count;
    s->items = part->items;
    s->count = part->count;
    s->head = scratch;
    s->tail = s->head + n;
    s->reach = s->tail + n;
    unsigned char *line = (unsigned char *)(s->reach + n + 1);
    tn_skyline_init(&s->line, part->cliques, line);
    s->order = (uint32_t *)(void *)(line + tn_skyline_scratch(part->cliques));
    s->trial = s->order + n;
    s->critical = s->trial + n;
    s->out = (unsigned char *)(s->critical + n);
    memset(s->out, 0, n);
    s->random = 0x9e3779b97f4a7c15u;
}

/* xorshift64* (Marsaglia 2003, Vigna 2016): the upper half. */
static uint32_t draw(search *s) {
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (uint32_t)((s->random * 0x2545f4914f6cdd1du) >> 32);
}

/* A number below `end`. */
static uint32_t draw_below(search *s, uint32_t end) {
    return (uint32_t)((uint64_t)draw(s) * end >> 32);
}

/* ---- heads, tails, longest paths ---- */

/* Sets the heads of `count` objects in order; returns the total. */
static uint64_t set_heads(search *s, const uint32_t *order, uint32_t count) {
    uint64_t total = 0;
    tn_skyline_clear(&s->line);
    for (uint32_t i = 0; i < count; ++i) {
        const tn_layout_item *item = &s->items[order[i]];
        uint64_t below = tn_skyline_highest(&s->line, item->first, item->last);
        uint64_t start = (below + item->mask) & ~item->mask, end = start + item->bytes;
        tn_skyline_raise(&s->line, item->first, item->last, end);
        s->head[order[i]] = start;
        total = end > total ? end : total;
        s->work += 2 * tn_skyline_work(&s->line, item);
    }
    return total;
}

static void set_tails(search *s, const uint32_t *order, uint32_t count) {
    tn_skyline_clear(&s->line);
    for (uint32_t i = count; i > 0; --i) {
        const tn_layout_item *item = &s->items[order[i - 1]];
        uint64_t above = tn_skyline_highest(&s->line, item->first, item->last);
        tn_skyline_raise(&s->line, item->first, item->last, above + item->bytes);
        s->tail[order[i - 1]] = above;
        s->work += 2 * tn_skyline_work(&s->line, item);
    }
}

static bool crosses(const search *s, const tn_layout_item *item) {
    return item->first > s->fullest || item->last < s->fullest;
}

/* Lists the places on longest paths. Pre: heads and tails of the whole order. */
static void list_critical(search *s, uint64_t total) {
    s->criticals = 0;
    s->crossings = 0;
    for (uint32_t i = 0; i < s->count; ++i) {
        uint32_t object = s->order[i];
        const tn_layout_item *item = &s->items[object];
        if (s->head[object] + item->bytes + s->tail[object] < total)
            continue;
        s->critical[s->criticals++] = i;
        if (crosses(s, item)) {
            s->critical[s->criticals - 1] = s->critical[s->crossings];
            s->critical[s->crossings++] = i;
        }
    }
}

/* ---- a move ---- */

/*
 * Chooses up to `most` places of `order` to be emptied: one at random, by preference on a longest
 * path where that leaves the fullest clique, and others near it. Returns how many; s->trial gets
 * the objects that stay and, behind them, those that were taken out.
 */
static uint32_t take_out(search *s, uint32_t most) {
    uint32_t among = s->crossings > 0 ? s->crossings : s->criticals;
    uint32_t seed =
        among > 0 && draw(s) % 4 != 0 ? s->critical[draw_below(s, among)] : draw_below(s, s->count);
    uint32_t removed = 1, wide = 4 * most;
    s->out[seed] = 1;
    const tn_layout_item *center = &s->items[s->order[seed]];
    for (uint32_t tries = 0; removed < most && tries < 4 * most; ++tries) {
        uint32_t at = seed + draw_below(s, 2 * wide + 1) - wide; /* wraps below 0 */
        if (at >= s->count || s->out[at] || !tn_layout_together(center, &s->items[s->order[at]]))
            continue;
        s->out[at] = 1;
        ++removed;
    }
    uint32_t stays = 0, leaves = s->count - removed;
    for (uint32_t i = 0; i < s->count; ++i) {
        if (s->out[i])
            s->trial[leaves++] = s->order[i];
        else
            s->trial[stays++] = s->order[i];
        s->out[i] = 0;
    }
    return removed;
}

/* Brings those taken out in the order in which they are put back: any, or largest first. */
static void arrange(search *s, uint32_t *removed, uint32_t count) {
    bool largest_first = draw(s) % 2 == 0;
    for (uint32_t i = 1; i < count; ++i) {
        uint32_t object = removed[i], at = i;
        if (largest_first) {
            while (at > 0 && s->items[removed[at - 1]].bytes < s->items[object].bytes) {
                removed[at] = removed[at - 1];
                --at;
            }
        } else {
            at = draw_below(s, i + 1);
            removed[i] = removed[at];
        }
        removed[at] = object;
    }
}

/*
 * Puts an object where the longest path through it is shortest, into the first `count` places of
 * s->trial, of which heads and tails are known. Returns the length of that path.
 */
static uint64_t put_back(search *s, uint32_t object, uint32_t count) {
    const tn_layout_item *item = &s->items[object];
    uint64_t below = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const tn_layout_item *other = &s->items[s->trial[i]];
        s->reach[i] = below;
        if (tn_layout_together(item, other)) {
            uint64_t end = s->head[s->trial[i]] + other->bytes;
            below = end > below ? end : below;
        }
    }
    uint64_t above = 0, best = below;
    uint32_t place = count, equals = 1;
    s->head[object] = below;
    s->tail[object] = 0;
    for (uint32_t i = count; i > 0;) {
        const tn_layout_item *other = &s->items[s->trial[--i]];
        if (!tn_layout_together(item, other))
            continue;
        uint64_t end = s->tail[s->trial[i]] + other->bytes;
        above = end > above ? end : above;
        uint64_t path = s->reach[i] + above;
        if (path > best || (path == best && draw_below(s, ++equals) != 0))
            continue;
        if (path < best)
            equals = 1;
        best = path;
        place = i;
        s->head[object] = s->reach[i];
        s->tail[object] = above;
    }
    memmove(s->trial + place + 1, s->trial + place, (count - place) * sizeof *s->trial);
    s->trial[place] = object;
    s->work += 2 * (uint64_t)count;
    return best + item->bytes;
}

/* One move; true if s->trial then has a total of at most `limit`, which goes to *total, and its
 * heads. */
static bool move(search *s, uint64_t limit, uint64_t *total) {
    uint32_t removed = take_out(s, 1 + draw_below(s, REMOVED_MOST));
    uint32_t count = s->count - removed, back[REMOVED_MOST];
    memcpy(back, s->trial + count, removed * sizeof *back);
    arrange(s, back, removed);
    set_heads(s, s->trial, count);
    set_tails(s, s->trial, count);
    for (uint32_t i = 0; i < removed; ++i)
        if (put_back(s, back[i], count++) > limit)
            return false;
    uint64_t result = set_heads(s, s->trial, s->count);
    if (result > limit)
        return false;
    *total = result;
    return true;
}

/*
 * How much worse than now a layout may be: the temperature times a number of exponential
 * distribution, that is -log2 of a uniform one, its fraction taken as linear.
 */
static uint64_t tolerance(search *s, uint64_t temperature) {
    uint32_t uniform = draw(s) | 1;
    uint32_t zeros = (uint32_t)__builtin_clz(uniform);
    uint32_t fraction = zeros < 31 ? (uniform << (zeros + 1)) >> 16 : 0;
    return (temperature * (((uint64_t)(zeros + 1) << 16) - fraction)) >> 16;
}

/* Falls by half COOLINGS times in each of CYCLES parts of the work. */
static uint64_t temperature_at(uint64_t hottest, uint64_t done, uint64_t work) {
    uint64_t cycle = work / CYCLES + 1, step = cycle / COOLINGS + 1;
    uint64_t within = done % cycle;
    uint64_t temperature = hottest >> (within / step);
    uint64_t unit = step / 65536 + 1; /* keeps the product within 64 bits */
    return temperature - (temperature / 2) * (within % step / unit) / (step / unit + 1);
}

/* Writes the layout out if it is the best so far. Pre: heads of the whole order. */
static void keep(const search *s, const tn_layout_part *part, uint64_t total, uint64_t *best) {
    if (total >= *best)
        return;
    *best = total;
    memcpy(part->offset, s->head, s->count * sizeof *s->head);
}

static void find_fullest(search *s) {
    tn_skyline *line = &s->line; /* its heights are room for sums here */
    memset(line->height, 0, line->cliques * sizeof *line->height);
    for (uint32_t i = 0; i < s->count; ++i) {
        line->height[s->items[i].first] += s->items[i].bytes;
        if (s->items[i].last + 1 < line->cliques)
            line->height[s->items[i].last + 1] -= s->items[i].bytes; /* wraps, sums do not */
    }
    uint64_t sum = 0, most = 0;
    for (uint32_t c = 0; c < line->cliques; ++c) {
        sum += line->height[c];
        if (sum > most) {
            most = sum;
            s->fullest = c;
        }
    }
}

uint64_t tn_layout_search(const tn_layout_part *part, uint64_t total, uint64_t enough,
                          void *scratch, uint64_t work) {
    search s = {.work = 0};
    cut(&s, part, scratch);
    find_fullest(&s);
    for (uint32_t i = 0; i < s.count; ++i)
        s.order[i] = i;
    tn_layout_sort(s.order, s.count, part->offset);

    uint64_t best = total, now = set_heads(&s, s.order, s.count);
    keep(&s, part, now, &best);
    set_tails(&s, s.order, s.count);
    list_critical(&s, now);
    uint64_t hottest = s.work > work / MOVES_HOT ? 0 : total / HEAT;
    hottest = hottest < (uint64_t)1 << 40 ? hottest : (uint64_t)1 << 40; /* no overflow */
    if (s.work > work / MOVES_WORTH)
        return best;
    while (best > enough && s.work < work) {
        uint64_t limit = now + tolerance(&s, temperature_at(hottest, s.work, work));
        if (!move(&s, limit, &now))
            continue;
        uint32_t *swap = s.order;
        s.order = s.trial;
        s.trial = swap;
        keep(&s, part, now, &best);
        set_tails(&s, s.order, s.count);
        list_critical(&s, now);
    }
    return best;
}
