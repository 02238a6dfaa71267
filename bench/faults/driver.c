/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.c: one process, one call of a library while memory is short, and one more afterwards.
 *
 *     driver [options] SUBJECT=LIBRARY…
 *
 * Memory is short by the preloaded injector (--nth), or by a limit of the address space (--limit),
 * from before the library is opened (--phase cold), before its first call (opened) or before a
 * later one (warm) to the end of that call. A limit that begins with + is added to what the process
 * has then. What happened goes line by line to --report with write(2), so that it stays when the
 * library ends the process:
 *
 *     subject NAME                before anything else of it
 *     version TEXT
 *     site N WHAT BYTES FILE SYMBOL (with --sites)
 *     sites N HITS                requests in the window, and how many were made to fail
 *     call ok | error TEXT | wrong TEXT
 *     next ok | error TEXT | wrong TEXT      the same once more, with memory
 *     done
 *
 * It always ends with status 0 after `done`: everything else is the library's doing. Called by
 * sweep.py and by bench/peers/limited_memory.py.
 */
#include "guard.h"
#include "injector.h"
#include "subject.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const subject *const subjects[] = {
    &subject_tenon_gemm,      &subject_tenon_gemm_plan,
    &subject_tenon_softmax,   &subject_tenon_softmax_plan,
    &subject_tenon_attention, &subject_tenon_attention_plan,
    &subject_cblas,           &subject_ggml,
#ifdef HAVE_DNNL
    &subject_onednn,
#endif
#ifdef HAVE_XNNPACK
    &subject_xnnpack,
#endif
};

typedef struct options {
    enum { COLD, OPENED, WARM } phase;
    bool forever, sites;
    int threads, size;
    int64_t nth;
    bool limited, relative; /* to what is mapped when memory becomes short */
    size_t limit;           /* bytes of address space */
    int report;
} options;

static options opt = {.threads = 2, .size = 256, .report = STDOUT_FILENO};

/* ---- what subjects use ---- */

bool refuse(char *why, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(why, WHY_BYTES, format, args);
    va_end(args);
    return false;
}

bool look_up(void *library, const char *name, void *function, char *why) {
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address || refuse(why, "no function %s", name);
}

/* ---- the report ---- */

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void tell(const char *format, ...) {
    char line[WHY_BYTES + 64];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length > (int)sizeof line - 2)
        length = (int)sizeof line - 2;
    for (int i = 0; i < length; ++i)
        if (line[i] == '\n')
            line[i] = ' ';
    line[length] = '\n';
    for (int at = 0; at <= length;) {
        const ssize_t wrote = write(opt.report, line + at, (size_t)(length + 1 - at));
        if (wrote < 0 && errno != EINTR)
            _exit(3);
        at += wrote > 0 ? (int)wrote : 0;
    }
}

/* ---- shortage ---- */

static struct {
    void (*arm)(int64_t, int);
    void (*begin)(void);
    void (*end)(void);
    int64_t (*count)(void);
    int64_t (*hits)(void);
    const faults_site *(*site_at)(int64_t);
} injector; /* all NULL unless preloaded */

static bool find_injector(void) {
    char why[WHY_BYTES];
    return look_up(RTLD_DEFAULT, "faults_arm", &injector.arm, why) &&
           look_up(RTLD_DEFAULT, "faults_begin", &injector.begin, why) &&
           look_up(RTLD_DEFAULT, "faults_end", &injector.end, why) &&
           look_up(RTLD_DEFAULT, "faults_count", &injector.count, why) &&
           look_up(RTLD_DEFAULT, "faults_hits", &injector.hits, why) &&
           look_up(RTLD_DEFAULT, "faults_site_at", &injector.site_at, why);
}

/* The address space in use: the first number of statm, in pages. */
static size_t mapped_bytes(void) {
    char text[128] = "";
    const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        _exit(3);
    close(file);
    return (size_t)strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

/* The soft limit alone, so that it can be raised again. */
static void limit_address_space(bool on) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0)
        _exit(3);
    limit.rlim_cur = limit.rlim_max;
    if (on)
        limit.rlim_cur = (rlim_t)opt.limit + (opt.relative ? (rlim_t)mapped_bytes() : 0);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        _exit(3);
}

static void shortage_begin(void) {
    if (opt.limited)
        limit_address_space(true);
    if (injector.begin)
        injector.begin();
}

static void shortage_end(void) {
    if (injector.end)
        injector.end();
    if (opt.limited)
        limit_address_space(false);
}

static void tell_sites(void) {
    if (!injector.count)
        return;
    for (int64_t n = 1; opt.sites && n <= injector.count(); ++n) {
        const faults_site *site = injector.site_at(n);
        Dl_info info = {0};
        if (!site)
            break;
        if (dladdr(site->caller, &info) == 0 || !info.dli_fname)
            info.dli_fname = "?";
        const char *slash = strrchr(info.dli_fname, '/');
        tell("site %lld %s %zu %s %s", (long long)n, site->what, site->bytes,
             slash ? slash + 1 : info.dli_fname, info.dli_sname ? info.dli_sname : "?");
    }
    tell("sites %lld %lld", (long long)injector.count(), (long long)injector.hits());
}

/* ---- one subject ---- */

