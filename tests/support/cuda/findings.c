/* SPDX-License-Identifier: Apache-2.0 */
/*
 * findings.c: what was found, what was counted, the switches, and memory for the machine itself.
 *
 * Every file of the stand-in tells its findings here; tests read them through standin.h. Nothing
 * is printed. A finding is kept once per kernel, statement and kind, with a count.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

standin_options sim_options = {true, true, true, true, true, UINT64_C(1) << 30, 0};
static u64 seed = 1;

enum { MAX_FINDINGS = 1000 };
static standin_finding *finding;
static u32 findings, findings_room;

typedef struct tally {
    char name[96];
    standin_counters counters;
} tally;
static tally *tallies;
static u32 tally_count, tally_room;

static const char *const kind_names[STANDIN_KINDS] = {
    "race",      "bounds",    "freed",    "misaligned", "uninitialised",
    "in flight", "divergent", "deadlock", "unknown",    "usage"};

#define LANE_BIT(i) UINT32_C(1) << (i)
const u32 lane_bit[LANES] = {LANE_BIT(0),  LANE_BIT(1),  LANE_BIT(2),  LANE_BIT(3),  LANE_BIT(4),
                             LANE_BIT(5),  LANE_BIT(6),  LANE_BIT(7),  LANE_BIT(8),  LANE_BIT(9),
                             LANE_BIT(10), LANE_BIT(11), LANE_BIT(12), LANE_BIT(13), LANE_BIT(14),
                             LANE_BIT(15), LANE_BIT(16), LANE_BIT(17), LANE_BIT(18), LANE_BIT(19),
                             LANE_BIT(20), LANE_BIT(21), LANE_BIT(22), LANE_BIT(23), LANE_BIT(24),
                             LANE_BIT(25), LANE_BIT(26), LANE_BIT(27), LANE_BIT(28), LANE_BIT(29),
                             LANE_BIT(30), LANE_BIT(31)};

void *sim_alloc(size_t bytes) {
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p)
        abort(); /* the test machine itself is out of memory: nothing can be tested */
    return p;
}

void *sim_grow(void *old, u32 *room, u32 need, size_t size) {
    if (need <= *room)
        return old;
    u32 n = *room ? *room : 16;
    while (n < need)
        n *= 2;
    void *p = realloc(old, n * size);
    if (!p)
        abort();
    memset((char *)p + *room * size, 0, (n - *room) * size);
    *room = n;
    return p;
}

