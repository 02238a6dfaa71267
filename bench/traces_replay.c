/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces_replay.c: see traces_replay.h.
 *
 * Two children for each allocator: one takes the time of rounds over the whole trace without
 * touching the memory, a fresh one replays once, writes to every page and looks at its own resident
 * set. Both answer through a pipe.
 */
#include "traces_replay.h"

#include "timing.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, SAMPLES = 5000 };

/* An allocator that is open, in the child. */
typedef struct player {
    tenon_pool *pool; /* NULL: the functions */
    void *(*alloc)(size_t bytes);
    void *(*alloc_aligned)(size_t alignment, size_t bytes);
    void (*free)(void *memory);
} player;

static bool open_pool(player *p, const traces_allocator *a, char *error, size_t capacity) {
    tenon_pool_desc desc = {.struct_size = sizeof desc,
                            .budget = a->budget != 0 ? a->budget : TENON_NO_BUDGET};
    if (tenon_pool_create(&desc, &p->pool) == TENON_OK)
        return true;
    snprintf(error, capacity, "%s", tenon_error_message(NULL));
    return false;
}

/* The functions of a library, under malloc's name or the library's own. */
static bool open_library(player *p, const char *file, char *error, size_t capacity) {
    static const char *const prefixes[] = {"", "mi_", "je_", "tc_"};
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(error, capacity, "%s", dlerror());
        return false;
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; ++i) {
        char name[32];
        snprintf(name, sizeof name, "%smalloc", prefixes[i]);
        void *alloc = dlsym(library, name);
        snprintf(name, sizeof name, "%sfree", prefixes[i]);
        void *release = dlsym(library, name);
        snprintf(name, sizeof name, "%s%s", prefixes[i], i == 3 ? "memalign" : "aligned_alloc");
        void *aligned = dlsym(library, name);
        /* A search in a library finds those that it depends on too: libc's malloc is not its. */
        if (alloc == NULL || release == NULL || aligned == NULL || alloc == (void *)malloc)
            continue;
        memcpy(&p->alloc, &alloc, sizeof alloc);
        memcpy(&p->free, &release, sizeof release);
        memcpy(&p->alloc_aligned, &aligned, sizeof aligned);
        return true;
    }
    snprintf(error, capacity, "%s has no malloc, free and aligned_alloc of its own", file);
    return false;
}

static bool open_player(player *p, const traces_allocator *a, char *error, size_t capacity) {
    *p = (player){.alloc = malloc, .alloc_aligned = aligned_alloc, .free = free};
    if (a->pool)
        return open_pool(p, a, error, capacity);
    return a->library == NULL || open_library(p, a->library, error, capacity);
}

/* A buffer or an address; NULL: there is no memory. Every block of tenon starts at a cache line,
 * asked for or not; of others only more than that is asked, so that they can do what they do best.
 */
static void *get(const player *p, const traces *t, uint32_t block) {
    const traces_block *b = &t->blocks[block];
    if (p->pool != NULL) {
        tenon_buffer *buffer;
        return tenon_buffer_alloc_aligned(p->pool, b->bytes, b->alignment, t->owners[b->owner],
                                          &buffer) == TENON_OK
                   ? (void *)buffer
                   : NULL;
    }
    if (b->alignment <= 64)
        return p->alloc(b->bytes);
    size_t whole = (b->bytes + b->alignment - 1) / b->alignment * b->alignment;
    return p->alloc_aligned(b->alignment, whole);
}

static void put(const player *p, void *handle) {
    if (p->pool != NULL)
        tenon_buffer_free(handle);
    else
        p->free(handle);
}

static void touch(const player *p, void *handle, size_t bytes) {
    volatile unsigned char *at = p->pool != NULL ? tenon_buffer_host(handle) : handle;
    for (size_t i = 0; i < bytes; i += PAGE)
        at[i] = 1;
    if (bytes != 0)
        at[bytes - 1] = 1;
}

/* Bytes of this process in memory. */
static size_t resident(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long pages = 0;
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* The most it ever was. */
static size_t resident_most(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[128];
    unsigned long long kib = 0;
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "VmHWM: %llu", &kib) != 1)
        kib = 0;
    fclose(file);
    return (size_t)kib * 1024;
}

/* One round without touching. */
static uint64_t play(const player *p, const traces *t, void **handles) {
    uint64_t failures = 0;
    for (size_t i = 0; i < t->events_count; ++i) {
        const uint32_t block = t->events[i].block;
        if (!t->events[i].free) {
            handles[block] = get(p, t, block);
            failures += handles[block] == NULL;
        } else if (handles[block] != NULL) {
            put(p, handles[block]);
            handles[block] = NULL;
        }
    }
    for (size_t i = 0; i < t->blocks_count; ++i)
        if (handles[i] != NULL) {
            put(p, handles[i]);
            handles[i] = NULL;
        }
    return failures;
}

