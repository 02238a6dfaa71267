/* SPDX-License-Identifier: Apache-2.0 */
/*
 * injector.h: what a driver says to the preloaded injector (injector.c).
 *
 * Drivers look these functions up by dlsym, so that they also run without it. A *site* is a request
 * to the system inside the window, on whichever thread: malloc and its family, an anonymous
 * mapping, a thread. Everything outside the window is left alone.
 */
#ifndef FAULTS_INJECTOR_H
#define FAULTS_INJECTOR_H

#include <stddef.h>
#include <stdint.h>

/* One request, as it was asked for. */
typedef struct faults_site {
    const char *what;   /* "malloc", "mmap", "pthread_create", … */
    size_t bytes;       /* 0 for threads */
    const void *caller; /* where it returns to */
} faults_site;

/* The n-th request of the window (1: the first) will fail, with `forever` every later one too.
 * 0: none; they are only counted. Before the window. */
void faults_arm(int64_t nth, int forever);

/* Opens and closes the window. Neither allocates. */
void faults_begin(void);
void faults_end(void);

/* Requests seen in the window, and those of them that were made to fail. */
int64_t faults_count(void);
int64_t faults_hits(void);

/* The n-th request (1: the first); NULL if there was none or it was not kept. */
const faults_site *faults_site_at(int64_t n);

#endif
