/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces.h: a sequence of allocations and frees, as `tenon memory` replays and draws it and as the
 * tests of src/memory use it.
 *
 * A trace comes out of a file (traces_read.c: recordings of tenon_memory_record and public traces)
 * or out of a generator with a seed (traces_generate.c); both may go through a model of a server
 * that holds a key-value cache for each request (traces_serve.c). traces.c keeps the events.
 * Nothing here prints, and nothing knows of the `tenon` command: what goes wrong is a sentence for
 * the caller.
 */
#ifndef BENCH_TRACES_H
#define BENCH_TRACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TRACES_MOST_OWNERS 64

/* What a recording can say of a block; larger ones than TRACES_MOST_BYTES are refused, so that sums
 * of 2^16 of them can't overflow. */
#define TRACES_MOST_BYTES ((size_t)1 << 47)
typedef struct traces_block {
    size_t bytes;
    uint32_t alignment;
    uint32_t owner; /* index in the trace's owners */
} traces_block;

typedef struct traces_event {
    uint32_t block;
    bool free; /* else it is allocated */
} traces_event;

/* Zero-initialise. Every block is allocated once and freed at most once, in the order of events. */
typedef struct traces {
    traces_block *blocks;
    traces_event *events;
    size_t blocks_count, blocks_capacity;
    size_t events_count, events_capacity;
    char *owners[TRACES_MOST_OWNERS];
    uint32_t owners_count;
    size_t live, peak_live; /* bytes as asked for: after the last event, and the most */
    size_t used;    /* of paged caches: bytes that held tokens when live was highest; 0: all */
    size_t dropped; /* lines that say nothing: a last one cut off, frees of earlier blocks */
} traces;

/* A sentence about what went wrong. */
typedef struct traces_error {
    char text[256];
} traces_error;

/* False when there is no memory or the trace is full (2^32 - 1 blocks, sums beyond size_t). */
bool traces_alloc(traces *t, size_t bytes, uint32_t alignment, const char *owner, uint32_t *block);
bool traces_release(traces *t, uint32_t block);
void traces_free(traces *t);

/* Writes the trace as a recording: `alloc ID BYTES ALIGNMENT OWNER`, `free ID`. False: the file
 * can't be written. */
bool traces_write(const traces *t, FILE *out);

/* ---- serving ---- */

/* A request to a language model: its cache lives from arrival to its last token. */
typedef struct traces_request {
    double arrival;         /* seconds; never less than the one before */
    int64_t prompt, output; /* tokens */
    int model;              /* index in traces_server.models */
} traces_request;

typedef struct traces_model {
    const char *name;
    size_t token_bytes; /* keys and values of one token in all layers */
} traces_model;

/*
 * How requests become blocks. A contiguous cache is one block for prompt and output, taken at
 * arrival. A paged one is a block for each `page_tokens` tokens: those of the prompt at arrival,
 * the others when their first token comes. The prompt takes seconds_per_prompt_token each, then
 * every token of the output seconds_per_token.
 */
typedef struct traces_server {
    const traces_model *models;
    int page_tokens; /* 0: contiguous */
    double speed;    /* arrivals come that many times as fast */
    double seconds_per_token, seconds_per_prompt_token;
} traces_server;

#define TRACES_SECONDS_PER_TOKEN 0.03          /* a reading speed that Azure's services keep */
#define TRACES_SECONDS_PER_PROMPT_TOKEN 0.0002 /* 5000 tokens a second */

bool traces_serve(traces *t, const traces_request *requests, size_t count,
                  const traces_server *server, traces_error *error);

/* ---- reading ---- */

typedef enum traces_format {
    TRACES_AUTO,  /* by the first line */
    TRACES_TENON, /* a recording of tenon_memory_record */
    TRACES_AZURE, /* TIMESTAMP,ContextTokens,GeneratedTokens, through traces_serve */
    /* id,lower,upper,size: SOMAS and MiniMalloc; `upper` is the first step without */
    TRACES_LIFETIMES,
    TRACES_FORMATS
} traces_format;

/* Reads a trace from `file`, whose name is for the sentences. `server` is for Azure's. False: *t is
 * empty and the sentence says where and why. */
bool traces_read(traces *t, FILE *file, const char *name, traces_format format,
                 const traces_server *server, traces_error *error);

/* ---- generating ---- */

typedef enum traces_kind {
    TRACES_CHAT,     /* conversations: long answers */
    TRACES_CODE,     /* code completion: long prompts, short answers */
    TRACES_MIXED,    /* both, over three models of different cache sizes */
    TRACES_TRAINING, /* training steps of a transformer with lengths that change */
    TRACES_KINDS
} traces_kind;

extern const char *const traces_kind_names[TRACES_KINDS];

/* Zero means the usual in every member but `seed`. */
typedef struct traces_recipe {
    uint64_t seed;
    int64_t requests; /* serving; usual: 2000 */
    double rate;      /* requests a second; usual: 5, a little below Azure's conversations */
    int page_tokens;  /* 0: contiguous caches */
    int64_t steps;    /* training; usual: 4 */
    int64_t layers;   /* training; usual: 12 */
} traces_recipe;

bool traces_generate(traces *t, traces_kind kind, const traces_recipe *recipe, traces_error *error);

#endif
