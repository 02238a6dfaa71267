/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drv_stream.c: streams as lazy queues, events, graphs captured from streams.
 *
 * Nothing is done when it is queued, unless options say so: what a wait needs is done then, with
 * heads of other streams between at random, in any order that events and the null stream allow. So
 * a missing wait is seen. A fault on the device ends the context: every later call says so.
 */
#include "drv.h"

#include <stdlib.h>
#include <string.h>

CUstream drv_new_stream(CUcontext c, bool blocking, int priority) {
    CUstream s = sim_alloc(sizeof *s);
    s->context = c;
    s->blocking = blocking;
    s->priority = priority;
    s->next = drv.streams;
    drv.streams = s;
    ++drv.live.streams;
    return s;
}

CUstream drv_stream(CUstream s) {
    return s == NULL || s == CU_STREAM_LEGACY || s == CU_STREAM_PER_THREAD
               ? drv_current()->null_stream
               : s;
}

bool drv_capturing(void) {
    for (CUstream s = drv.streams; s; s = s->next)
        if (s->capture)
            return true;
    return false;
}

static void release_event(CUevent e) {
    if (--e->pending == 0 && e->destroyed)
        free(e);
}

void drv_free_command(drv_command *c) {
    if (c->event)
        release_event(c->event);
    if (c->launch) {
        free(c->launch->parameters);
        free(c->launch);
    }
    free(c->staged);
    free(c);
}

drv_command *drv_clone_command(const drv_command *c) {
    drv_command *x = sim_alloc(sizeof *x);
    *x = *c;
    x->next = NULL;
    if (c->launch) {
        size_t n = c->launch->kernel->parameter_bytes;
        x->launch = sim_alloc(sizeof *x->launch);
        *x->launch = *c->launch;
        x->launch->parameters = sim_alloc(n);
        memcpy(x->launch->parameters, c->launch->parameters, n);
        x->launch->rng = sim_random(&drv.rng);
    }
    if (c->staged) {
        x->staged = sim_alloc(c->bytes);
        memcpy(x->staged, c->staged, c->bytes);
    }
    if (c->event)
        ++c->event->pending;
    return x;
}

void drv_drop_stream(CUstream s) {
    while (s->head) {
        drv_command *c = s->head;
        s->head = c->next;
        drv_free_command(c);
    }
    if (s->context->null_stream != s)
        --drv.live.streams;
    free(s);
}

static CUresult execute(CUstream s, drv_command *c) {
    switch (c->kind) {
    case DO_LAUNCH: {
        int r = drv_forced_launch_result();
        if (r == 0)
            r = sim_run(c->launch);
        if (r)
            s->context->lost = r;
        return (CUresult)r;
    }
    case DO_COPY:
        return drv_copy(c->to, c->staged ? (u64)(uintptr_t)c->staged : c->from, c->bytes);
    case DO_SET: {
        u8 *p = sim_space_at(c->to, c->bytes * c->width);
        for (size_t n = 0; p && n < c->bytes; ++n)
            memcpy(p + n * c->width, &c->value, c->width);
        if (!p)
            sim_find_ptx(STANDIN_FREED, "", 0, "a fill of memory that is no longer there");
        return CUDA_SUCCESS;
    }
    case DO_RECORD:
        c->event->done = c->event->done > c->ticket ? c->event->done : c->ticket;
        return CUDA_SUCCESS;
    case DO_CALL:
        c->call(c->argument);
        return CUDA_SUCCESS;
    case DO_FREE:
        return drv_free(c->to);
    default:
        return CUDA_SUCCESS;
    }
}

static bool ready(const drv_command *c) {
    return c->kind != DO_WAIT || c->event->done >= c->ticket;
}

static CUresult execute_head(CUstream s) {
    drv_command *c = s->head;
    s->head = c->next;
    if (!s->head)
        s->tail = NULL;
    CUresult r = s->context->lost ? (CUresult)s->context->lost : execute(s, c);
    drv_free_command(c);
    return r;
}

