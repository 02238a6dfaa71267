/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_mutants.c: the part of kernel_mutants.py that runs kernels. Each mutant gets a process of
 * its own, in which the stand-in driver is opened for the first time, and an end in time.
 *
 *     kernel_mutants reach FOLDER KERNEL…   FOLDER/KERNEL.ptx, and FOLDER/reached: what each case
 *                                           executes of each kernel: case, what it costs of the
 *                                           processor's time, kernel, lines
 *     kernel_mutants run FILE               a mutant a line: kernel, line, cases a,b,…, text; with
 *                                           tabs between; answers a line: what noticed it, or -
 */
#include <standin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel_cases.h"

/* For a mutant, of the processor, and by the clock where it only waits; its cases take one or two. */
enum { SECONDS = 30, LONGEST = 600 };

static FILE *create(const char *folder, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f)
        perror(path);
    return f;
}

/* ---- reach */

static bool write_lines(FILE *to, int index, clock_t cost, const char *kernel, const char *ptx) {
    uint32_t lines = 1;
    for (const char *s = ptx; *s; s++)
        lines += *s == '\n';
    fprintf(to, "%d %lld %s", index, (long long)cost, kernel);
    for (uint32_t line = 1; line <= lines; line++)
        if (standin_reached(kernel, line))
            fprintf(to, " %u", line);
    return fputc('\n', to) != EOF;
}

static bool write_text(const char *folder, const char *kernel, const char *ptx) {
    char name[128];
    snprintf(name, sizeof name, "%s.ptx", kernel);
    FILE *f = create(folder, name);
    return f && fputs(ptx, f) != EOF && fclose(f) == 0;
}

static int reach(const char *folder, char **kernel, int count) {
    FILE *to = create(folder, "reached");
    bool good = to != NULL;
    for (int i = 0; good && i < kernel_cases(); i++) {
        good = kernel_cases_open(0, NULL);
        const clock_t begun = clock();
        const char *wrong = good ? kernel_case_run(i) : "no device";
        const clock_t cost = clock() - begun;
        if (wrong)
            printf("%s: %s\n", kernel_case_name(i), wrong);
        good = !wrong;
        for (int k = 0; good && k < count; k++) {
            const char *ptx = standin_ptx(kernel[k]);
            if (ptx)
                good =
                    write_lines(to, i, cost, kernel[k], ptx) && write_text(folder, kernel[k], ptx);
        }
        kernel_cases_close();
    }
    if (to)
        fclose(to);
    return good ? 0 : 1;
}

/* ---- run */

/* In a process of its own: what notices the mutant, to `to`. */
static void judge(FILE *to, const kernel_patch *patch, const char *cases) {
    const struct rlimit limit = {SECONDS, SECONDS};
    (void)setrlimit(RLIMIT_CPU, &limit);
    alarm(LONGEST);
    for (int seed = 0; seed < KERNEL_SEEDS; seed++) {
        if (!kernel_cases_open(seed, patch)) {
            fprintf(to, "the device can't be opened");
            return;
        }
        for (const char *s = cases; *s; s += strcspn(s, ","), s += *s == ',') {
            const int index = atoi(s);
            const char *wrong = kernel_case_run(index);
            if (wrong) {
                fprintf(to, "%s: %s", kernel_case_name(index), wrong);
                return;
            }
        }
        kernel_cases_close();
    }
    fputc('-', to);
}

static void run_one(const kernel_patch *patch, const char *cases) {
    int ends[2], status = 0;
    char text[1024] = {0};
    size_t length = 0;
    ssize_t got;
    fflush(stdout);
    if (pipe(ends) != 0)
        exit(2);
    const pid_t child = fork();
    if (child == 0) {
        FILE *to = fdopen(ends[1], "w");
        close(ends[0]);
        if (to) {
            judge(to, patch, cases);
            fflush(to);
        }
        _exit(to ? 0 : 2);
    }
    close(ends[1]);
    while (length < sizeof text - 1 &&
           (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child)
        exit(2);
    for (char *s = text; *s; s++)
        if (*s == '\n' || *s == '\t')
            *s = ' ';
    if (WIFSIGNALED(status)) /* of a mutant that doesn't end, or that takes the machine down */
        printf("signal %d\n", WTERMSIG(status));
    else
        printf("%s\n", text);
}

static int run(const char *path) {
    static char line[4096];
    FILE *from = fopen(path, "r");
    if (!from) {
        perror(path);
        return 2;
    }
    while (fgets(line, sizeof line, from)) {
        char *field[4] = {line};
        line[strcspn(line, "\n")] = 0;
        for (int i = 1; i < 4; i++) {
            char *tab = field[i - 1] ? strchr(field[i - 1], '\t') : NULL;
            field[i] = tab ? tab + 1 : NULL;
            if (tab)
                *tab = 0;
        }
        if (!field[3])
            return 2;
        run_one(&(kernel_patch){field[0], (uint32_t)strtoul(field[1], NULL, 10), field[3]},
                field[2]);
    }
    fclose(from);
    return 0;
}

int main(int argc, char **argv) {
    if (argc >= 4 && strcmp(argv[1], "reach") == 0)
        return reach(argv[2], argv + 3, argc - 3);
    if (argc == 3 && strcmp(argv[1], "run") == 0)
        return run(argv[2]);
    fprintf(stderr, "usage: kernel_mutants reach FOLDER KERNEL… | run FILE\n");
    return 2;
}