u64 sim_random(u64 *state) { /* splitmix64, as in tests/support/rng.h */
    u64 z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

u64 sim_seed_of(u64 salt) {
    u64 state = seed + salt * 0x2545f4914f6cdd1du;
    return sim_random(&state);
}

void standin_seed(uint64_t value) {
    seed = value;
}

standin_options standin_get_options(void) {
    return sim_options;
}

void standin_set_options(const standin_options *options) {
    sim_options = *options;
}

static standin_finding *entry(standin_kind kind, const char *kernel, u32 line, const char *text) {
    for (u32 i = 0; i < findings; ++i)
        if (finding[i].kind == kind && finding[i].line == line &&
            strncmp(finding[i].kernel, kernel, sizeof finding[i].kernel - 1) == 0 &&
            (line != 0 || strncmp(finding[i].text, text, sizeof finding[i].text - 1) == 0)) {
            ++finding[i].times;
            return NULL;
        }
    if (findings == MAX_FINDINGS)
        return NULL;
    finding = sim_grow(finding, &findings_room, findings + 1, sizeof *finding);
    standin_finding *f = &finding[findings++];
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->times = 1;
    f->line = line;
    f->warp = f->lane = -1;
    snprintf(f->kernel, sizeof f->kernel, "%s", kernel);
    return f;
}

/* The statement of this line, white space squeezed. */
static void append_statement(standin_finding *f, const sim_kernel *k, u32 line) {
    const char *s = k->text;
    for (u32 n = 1; n < line && s; ++n) {
        s = strchr(s, '\n');
        s = s ? s + 1 : NULL;
    }
    size_t n = strlen(f->text);
    const char *mark = ": ";
    for (; *mark && n + 1 < sizeof f->text; ++mark)
        f->text[n++] = *mark;
    while (s && (*s == ' ' || *s == '\t'))
        ++s;
    for (; s && *s && *s != ';' && *s != '\n' && n + 1 < sizeof f->text; ++s)
        f->text[n++] = *s == '\t' ? ' ' : *s;
    f->text[n] = 0;
}

static void find(standin_kind kind, const sim_warp *w, const sim_insn *i, int lane, u64 address,
                 const char *format, va_list args) {
    char text[256];
    vsnprintf(text, sizeof text, format, args);
    const sim_kernel *k = w ? w->launch->kernel : NULL;
    standin_finding *f = entry(kind, k ? k->name : "", i ? i->line : 0, text);
    if (!f)
        return;
    snprintf(f->text, sizeof f->text, "%s", text);
    f->address = address;
    if (w) {
        memcpy(f->block, w->block->id, sizeof f->block);
        f->warp = (s32)w->id;
        f->lane = lane;
        if (i)
            append_statement(f, k, i->line);
    }
}

void sim_find(standin_kind kind, const sim_warp *w, const sim_insn *i, int lane, u64 address,
              const char *format, ...) {
    va_list args;
    va_start(args, format);
    find(kind, w, i, lane, address, format, args);
    va_end(args);
}

sim_step sim_fail(int result, standin_kind kind, const sim_warp *w, const sim_insn *i, int lane,
                  u64 address, const char *format, ...) {
    va_list args;
    va_start(args, format);
    find(kind, w, i, lane, address, format, args);
    va_end(args);
    if (w->launch->fault == 0)
        w->launch->fault = result;
    return STEP_FAULT;
}

void sim_find_ptx(standin_kind kind, const char *kernel, u32 line, const char *format, ...) {
    char text[sizeof finding->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    standin_finding *f = entry(kind, kernel, line, text);
    if (f)
        memcpy(f->text, text, sizeof f->text);
}

size_t standin_count(void) {
    return findings;
}

size_t standin_count_of(standin_kind kind) {
    size_t n = 0;
    for (u32 i = 0; i < findings; ++i)
        n += finding[i].kind == kind;
    return n;
}

const standin_finding *standin_at(size_t index) {
    return index < findings ? &finding[index] : NULL;
}

const char *standin_kind_name(standin_kind kind) {
    return (unsigned)kind < STANDIN_KINDS ? kind_names[kind] : "?";
}

void standin_clear(void) {
    free(finding);
    free(tallies);
    finding = NULL;
    tallies = NULL;
    findings = findings_room = tally_count = tally_room = 0;
}

bool standin_report(const char *path) {
    FILE *f = fopen(path, "a");
    if (!f)
        return false;
    for (u32 i = 0; i < findings; ++i) {
        const standin_finding *x = &finding[i];
        fprintf(
            f,
            "%s\t%s\tline %u\t%llu times, first in block %u,%u,%u warp %d lane %d at 0x%llx\t%s\n",
            kind_names[x->kind], x->kernel, x->line, (unsigned long long)x->times, x->block[0],
            x->block[1], x->block[2], x->warp, x->lane, (unsigned long long)x->address, x->text);
    }
    return fclose(f) == 0;
}

/* Counters are a struct of u64s. */
static void add(standin_counters *sum, const standin_counters *more) {
    u64 *a = (u64 *)(void *)sum;
    const u64 *b = (const u64 *)(const void *)more;
    for (size_t i = 0; i < sizeof *sum / sizeof *a; ++i)
        a[i] += b[i];
}

void sim_count_launch(const char *kernel, const standin_counters *more) {
    u32 i = 0;
    while (i < tally_count && strncmp(tallies[i].name, kernel, sizeof tallies->name - 1) != 0)
        ++i;
    if (i == tally_count) {
        tallies = sim_grow(tallies, &tally_room, tally_count + 1, sizeof *tallies);
        memset(&tallies[i], 0, sizeof *tallies);
        snprintf(tallies[i].name, sizeof tallies->name, "%s", kernel);
        ++tally_count;
    }
    add(&tallies[i].counters, more);
}

standin_counters standin_counters_of(const char *kernel) {
    standin_counters sum = {0};
    for (u32 i = 0; i < tally_count; ++i)
        if (!kernel || strncmp(tallies[i].name, kernel, sizeof tallies->name - 1) == 0)
            add(&sum, &tallies[i].counters);
    return sum;
}
