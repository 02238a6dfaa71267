/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory_bench.c: `tenon memory bench`: what an allocation and its free cost in tenon's pool
 * (tenon_buffer_alloc and tenon_buffer_free on one shared pool) and in malloc libraries, in turn in
 * one process for each pattern.
 *
 * A few patterns, the same calls in the same order for everyone; the first byte of each block is
 * written once it is there, so that everyone pays for it alike and page faults of memory that was
 * given back to the system count. What an allocator does depends on what else it holds and on
 * whether the process has threads, so there are rows with and without.
 */
#include "commands.h"

#include "json.h"
#include "options.h"
#include "peer_malloc.h"
#include "shapes.h"
#include "table.h"
#include "timing.h"

#include <tenon/tenon.h>

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MOST_PEERS = PEER_MOST,
    CONTENDERS = MOST_PEERS + 3, /* two pools and the process's malloc */
    MOST_THREADS = 64,
    LIVE = 1000,  /* blocks alive in "random" and "skewed", of all threads together */
    DRAWS = 8192, /* length of its prepared sequence */
    DEPTH = 12,   /* blocks of a stack */
    FRAMES = 4    /* blocks of a stack of large ones; divides DEPTH */
};

/* clang-format off */
static const char *const notes =
    "patterns\n"
    "  pair      one block of 64 KiB, allocated and freed\n"
    "  stack     12 blocks of 64 KiB, 256 KiB and 1 MiB in turn, freed in reverse order\n"
    "  random    1000 blocks alive, of 1 B to 512 KiB, all sizes equally likely; one of them, at\n"
    "            random, is freed and another size allocated in its place; measured after 800 000 such\n"
    "            steps, when the system has brought the pages\n"
    "  skewed    the same with blocks of 1 KiB to 1 MiB, all powers of two equally likely\n"
    "  large     one block of 8 MiB, allocated and freed\n"
    "  among     the same among the 1000 blocks that \"skewed\" leaves\n"
    "  frames    4 blocks of 8 MiB, freed in reverse order\n"
    "Writes the first byte of each block. Each pattern has a process of its own: what a malloc takes\n"
    "depends on what its heap has been through. With --threads N all threads draw from one pool (or one\n"
    "malloc), each has its own blocks, and the time is that of the whole machine: N threads that do\n"
    "not hinder each other on N cores take 1/N of one's. With --idle N the process has N more threads,\n"
    "asleep: tenon and glibc do without atomic steps in a process of one thread.\n"
    "With --budget P another pool is measured, \"tenon, budget\", whose budget is P percent of what the\n"
    "pattern has alive on average, and 32 MiB.\n"
    "  median       time of one allocation and one free\n"
    "  spread       interquartile range over the median\n"
    "  ratio        this one's median over tenon's: above 1, tenon is faster\n"
    "Debian's jemalloc can be opened with GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384.\n"
    "--json prints one object per line: op (\"memory\"), pattern, threads, allocator, median (seconds),\n"
    "spread, ratio (this one's median over tenon's).";
/* clang-format on */

/* ---- the patterns ---- */

typedef enum pattern { PAIR, STACK, RANDOM, SKEWED, LARGE, AMONG, FRAMED, PATTERNS } pattern;

static const char *const pattern_names[PATTERNS] = {"pair",  "stack", "random", "skewed",
                                                    "large", "among", "frames"};

static const size_t pair_size = 64 << 10, large_size = 8 << 20;
static const size_t stack_sizes[3] = {64 << 10, 256 << 10, 1 << 20};

/* What a block is known by: a tenon_buffer or an address. */
typedef void *handle;

/* Contender: a pool, or a peer. */
typedef struct allocator {
    const char *name;
    tenon_pool *pool; /* NULL: a peer */
    int64_t budget;   /* percent of what lives on average, of a new pool for each row; 0: none */
    peer_malloc peer;
} allocator;

/* One thread's part of a measurement; its blocks of the pattern "random" live from one to the
 * next. */
typedef struct worker {
    const allocator *from;
    pattern what;
    int64_t pairs;
    handle live[LIVE];
    unsigned lives; /* how many of them are its */
    size_t at;
    pthread_t thread;
    struct crew *crew;
    int failed;
} worker;

typedef struct crew {
    worker *workers;
    int threads;
    pthread_barrier_t start;
} crew;

typedef struct draw {
    uint16_t slot;
    uint32_t bytes;
} draw;

static draw draws[2][DRAWS]; /* random, skewed */

/* Patterns with blocks that live on from one call to the next. */
static bool is_random(pattern what) {
    return what == RANDOM || what == SKEWED || what == AMONG;
}

