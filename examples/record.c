/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeing what memory does: a decode loop whose key-value caches and workspaces come from one pool, and a recording of all that
 * happens there. Sequences come with prompts of different lengths, grow by a token in each step (a full cache moves to one half as
 * large again) and go when they have said enough. The recording goes to stdout or to the file named:
 *
 *     record decode.txt && tenon memory replay decode.txt && tenon memory picture decode.txt > decode.svg
 */
#include <tenon/tenon.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 8, KV_HEADS = 2, D = 64, SEATS = 12, STEPS = 400, MOST = 1024 };

typedef struct sequence {
    tenon_buffer *k, *v; /* [position][head][D] */
    int64_t length, capacity, end;
} sequence;

static void need(tenon_status status, const tenon_context *ctx) {
    if (status == TENON_OK)
        return;
    fprintf(stderr, "%s: %s\n", tenon_status_name(status), tenon_error_message(ctx));
    exit(1);
}

static int write_text(void *user, const char *text, size_t bytes) {
    return fwrite(text, 1, bytes, user) != bytes;
}

/* A cache of `capacity` positions that begins with what the sequence has. */
static void make_room(tenon_pool *pool, sequence *s, int64_t capacity) {
    const size_t row = KV_HEADS * D * sizeof(float), bytes = (size_t)capacity * row;
    tenon_buffer **caches[] = {&s->k, &s->v};
    for (int i = 0; i < 2; ++i) {
        tenon_buffer *larger;
        need(tenon_buffer_alloc(pool, bytes, i ? "values" : "keys", &larger), NULL);
        if (*caches[i])
            memcpy(tenon_buffer_host(larger), tenon_buffer_host(*caches[i]),
                   (size_t)s->length * row);
        tenon_buffer_free(*caches[i]);
        *caches[i] = larger;
    }
    s->capacity = capacity;
}

/* Appends positions whose keys and values a model would have made. */
static void append(tenon_pool *pool, sequence *s, int64_t count) {
    if (s->length + count > s->capacity)
        make_room(pool, s, (s->length + count) * 3 / 2);
    float *k = tenon_buffer_host(s->k), *v = tenon_buffer_host(s->v);
    for (int64_t i = s->length * KV_HEADS * D; i < (s->length + count) * KV_HEADS * D; ++i) {
        k[i] = (float)(i * 37 % 101) / 101 - 0.5f;
        v[i] = (float)(i * 53 % 97) / 97 - 0.5f;
    }
    s->length += count;
}

/* One query against all of a sequence. */
static void attend(tenon_context *ctx, const sequence *s) {
    static float q[HEADS * D], o[HEADS * D];
    tenon_attention_desc desc = {0};
    desc.q = tenon_swapped(tenon_tensor4(q, TENON_F32, 1, 1, HEADS, D), 1, 2);
    desc.o = tenon_swapped(tenon_tensor4(o, TENON_F32, 1, 1, HEADS, D), 1, 2);
    desc.k = tenon_swapped(
        tenon_tensor4(tenon_buffer_host(s->k), TENON_F32, 1, s->length, KV_HEADS, D), 1, 2);
    desc.v = tenon_swapped(
        tenon_tensor4(tenon_buffer_host(s->v), TENON_F32, 1, s->length, KV_HEADS, D), 1, 2);
    need(tenon_attention(ctx, &desc), ctx);
}

int main(int argc, char **argv) {
    FILE *out = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (!out)
        return 1;
    tenon_pool *pool;
    tenon_context *ctx;
    const tenon_pool_desc pool_desc = {0};
    need(tenon_pool_create(&pool_desc, &pool), NULL);
    need(tenon_memory_record(pool, write_text, out), NULL);
    const tenon_context_desc desc = {.pool = pool};
    need(tenon_context_create(&desc, &ctx), NULL);

    sequence seats[SEATS] = {0};
    unsigned chance = 1;
    for (int step = 0; step < STEPS; ++step)
        for (int i = 0; i < SEATS; ++i) {
            sequence *s = &seats[i];
            if (s->length == s->end) { /* goes, and another one comes */
                tenon_buffer_free(s->k);
                tenon_buffer_free(s->v);
                chance = chance * 1664525 + 1013904223; /* Knuth's numbers: the same every time */
                const int64_t prompt = 16 + chance / 65536 % (MOST - 256);
                *s = (sequence){.end = prompt + 8 + chance / 256 % 96};
                append(pool, s, prompt);
            } else {
                append(pool, s, 1);
            }
            attend(ctx, s);
        }
    for (int i = 0; i < SEATS; ++i) {
        tenon_buffer_free(seats[i].k);
        tenon_buffer_free(seats[i].v);
    }
    tenon_context_destroy(ctx);
    tenon_pool_destroy(pool);
    return fflush(out) != 0 || ferror(out) ? 1 : 0;
}
