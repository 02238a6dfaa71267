/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subject.h: what the driver (driver.c) knows of a library under test: one row per subject in
 * driver.c, one file subject_*.c per interface.
 *
 * A subject is called as the library's own documentation calls it, every status it gives is looked
 * at, and nothing is done to provoke it: it reports honestly what the library said.
 */
#ifndef FAULTS_SUBJECT_H
#define FAULTS_SUBJECT_H

#include "task.h"

#include <stdbool.h>
#include <stddef.h>

#define WHY_BYTES 512

typedef struct subject {
    const char *name;
    task_kind kind;

    /* Prepares a library that has been opened: its functions, and what its users keep between calls
     * (contexts, thread pools). False if it can't, with the library's reason in `why`. After a
     * failure it is called again, and must go on with what it already has. */
    bool (*start)(void *library, int threads, char *why);

    /* One computation into t->out. False if the library says that it failed. */
    bool (*compute)(const task *t, char *why);

    /* What the library calls itself; `text` holds WHY_BYTES. NULL: it does not tell. */
    void (*version)(void *library, char *text);
} subject;

/* dlsym into a function pointer; the subject's `why` says which name is missing. */
bool look_up(void *library, const char *name, void *function, char *why);

/* why = text, shortened if need be. Always false, so that a subject can return it. */
bool refuse(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

extern const subject subject_cblas;
extern const subject subject_tenon_gemm, subject_tenon_gemm_plan;
extern const subject subject_tenon_softmax, subject_tenon_softmax_plan;
extern const subject subject_tenon_attention, subject_tenon_attention_plan;
#ifdef HAVE_DNNL
extern const subject subject_onednn;
#endif
#ifdef HAVE_XNNPACK
extern const subject subject_xnnpack;
#endif
extern const subject subject_ggml;

#endif