/* splitmix64: the same sequence in every run. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void prepare_draws(void) {
    uint64_t state = 1;
    for (size_t i = 0; i < DRAWS; ++i) {
        const uint16_t slot = (uint16_t)(next_random(&state) % LIVE);
        const uint32_t low = UINT32_C(1024) << next_random(&state) % 10;
        draws[0][i] = (draw){slot, 1 + (uint32_t)(next_random(&state) % (512 << 10))};
        draws[1][i] = (draw){slot, low + (uint32_t)(next_random(&state) % low)};
    }
}

static inline handle take(const allocator *from, size_t bytes, int *failed) {
    if (from->pool) {
        tenon_buffer *buffer;
        if (tenon_buffer_alloc(from->pool, bytes, "bench", &buffer) != TENON_OK) {
            *failed = 1;
            return NULL;
        }
        *(volatile char *)tenon_buffer_host(buffer) = 1;
        return buffer;
    }
    char *memory = from->peer.allocate(bytes);
    if (memory)
        *(volatile char *)memory = 1;
    else
        *failed = 1;
    return memory;
}

static inline void give(const allocator *from, handle block) {
    if (from->pool)
        tenon_buffer_free(block);
    else
        from->peer.release(block);
}

static void run_pairs(worker *w, size_t bytes) {
    for (int64_t i = 0; i < w->pairs; ++i)
        give(w->from, take(w->from, bytes, &w->failed));
}

static void run_stack(worker *w, const size_t *sizes, int kinds, int depth) {
    handle blocks[DEPTH];
    for (int64_t done = 0; done < w->pairs; done += depth) {
        for (int i = 0; i < depth; ++i)
            blocks[i] = take(w->from, sizes[i % kinds], &w->failed);
        for (int i = depth; i-- > 0;)
            give(w->from, blocks[i]);
    }
}

static void run_random(worker *w) {
    for (int64_t i = 0; i < w->pairs; ++i) {
        const draw d = draws[w->what != RANDOM][w->at++ % DRAWS];
        handle *block = &w->live[d.slot % w->lives];
        give(w->from, *block);
        *block = take(w->from, d.bytes, &w->failed);
    }
}

static void run_pattern(worker *w) {
    switch (w->what) {
    case PAIR:
        run_pairs(w, pair_size);
        break;
    case LARGE:
    case AMONG:
        run_pairs(w, large_size);
        break;
    case STACK:
        run_stack(w, stack_sizes, 3, DEPTH);
        break;
    case FRAMED:
        run_stack(w, &large_size, 1, FRAMES);
        break;
    default:
        run_random(w);
        break;
    }
}

/* ---- measuring ---- */

static void *worker_main(void *arg) {
    worker *w = arg;
    pthread_barrier_wait(&w->crew->start); /* all begin together */
    run_pattern(w);
    return NULL;
}

/* One call of a contender: every thread does its pairs. */
static int run_crew(void *state) {
    crew *c = state;
    int failed = 0;
    if (c->threads == 1) {
        run_pattern(&c->workers[0]);
        return -c->workers[0].failed;
    }
    if (pthread_barrier_init(&c->start, NULL, (unsigned)c->threads) != 0)
        return -1;
    for (int i = 1; i < c->threads; ++i)
        if (pthread_create(&c->workers[i].thread, NULL, worker_main, &c->workers[i]) != 0) {
            complain("memory bench: thread %d of %d does not start", i + 1, c->threads);
            exit(EXIT_FAILED); /* the others wait for it */
        }
    worker_main(&c->workers[0]);
    for (int i = 1; i < c->threads; ++i)
        pthread_join(c->workers[i].thread, NULL);
    pthread_barrier_destroy(&c->start);
    for (int i = 0; i < c->threads; ++i)
        failed |= c->workers[i].failed;
    return -failed;
}

typedef struct session {
    allocator allocators[CONTENDERS];
    int count;
    shapes_list threads;
    timing_rules rules;
    int64_t idle; /* threads that sleep meanwhile */
    bool json;
    table table;
} session;

static void print_head(session *s) {
    if (s->json)
        return;
    table_begin(&s->table);
    table_column(&s->table, "pattern", -8);
    table_column(&s->table, "threads", 7);
    table_column(&s->table, "allocator", -24);
    table_column(&s->table, "median", 9);
    table_column(&s->table, "spread", 7);
    table_column(&s->table, "ratio", 6);
    table_end_row(&s->table);
}