typedef struct host {
    const subject *subject;
    const char *path;
    void *library;
    bool started;
    task task;
} host;

static bool open_library(host *h, char *why) {
    if (!h->library)
        h->library = dlopen(h->path, RTLD_NOW | RTLD_LOCAL);
    if (h->library)
        return true;
    const char *error = dlerror();
    return refuse(why, "not loaded: %s", error ? error : "no reason given");
}

/* From nothing, or from where the last attempt ended, to a result. */
static bool attempt_unguarded(void *arg, char *why) {
    host *h = arg;
    if (!open_library(h, why))
        return false;
    if (!h->started)
        h->started = h->subject->start(h->library, opt.threads, why);
    return h->started && h->subject->compute(&h->task, why);
}

static bool attempt(host *h, char *why) {
    return guarded(attempt_unguarded, h, why);
}

static void tell_outcome(const char *which, bool ok, const task *t, const char *why) {
    const int wrong = ok ? task_wrong(t) : 0;
    if (!ok)
        tell("%s error %s", which, why);
    else if (wrong)
        tell("%s wrong %d of %d elements", which, wrong, t->count);
    else
        tell("%s ok", which);
}

static void drive(const subject *s, const char *path) {
    host h = {.subject = s, .path = path};
    char why[WHY_BYTES] = "";
    tell("subject %s", s->name);
    if (!task_make(&h.task, s->kind, opt.size))
        _exit(3);
    task_wipe(&h.task);
    const bool ready = opt.phase == COLD || (opt.phase == OPENED && open_library(&h, why)) ||
                       (opt.phase == WARM && attempt(&h, why));
    if (!ready || (opt.phase == WARM && task_wrong(&h.task))) {
        tell_outcome("warm-up", ready, &h.task, why);
        return;
    }
    task_wipe(&h.task);
    if (injector.arm)
        injector.arm(opt.nth, opt.forever);

    shortage_begin();
    const bool ok = attempt(&h, why);
    shortage_end();

    tell_sites();
    tell_outcome("call", ok, &h.task, why);
    task_wipe(&h.task);
    const bool next_ok = attempt(&h, why);
    tell_outcome("next", next_ok, &h.task, why);
    if (h.library && s->version) {
        why[0] = 0;
        s->version(h.library, why);
        if (why[0])
            tell("version %s", why);
    }
}

/* ---- the command line ---- */

static int usage(void) {
    static const char text[] =
        "usage: driver [--phase cold|opened|warm] [--nth N [--forever]] [--sites] [--limit "
        "[+]BYTES]\n"
        "              [--threads N] [--size N] [--report FILE] SUBJECT=LIBRARY...\n"
        "subjects:";
    fputs(text, stderr);
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; ++i)
        fprintf(stderr, " %s", subjects[i]->name);
    fputc('\n', stderr);
    return 2;
}

static const subject *find_subject(const char *argument, const char **library) {
    const char *equals = strchr(argument, '=');
    const size_t length = equals ? (size_t)(equals - argument) : 0;
    for (size_t i = 0; equals && i < sizeof subjects / sizeof *subjects; ++i)
        if (strlen(subjects[i]->name) == length &&
            memcmp(subjects[i]->name, argument, length) == 0) {
            *library = equals + 1;
            return subjects[i];
        }
    return NULL;
}

/* The options; returns the index of the first argument that is none, -1 for a mistake. */
static int read_options(int argc, char **argv) {
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; ++i) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--forever") == 0) {
            opt.forever = true;
            continue;
        }
        if (strcmp(name, "--sites") == 0) {
            opt.sites = true;
            continue;
        }
        if (!value)
            return -1;
        ++i;
        if (strcmp(name, "--phase") == 0)
            opt.phase = strcmp(value, "warm") == 0     ? WARM
                        : strcmp(value, "opened") == 0 ? OPENED
                                                       : COLD;
        else if (strcmp(name, "--nth") == 0)
            opt.nth = strtoll(value, NULL, 10);
        else if (strcmp(name, "--limit") == 0) {
            opt.limited = true;
            opt.relative = *value == '+';
            opt.limit = (size_t)strtoull(value + opt.relative, NULL, 10);
        } else if (strcmp(name, "--threads") == 0)
            opt.threads = atoi(value);
        else if (strcmp(name, "--size") == 0)
            opt.size = atoi(value);
        else if (strcmp(name, "--report") == 0)
            opt.report = open(value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        else
            return -1;
    }
    const bool sound = opt.threads > 0 && opt.size > 0 && opt.size <= 4096 && opt.report >= 0;
    return sound && i < argc ? i : -1;
}

int main(int argc, char **argv) {
    const int first = read_options(argc, argv);
    const char *library;
    if (first < 0)
        return usage();
    for (int i = first; i < argc; ++i)
        if (!find_subject(argv[i], &library))
            return usage();
    if (!find_injector() && (opt.nth || opt.sites)) {
        fputs("driver: --nth and --sites need the injector (LD_PRELOAD)\n", stderr);
        return 2;
    }
    for (int i = first; i < argc; ++i) {
        const subject *s = find_subject(argv[i], &library);
        drive(s, library);
    }
    tell("done");
    _exit(0); /* no exit handlers: what the library does at exit is not what is asked here */
}