static void take_time(const player *p, const traces *t, const traces_rules *rules, void **handles,
                      traces_figures *f) {
    double spent = 0;
    for (int round = 0; round < 2 || spent < rules->min_time; ++round) {
        double start = timing_now();
        f->failures = play(p, t, handles);
        double seconds = timing_now() - start;
        spent += seconds;
        seconds /= (double)t->events_count;
        if (round == 0 || seconds < f->seconds)
            f->seconds = seconds;
    }
    tenon_memory_info info = {.struct_size = sizeof info};
    if (p->pool != NULL && tenon_memory_stats(p->pool, &info) == TENON_OK)
        f->peak_reserved = info.peak_reserved;
}

static void take_footprint(const player *p, const traces *t, void **handles, traces_figures *f) {
    const size_t every = t->events_count / SAMPLES + 1;
    size_t live = 0, samples = 0;
    double unused = 0, watching = 0;
    const size_t before = resident();
    const double start = timing_now();
    for (size_t i = 0; i < t->events_count; ++i) {
        const uint32_t block = t->events[i].block;
        const size_t bytes = t->blocks[block].bytes;
        if (!t->events[i].free) {
            handles[block] = get(p, t, block);
            if (handles[block] != NULL) {
                touch(p, handles[block], bytes);
                live += bytes;
            }
        } else if (handles[block] != NULL) {
            put(p, handles[block]);
            handles[block] = NULL;
            live -= bytes;
        }
        if (i % every == 0) {
            const double now = timing_now();
            const size_t all = resident(), held = all > before ? all - before : 0;
            unused += held > live ? 1 - (double)live / (double)held : 0;
            ++samples;
            watching += timing_now() - now;
        }
    }
    f->touched = (timing_now() - start - watching) / (double)t->events_count;
    const size_t most = resident_most();
    f->peak_resident = most > before ? most - before : 0;
    f->unused = unused / (double)samples;
}

/* The child: `footprint` says which of the two it is. */
static void perform(const traces *t, const traces_allocator *a, const traces_rules *rules,
                    bool footprint, traces_figures *f) {
    player p;
    void **handles = calloc(t->blocks_count, sizeof *handles);
    if (handles == NULL) {
        snprintf(f->error, sizeof f->error, "no memory for %zu handles", t->blocks_count);
        return;
    }
    for (size_t i = 0; i < t->blocks_count; i += PAGE / sizeof *handles)
        ((void *volatile *)handles)[i] = NULL; /* so that they count as there from the beginning */
    if (!open_player(&p, a, f->error, sizeof f->error))
        return;
    if (footprint)
        take_footprint(&p, t, handles, f);
    else
        take_time(&p, t, rules, handles, f);
}

static void in_child(const traces *t, const traces_allocator *a, const traces_rules *rules,
                     bool footprint, traces_figures *f) {
    int ends[2];
    *f = (traces_figures){.error = ""};
    fflush(stdout);
    pid_t child = -1;
    if (pipe(ends) == 0) {
        child = fork();
        if (child < 0) {
            close(ends[0]);
            close(ends[1]);
        }
    }
    if (child < 0) {
        snprintf(f->error, sizeof f->error, "no process to replay in");
        return;
    }
    if (child == 0) {
        close(ends[0]);
        alarm((unsigned)rules->most_seconds);
        perform(t, a, rules, footprint, f);
        const bool told =
            write(ends[1], f, sizeof *f) == (ssize_t)sizeof *f; /* less than a pipe holds */
        _exit(told ? 0 : 1);
    }
    close(ends[1]);
    size_t got = 0;
    for (ssize_t more; got < sizeof *f; got += (size_t)more) {
        more = read(ends[0], (char *)f + got, sizeof *f - got);
        if (more <= 0)
            break;
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (got == sizeof *f)
        return;
    *f = (traces_figures){.error = ""};
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(f->error, sizeof f->error, "took longer than %d seconds", rules->most_seconds);
    else if (WIFSIGNALED(status))
        snprintf(f->error, sizeof f->error, "ended by signal %d", WTERMSIG(status));
    else
        snprintf(f->error, sizeof f->error, "ended with code %d", WEXITSTATUS(status));
}

void traces_replay(const traces *t, const traces_allocator *allocator, const traces_rules *rules,
                   traces_figures *figures) {
    in_child(t, allocator, rules, false, figures);
    if (!rules->touch || figures->error[0] != '\0')
        return;
    traces_figures touched;
    in_child(t, allocator, rules, true, &touched);
    memcpy(figures->error, touched.error, sizeof figures->error);
    figures->touched = touched.touched;
    figures->peak_resident = touched.peak_resident;
    figures->unused = touched.unused;
}