static void print_row(session *s, pattern what, int threads, const allocator *a, timing_stats stats,
                      double ratio) {
    char text[32];
    if (s->json) {
        json_writer json = {0};
        json_object(&json, NULL);
        json_text(&json, "op", "memory");
        json_text(&json, "pattern", pattern_names[what]);
        json_int(&json, "threads", threads);
        json_text(&json, "allocator", a->name);
        json_number(&json, "median", stats.median);
        json_number(&json, "spread", stats.spread);
        json_number(&json, "ratio", ratio);
        json_object_end(&json);
        return;
    }
    table_cell(&s->table, "%s", pattern_names[what]);
    table_cell(&s->table, "%d", threads);
    table_cell(&s->table, "%s", a->name);
    table_cell(&s->table, "%s", table_seconds(stats.median, text, sizeof text));
    table_cell(&s->table, "%.1f%%", 100 * stats.spread);
    table_cell(&s->table, "%.2f", ratio);
    table_end_row(&s->table);
}

/* Pairs that one thread does in a call, a multiple of DEPTH: enough for the clock, and for the
 * start of threads (some 50 us each). */
static int64_t pairs_of(int threads) {
    return (threads == 1 ? 600 : 100000 / threads) / DEPTH * DEPTH;
}

/* What "random" and the like do before they are measured: until then most blocks lie on pages that
 * the system has yet to bring. */
#define SETTLING (100 * (int64_t)DRAWS)

static bool prepare_workers(const allocator *a, pattern what, crew *c) {
    const pattern before = what == AMONG ? SKEWED : what;
    bool fine = true;
    for (int i = 0; i < c->threads; ++i) {
        worker *w = &c->workers[i];
        *w = (worker){.from = a,
                      .what = before,
                      .pairs = pairs_of(c->threads),
                      .lives = LIVE / (unsigned)c->threads,
                      .at = (size_t)i * 997,
                      .crew = c};
        for (size_t l = 0; is_random(what) && l < w->lives; ++l)
            w->live[l] = take(a, draws[what != RANDOM][l].bytes, &w->failed);
        fine &= !w->failed;
    }
    const int64_t pairs = pairs_of(c->threads) * c->threads;
    for (int64_t done = 0; is_random(what) && done < SETTLING && fine; done += pairs)
        fine = run_crew(c) == 0;
    for (int i = 0; i < c->threads; ++i)
        c->workers[i].what = what;
    return fine;
}

static void clear_workers(crew *c) {
    for (int i = 0; i < c->threads; ++i)
        for (size_t l = 0; is_random(c->workers[i].what) && l < c->workers[i].lives; ++l)
            if (c->workers[i].live[l])
                give(c->workers[i].from, c->workers[i].live[l]);
}

static bool open_budgeted(allocator *a, pattern what) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < DRAWS && is_random(what); ++i)
        bytes += draws[what != RANDOM][i].bytes;
    const tenon_pool_desc desc = {
        .struct_size = sizeof desc,
        .budget = (size_t)(bytes * LIVE / DRAWS * (uint64_t)a->budget / 100) + FRAMES * large_size};
    if (tenon_pool_create(&desc, &a->pool) == TENON_OK)
        return true;
    complain("%s", tenon_error_message(NULL));
    return false;
}

static bool run_rows(session *s, pattern what, int threads) {
    static worker workers[CONTENDERS][MOST_THREADS];
    crew crews[CONTENDERS];
    timing_contender contenders[CONTENDERS];
    bool fine = true;
    progress("memory bench: %s, %d threads", pattern_names[what], threads);
    for (int i = 0; i < s->count; ++i) {
        crews[i] = (crew){.workers = workers[i], .threads = threads};
        if (s->allocators[i].budget > 0 && !open_budgeted(&s->allocators[i], what))
            return false;
        fine &= prepare_workers(&s->allocators[i], what, &crews[i]);
        contenders[i] = (timing_contender){.run = run_crew, .state = &crews[i]};
    }
    fine = fine && timing_alternate(contenders, s->count, &s->rules) == 0;
    progress_clear();
    double own = 0;
    for (int i = 0; i < s->count; ++i) {
        if (fine) {
            const double pairs = (double)pairs_of(threads) * threads;
            timing_stats stats = timing_summarize(contenders[i].samples, contenders[i].count);
            stats.median /= pairs;
            if (i == 0)
                own = stats.median;
            print_row(s, what, threads, &s->allocators[i], stats, stats.median / own);
        }
        clear_workers(&crews[i]);
        free(contenders[i].samples);
        if (s->allocators[i].budget > 0)
            tenon_pool_destroy(s->allocators[i].pool);
    }
    if (!fine)
        complain("memory bench: %s, %d threads: an allocation or a thread failed",
                 pattern_names[what], threads);
    return fine;
}