/* Until s is empty; heads of other streams go too, by chance or because s waits for them. */
CUresult drv_drain(CUstream s) {
    while (s->head) {
        bool mine = ready(s->head) && (sim_random(&drv.rng) & 1);
        if (mine) {
            CUresult r = execute_head(s);
            if (r != CUDA_SUCCESS)
                return r;
            continue;
        }
        u32 n = 0;
        for (CUstream x = drv.streams; x; x = x->next)
            n += x->head && ready(x->head);
        if (n == 0) {
            sim_find_ptx(STANDIN_DEADLOCK, "", 0, "streams wait for events that never come");
            return CUDA_ERROR_LAUNCH_TIMEOUT;
        }
        n = (u32)(sim_random(&drv.rng) % n);
        for (CUstream x = drv.streams; x; x = x->next)
            if (x->head && ready(x->head) && n-- == 0) {
                CUresult r = execute_head(x);
                if (r != CUDA_SUCCESS && x->context == s->context)
                    return r;
                break;
            }
    }
    return (CUresult)s->context->lost;
}

CUresult drv_drain_context(CUcontext c) {
    CUresult r = (CUresult)c->lost;
    for (CUstream s = drv.streams; s; s = s->next)
        if (s->context == c) {
            CUresult one = drv_drain(s);
            r = r != CUDA_SUCCESS ? r : one;
        }
    return r;
}

static void append(drv_command **head, drv_command **tail, drv_command *c) {
    if (*tail)
        (*tail)->next = c;
    else
        *head = c;
    *tail = c;
}

void drv_enqueue(CUstream s, const drv_command *c) {
    drv_command *x = sim_alloc(sizeof *x);
    *x = *c;
    x->next = NULL;
    if (x->event)
        ++x->event->pending;
    if (s->capture) {
        append(&s->capture->head, &s->capture->tail, x);
        return;
    }
    CUstream null = s->context->null_stream;
    if (s == null) { /* the null stream and blocking ones wait for each other: done early */
        for (CUstream y = drv.streams; y; y = y->next)
            if (y->context == s->context && y->blocking && y != s && !y->capture)
                drv_drain(y);
    } else if (s->blocking && null->head)
        drv_drain(null);
    append(&s->head, &s->tail, x);
    if (!sim_options.lazy_streams)
        drv_drain(s);
}

CUresult cuStreamCreate(CUstream *s, unsigned int flags) {
    return cuStreamCreateWithPriority(s, flags, 0);
}

CUresult cuStreamCreateWithPriority(CUstream *s, unsigned int flags, int priority) {
    CUresult r = drv_enter("cuStreamCreate", true);
    if (r != CUDA_SUCCESS)
        return r;
    *s = drv_new_stream(drv_current(), !(flags & CU_STREAM_NON_BLOCKING), priority);
    return drv_leave(CUDA_SUCCESS);
}

static bool known_stream(CUstream s) {
    for (CUstream x = drv.streams; x; x = x->next)
        if (x == s)
            return true;
    return false;
}

CUresult cuStreamDestroy(CUstream s) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (!known_stream(s))
        return drv_leave(CUDA_ERROR_INVALID_HANDLE);
    drv_drain(s);
    for (CUstream *x = &drv.streams; *x; x = &(*x)->next)
        if (*x == s) {
            *x = s->next;
            break;
        }
    drv_drop_stream(s);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuStreamSynchronize(CUstream s) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    s = drv_stream(s);
    if (s->capture)
        return drv_leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return drv_leave(drv_drain(s));
}

/* Asking makes progress, sometimes. */
CUresult cuStreamQuery(CUstream s) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    s = drv_stream(s);
    if (s->capture)
        return drv_leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (s->head && sim_random(&drv.rng) % 4 == 0)
        r = drv_drain(s);
    return drv_leave(r != CUDA_SUCCESS ? r : s->head ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS);
}

CUresult cuStreamGetCtx(CUstream s, CUcontext *context) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *context = drv_stream(s)->context;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuStreamGetPriority(CUstream s, int *priority) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *priority = drv_stream(s)->priority;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuLaunchHostFunc(CUstream s, CUhostFn call, void *argument) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    drv_enqueue(drv_stream(s), &(drv_command){.kind = DO_CALL, .call = call, .argument = argument});
    return drv_leave(CUDA_SUCCESS);
}

