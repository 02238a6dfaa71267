/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces_serve.c: a server of language models as its memory sees it: requests come, hold a
 * key-value cache that grows token by token or is there at once, and go. See traces.h.
 *
 * Requests in the house are a heap ordered by when each next does something, so a trace of n pages
 * costs n log(live).
 */
#include "traces.h"

#include <stdlib.h>

/* A request in the house. */
typedef struct guest {
    double next;   /* when it does something */
    double tokens; /* when the first token of its output comes */
    const traces_request *request;
    uint32_t *pages; /* blocks; for a contiguous cache one */
    size_t pages_count, pages_most;
} guest;

typedef struct house {
    traces *t;
    const traces_server *server;
    guest *guests; /* a heap */
    size_t count, capacity;
    size_t peak; /* the trace's peak_live when `used` was last taken */
} house;

static void swap(guest *a, guest *b) {
    guest c = *a;
    *a = *b;
    *b = c;
}

static void sift_down(house *h) {
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < h->count; ++child)
            if (h->guests[child].next < h->guests[least].next)
                least = child;
        if (least == at)
            return;
        swap(&h->guests[at], &h->guests[least]);
        at = least;
    }
}

static void sift_up(house *h) {
    for (size_t at = h->count - 1; at > 0;) {
        size_t parent = (at - 1) / 2;
        if (h->guests[parent].next <= h->guests[at].next)
            return;
        swap(&h->guests[parent], &h->guests[at]);
        at = parent;
    }
}

static int64_t tokens_of(const traces_request *request) {
    return request->prompt + request->output;
}

/* After an event at `now`: when more is alive than ever, what of it holds tokens. */
static void look(house *h, double now) {
    if (h->server->page_tokens == 0 || h->t->peak_live == h->peak)
        return;
    h->peak = h->t->peak_live;
    h->t->used = 0;
    for (size_t i = 0; i < h->count; ++i) {
        const guest *g = &h->guests[i];
        double output = (now - g->tokens) / h->server->seconds_per_token;
        int64_t tokens = g->request->prompt;
        if (output >= (double)g->request->output)
            tokens += g->request->output;
        else if (output > 0)
            tokens += (int64_t)output;
        h->t->used += (size_t)tokens * h->server->models[g->request->model].token_bytes;
    }
}

/* Takes pages until `tokens` fit. */
static bool take_pages(house *h, guest *g, int64_t tokens) {
    const traces_model *model = &h->server->models[g->request->model];
    const int64_t page = h->server->page_tokens;
    while ((int64_t)g->pages_count * page < tokens)
        if (!traces_alloc(h->t, (size_t)page * model->token_bytes, 64, model->name,
                          &g->pages[g->pages_count++]))
            return false;
    return true;
}

/* When the guest needs its next page, or leaves. */
static double next_time(const house *h, const guest *g) {
    int64_t full = (int64_t)g->pages_count * h->server->page_tokens;
    int64_t total = tokens_of(g->request);
    int64_t output = h->server->page_tokens == 0 || full >= total ? g->request->output
                                                                  : full - g->request->prompt;
    return g->tokens + (double)output * h->server->seconds_per_token;
}

static bool arrive(house *h, const traces_request *request, double now) {
    if (h->count == h->capacity) {
        size_t more = h->capacity != 0 ? 2 * h->capacity : 64;
        guest *larger = realloc(h->guests, more * sizeof *larger);
        if (larger == NULL)
            return false;
        h->guests = larger;
        h->capacity = more;
    }
    const traces_model *model = &h->server->models[request->model];
    const int64_t page = h->server->page_tokens;
    guest g = {.request = request,
               .tokens = now + (double)request->prompt * h->server->seconds_per_prompt_token,
               .pages_most = page != 0 ? (size_t)((tokens_of(request) + page - 1) / page) : 1};
    g.pages = malloc((g.pages_most + 1) * sizeof *g.pages);
    if (g.pages == NULL)
        return false;
    h->guests[h->count++] = g; /* owned from here on */
    guest *in = &h->guests[h->count - 1];
    if (page == 0) {
        size_t bytes = (size_t)tokens_of(request) * model->token_bytes;
        if (!traces_alloc(h->t, bytes, 64, model->name, &in->pages[in->pages_count++]))
            return false;
    } else if (!take_pages(h, in, request->prompt)) {
        return false;
    }
    in->next = next_time(h, in);
    sift_up(h);
    return true;
}

/* The guest at the top takes a page, or leaves. */
static bool act(house *h) {
    guest *g = &h->guests[0];
    double now = g->next;
    int64_t total = tokens_of(g->request);
    if (h->server->page_tokens != 0 && (int64_t)g->pages_count * h->server->page_tokens < total) {
        int64_t full = (int64_t)g->pages_count * h->server->page_tokens;
        if (!take_pages(h, g, full + 1))
            return false;
        g->next = next_time(h, g);
    } else {
        for (size_t i = 0; i < g->pages_count; ++i)
            if (!traces_release(h->t, g->pages[i]))
                return false;
        free(g->pages);
        *g = h->guests[--h->count];
    }
    sift_down(h);
    look(h, now);
    return true;
}

bool traces_serve(traces *t, const traces_request *requests, size_t count,
                  const traces_server *server, traces_error *error) {
    house h = {.t = t, .server = server};
    bool fine = true;
    for (size_t i = 0; i < count && fine; ++i) {
        double now = (requests[i].arrival - requests[0].arrival) / server->speed;
        while (fine && h.count != 0 && h.guests[0].next <= now)
            fine = act(&h);
        fine = fine && arrive(&h, &requests[i], now);
        look(&h, now);
    }
    while (fine && h.count != 0)
        fine = act(&h);
    for (size_t i = 0; i < h.count; ++i)
        free(h.guests[i].pages);
    free(h.guests);
    if (!fine)
        snprintf(error->text, sizeof error->text, "no memory for a trace of more than %zu events",
                 t->events_count);
    return fine;
}