static void *sleep_for_ever(void *arg) {
    for (;;)
        pause();
    return arg;
}

/* Threads that do nothing, to the end of the process. */
static bool start_idle(int64_t count) {
    pthread_t thread;
    for (int64_t i = 0; i < count; ++i)
        if (pthread_create(&thread, NULL, sleep_for_ever, NULL) != 0) {
            complain("--idle: thread %d does not start", (int)i + 1);
            return false;
        }
    return true;
}

/* The rows of one pattern, in a process of their own: no heap then knows what ran before. */
static bool measure(session *s, pattern what, int threads) {
    int status = 0;
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) {
        complain("memory bench: no process for %s", pattern_names[what]);
        return false;
    }
    if (child == 0) {
        bool fine = start_idle(s->idle);
        if (tenon_pool_create(NULL, &s->allocators[0].pool) != TENON_OK) {
            complain("%s", tenon_error_message(NULL));
            fine = false;
        }
        fine = fine && run_rows(s, what, threads);
        tenon_pool_destroy(s->allocators[0].pool);
        fflush(stdout);
        _exit(fine ? EXIT_FINE : EXIT_FAILED);
    }
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
        complain("memory bench: %s, %d threads: signal %d", pattern_names[what], threads,
                 WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FINE;
}

/* ---- the command ---- */

static bool open_peers(session *s, const options_values *peers) {
    for (int i = 0; i < peers->count; ++i) {
        allocator *a = &s->allocators[s->count];
        if (!peer_malloc_open(peers->items[i], &a->peer))
            return false;
        a->name = a->peer.name;
        ++s->count;
    }
    return true;
}

int command_memory_bench(int argc, char **argv) {
    session s = {.rules = {.min_time = 0.2}};
    options_values peers = {0};
    const char *threads = "1", *patterns = "pair,stack,random,skewed,large,among,frames",
               *reps = NULL, *min_time = NULL, *idle = NULL, *budget = NULL;
    const options_row rows[] = {
        {"--vs", "LIB,...", "malloc libraries, each [NAME=]FILE; this process's malloc always runs",
         NULL, &peers},
        {"--pattern", "LIST", "of pair, stack, random, skewed, large, among, frames (default: all)",
         &patterns, NULL},
        {"--threads", "LIST", "thread counts (default: 1)", &threads, NULL},
        {"--idle", "N", "threads that sleep meanwhile (default: 0)", &idle, NULL},
        {"--budget", "P", "measure a pool with a budget too, of P percent of what lives", &budget,
         NULL},
        {"--reps", "N", "repetitions of each row (default: as --min-time asks, at least 5)", &reps,
         NULL},
        {"--min-time", "SECONDS", "timed calls of tenon in each row (default: 0.2)", &min_time,
         NULL},
        {"--json", NULL, "one JSON object per measured row and line", NULL, &s.json},
        {0},
    };
    const options_command command = {
        "tenon memory bench",
        "Measures what an allocation and its free cost, beside malloc libraries.", notes, rows};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;

    int chosen[PATTERNS];
    const size_t count =
        shapes_parse_words("--pattern", patterns, pattern_names, PATTERNS, chosen, PATTERNS);
    s.allocators[0].name = "tenon";
    s.allocators[1].peer = peer_malloc_own();
    s.allocators[1].name = s.allocators[1].peer.name;
    s.count = 2;
    if (budget != NULL)
        s.allocators[s.count++].name = "tenon, budget";
    if (count == 0 || !open_peers(&s, &peers) ||
        (budget && !shapes_parse_int("--budget", budget, 100, 10000, &s.allocators[2].budget)) ||
        (idle && !shapes_parse_int("--idle", idle, 0, MOST_THREADS, &s.idle)) ||
        (reps && !shapes_parse_int("--reps", reps, 1, 1000000, &s.rules.reps)) ||
        (min_time && !shapes_parse_seconds("--min-time", min_time, &s.rules.min_time)) ||
        !shapes_parse_list("--threads", threads, 1, MOST_THREADS, &s.threads))
        return EXIT_USAGE;

    int code = EXIT_FINE;
    prepare_draws();
    print_head(&s);
    for (size_t t = 0; t < s.threads.rows; ++t)
        for (size_t p = 0; p < count; ++p)
            if (!measure(&s, (pattern)chosen[p], (int)s.threads.values[t]))
                code = EXIT_FAILED;
    shapes_free(&s.threads);
    return code;
}