/* Events. */
CUresult cuEventCreate(CUevent *e, unsigned int flags) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *e = sim_alloc(sizeof **e);
    (*e)->context = drv_current();
    (*e)->flags = flags;
    ++drv.live.events;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuEventDestroy(CUevent e) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (!e || e->destroyed)
        return drv_leave(CUDA_ERROR_INVALID_HANDLE);
    e->destroyed = true;
    --drv.live.events;
    if (e->pending == 0)
        free(e);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuEventRecord(CUevent e, CUstream s) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    s = drv_stream(s);
    e->capture = s->capture;
    if (!s->capture)
        ++e->recorded;
    drv_enqueue(s, &(drv_command){.kind = DO_RECORD, .event = e, .ticket = e->recorded});
    return drv_leave(CUDA_SUCCESS);
}

/* A stream that waits for an event of a capture joins it; the graph is then one sequence. */
CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned int flags) {
    (void)flags;
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    s = drv_stream(s);
    if (e->capture)
        s->capture = e->capture;
    else if (e->recorded > e->done)
        drv_enqueue(s, &(drv_command){.kind = DO_WAIT, .event = e, .ticket = e->recorded});
    return drv_leave(CUDA_SUCCESS);
}

static CUresult advance(CUevent e, bool wait) {
    while (e->done < e->recorded) {
        CUstream holder = NULL;
        for (CUstream s = drv.streams; s; s = s->next)
            for (drv_command *c = s->head; c; c = c->next)
                if (c->kind == DO_RECORD && c->event == e)
                    holder = s;
        if (!holder || (!wait && sim_random(&drv.rng) % 4 != 0))
            return e->context->lost ? (CUresult)e->context->lost : CUDA_ERROR_NOT_READY;
        CUresult r = drv_drain(holder);
        if (r != CUDA_SUCCESS)
            return r;
    }
    return (CUresult)e->context->lost;
}

CUresult cuEventSynchronize(CUevent e) {
    CUresult r = drv_enter(__func__, true);
    return r != CUDA_SUCCESS ? r : drv_leave(advance(e, true));
}

CUresult cuEventQuery(CUevent e) {
    CUresult r = drv_enter(__func__, true);
    return r != CUDA_SUCCESS ? r : drv_leave(advance(e, false));
}

CUresult cuEventElapsedTime(float *ms, CUevent a, CUevent b) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (!a->recorded || !b->recorded)
        return drv_leave(CUDA_ERROR_INVALID_HANDLE);
    if (a->done < a->recorded || b->done < b->recorded)
        return drv_leave(CUDA_ERROR_NOT_READY);
    *ms = 1.0f; /* time is not modelled */
    return drv_leave(CUDA_SUCCESS);
}

/* Graphs: a captured sequence, launched in that order. */
CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode mode) {
    (void)mode;
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (s == NULL || s == CU_STREAM_LEGACY)
        return drv_leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (s->capture)
        return drv_leave(CUDA_ERROR_ILLEGAL_STATE);
    s->capture = sim_alloc(sizeof *s->capture);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuStreamEndCapture(CUstream s, CUgraph *graph) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (!s || !s->capture)
        return drv_leave(CUDA_ERROR_ILLEGAL_STATE);
    *graph = s->capture;
    for (CUstream x = drv.streams; x; x = x->next)
        if (x->capture == *graph)
            x->capture = NULL;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus *status) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *status =
        drv_stream(s)->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return drv_leave(CUDA_SUCCESS);
}

static void free_commands(drv_command *c) {
    while (c) {
        drv_command *next = c->next;
        drv_free_command(c);
        c = next;
    }
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    (void)flags;
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *exec = sim_alloc(sizeof **exec);
    drv_command *tail = NULL;
    for (drv_command *c = graph->head; c; c = c->next)
        append(&(*exec)->head, &tail, drv_clone_command(c));
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream s) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    s = drv_stream(s);
    for (drv_command *c = exec->head; c; c = c->next) {
        drv_command *x = drv_clone_command(c);
        if (x->event)
            --x->event->pending; /* drv_enqueue counts it */
        drv_enqueue(s, x);
        free(x);
    }
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    free_commands(exec->head);
    free(exec);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuGraphDestroy(CUgraph graph) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    free_commands(graph->head);
    free(graph);
    return drv_leave(CUDA_SUCCESS);
}
