/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staging; see stage.h. An operand's memory is its home; what the device is given instead is a
 * stand-in: the home itself, lent, or a block of the slot's pool. Only elements are ever written
 * back (runs of consecutive ones, tn_operand_calls.pieces): what lies between them is somebody
 * else's.
 */
#include "core/stage.h"

#include "core/checked.h"
#include "core/os.h"
#include "memory/buffer.h"

#include <stdbool.h>
#include <string.h>

static const char owner[] = "tenon: staging";

typedef struct stand_in {
    tn_operand_memory home;
    tn_space *space;        /* whose memory the home is; NULL: the host's */
    tn_segment_memory lent; /* handle NULL: it is not */
    tn_block block;         /* node NULL: there is none */
    void *image, *own;      /* see take_image; `own` is to be freed */
    bool filled;            /* an output of which nothing that it held is needed */
} stand_in;

typedef struct stage {
    tenon_context *ctx;
    tn_slot *slot;
    const tn_operand_calls *operands;
    tn_places places;                  /* what a device with memory of its own is given … */
    void *addresses[TN_MAX_ADDRESSES]; /* … or the host */
    void *part[TN_MAX_PARTS];
    int count;         /* of the stand-ins that are in use */
    int room;          /* for so many */
    stand_in *instead; /* tn_stage_run's, or of the context's allocator where they are more */
    const stand_in *straight; /* see take_straight */
} stage;

/* ---------------------------------------------------------------- one operand's memory */

static size_t bytes_of(const tn_operand_memory *o) {
    return (size_t)(o->high - o->low);
}

/* From a member of a pointer array to the next, where they lie side by side. */
static size_t step_of(const tn_operand_memory *o) {
    return (bytes_of(o) + TN_CACHE_LINE - 1) & ~(size_t)(TN_CACHE_LINE - 1);
}

/* All bytes of an operand's image; false if no memory has so many. */
static bool total_of(const tn_operand_memory *o, size_t *total) {
    *total = bytes_of(o);
    return !o->members || tn_mul_size((size_t)o->count, step_of(o), total);
}

static tn_place block_place(const tn_block *block) {
    return (tn_place){block->address, block->handle, block->offset};
}

static tenon_status read_home(const tn_operand_memory *o, void *memory, tn_message *why) {
    tn_space *space = tn_buffer_space(o->buffer);
    const tn_place place = tn_buffer_place(o->buffer, o->address + o->low);
    return space->calls->read(space, memory, &place, bytes_of(o), why);
}

/* ---------------------------------------------------------------- images in host memory */

typedef struct walk {
    const stand_in *x;
    char *home, *image; /* first element's, of the member at hand */
    tn_message *message;
    tenon_status status;
    size_t least; /* bytes of the shortest piece */
} walk;

static void gather_piece(void *arg, int64_t offset, size_t bytes) {
    const walk *w = arg;
    memcpy(w->image + offset, w->home + offset, bytes);
}

static void scatter_piece(void *arg, int64_t offset, size_t bytes) {
    walk *w = arg;
    tn_space *space = w->x->space;
    if (!space) {
        memcpy(w->home + offset, w->image + offset, bytes);
    } else if (w->status == TENON_OK) {
        const tn_place place = tn_buffer_place(w->x->home.buffer, w->home + offset);
        w->status = space->calls->write(space, &place, w->image + offset, bytes, w->message);
    }
}

static void measure_piece(void *arg, int64_t offset, size_t bytes) {
    walk *w = arg;
    (void)offset;
    w->least = w->least == 0 || bytes < w->least ? bytes : w->least;
}

/* Every piece of an operand, of all members of a pointer array. */
static void each_piece(const stage *s, walk *w, tn_piece *each) {
    const tn_operand_memory *home = &w->x->home;
    const int64_t count = home->members ? home->count : 1;
    for (int64_t i = 0; i < count; ++i) {
        w->home = home->members ? (char *)(uintptr_t)home->members[i] : home->address;
        w->image = (char *)w->x->image - home->low + (size_t)i * step_of(home);
        if (home->tensor)
            s->operands->pieces(home->tensor, each, w);
        else
            each(w, home->low, bytes_of(home));
    }
}

/* Elements from their home into the image. */
static tenon_status load(const stage *s, const stand_in *x) {
    walk w = {.x = x};
    if (x->space)
        return read_home(&x->home, x->image, &s->ctx->message);
    each_piece(s, &w, gather_piece);
    return TENON_OK;
}

/* And back. */
static tenon_status store(const stage *s, const stand_in *x) {
    walk w = {.x = x, .message = &s->ctx->message};
    each_piece(s, &w, scatter_piece);
    return w.status;
}

/* Host memory whose elements lie without gaps is its own image. */
static bool is_dense_host(const stage *s, const stand_in *x) {
    walk w = {.x = x};
    if (x->space || x->home.members)
        return false;
    each_piece(s, &w, measure_piece);
    return w.least == bytes_of(&x->home);
}

/*
 * One output may be brought home straight from the device's block: the last thing that can fail, so
 * that it is all outputs or none. Not from a card: a copy that breaks off there has begun to write.
 */
static bool take_straight(stage *s, const stand_in *x) {
    if (s->straight || !s->slot->space->host_pages)
        return false;
    s->straight = x;
    return true;
}

/*
 * Host memory that has the operand's bytes while they are copied: a host's block is that itself, a
 * device's needs some beside it, unless the home can be copied as it is. Outputs have theirs before
 * anything runs, so that bringing them home needs nothing that could be refused.
 */
static tenon_status take_image(stage *s, stand_in *x, size_t bytes) {
    const void *stray;
    if (!s->slot->space) {
        x->image = x->block.address;
        return TENON_OK;
    }
    if (is_dense_host(s, x) && (!x->home.output || take_straight(s, x)))
        return TENON_OK;
    x->image = x->own = tn_host_alloc_watched(&s->ctx->allocator, bytes, TN_CACHE_LINE, &stray);
    if (!x->own)
        return tn_fail_host(&s->ctx->message, "the image of an operand", bytes, stray,
                            TN_CACHE_LINE);
    if (!x->filled)
        memset(x->own, 0, bytes); /* gaps are copied too */
    return TENON_OK;
}

/* ---------------------------------------------------------------- stand-ins */

/*
 * The bytes of an input in host memory together with those of all inputs that share some with it
 * (K and V in one tensor, a matrix times itself), so that the device gets one memory for all.
 */
static void widen(const stage *s, const tn_placement *at, const tn_operand_memory *home,
                  char **first, char **end) {
    tn_operand_memory other;
    *first = home->address + home->low;
    *end = home->address + home->high;
    for (tn_roles left = at->placed & ~at->elsewhere & ~at->reaches->outputs; left;) {
        const int role = tn_next_role(&left);
        s->operands->describe(at, role, &other);
        if (other.members)
            continue;
        char *const low = other.address + other.low, *const high = other.address + other.high;
        if (low >= *end || high <= *first || (low >= *first && high <= *end))
            continue;
        *first = low < *first ? low : *first;
        *end = high > *end ? high : *end;
        left = at->placed & ~at->elsewhere & ~at->reaches->outputs; /* it may reach others now */
    }
}

/* Inputs in host memory stay where they are, if the device can use them there. */
static bool lend(const stage *s, const tn_placement *at, stand_in *x) {
    tn_space *space = s->slot->space;
    char *first, *end;
    if (!space || !space->host_pages || x->home.output || x->space || x->home.members)
        return false;
    widen(s, at, &x->home, &first, &end);
    return space->calls->lend(space, first, (size_t)(end - first), &x->lent, NULL) == TENON_OK;
}

static tenon_status copy_in(stage *s, stand_in *x) {
    tn_space *space = s->slot->space;
    size_t bytes;
    if (!total_of(&x->home, &bytes))
        return tn_fail(&s->ctx->message, TENON_ERROR_OUT_OF_MEMORY,
                       "%s has %lld members of %zu bytes, more than any memory", x->home.name,
                       (long long)x->home.count, bytes_of(&x->home));
    const tenon_status status =
        tn_pool_try(s->slot->pool, bytes, TN_CACHE_LINE, owner, &x->block, &s->ctx->message);
    if (status != TENON_OK) {
        s->ctx->refuser = s->slot->pool;
        s->ctx->refused = bytes;
        return status;
    }
    TN_TRY(take_image(s, x, bytes));
    if (x->filled)
        return TENON_OK;
    if (x->image)
        TN_TRY(load(s, x));
    if (!space)
        return TENON_OK;
    const tn_place place = block_place(&x->block);
    return space->calls->write(space, &place, x->image ? x->image : x->home.address + x->home.low,
                               bytes, &s->ctx->message);
}

/* Where the device finds an operand: its place, how far its members are apart, and its address for
 * the host. */
static tenon_status place_one(stage *s, const tn_placement *at, const tn_operand_memory *home,
                              bool filled, tn_place *place, int64_t *step, void **address) {
    tn_space *const space = home->buffer ? tn_buffer_space(home->buffer) : NULL;
    *address = home->address;
    if (bytes_of(home) == 0)
        return TENON_OK;
    if (space == s->slot->space) {
        if (space)
            *place = tn_buffer_place(home->buffer, home->address);
        return TENON_OK;
    }
    if (s->ctx->flags & TENON_CONTEXT_NO_STAGING)
        return tn_fail(
            &s->ctx->message, TENON_ERROR_INVALID_ARGUMENT,
            "%s is %p, expected memory of device %s, as TENON_CONTEXT_NO_STAGING asks for",
            home->name, (void *)home->address, s->slot->name.id);
    stand_in *x = &s->instead[s->count++];
    *x = (stand_in){.home = *home, .space = space, .filled = filled};
    if (lend(s, at, x)) {
        *place = tn_place_in(&x->lent, home->address);
        return TENON_OK;
    }
    TN_TRY(copy_in(s, x));
    *address = (char *)x->block.address - home->low;
    *step = home->members ? (int64_t)step_of(home) : 0;
    *place = (tn_place){*address, x->block.handle, x->block.offset - (size_t)home->low};
    return TENON_OK;
}

static int count_operands(const stage *s, const tn_placement *at) {
    int count = __builtin_popcount(at->placed);
    for (int p = -1; s->operands->next_part && (p = s->operands->next_part(at, p + 1)) >= 0;)
        ++count;
    return count;
}

/* Nothing is asked for but for the many operands of a merge. */
static tenon_status make_room(stage *s, int count) {
    const size_t bytes = (size_t)count * sizeof *s->instead;
    const void *stray;
    if (count <= s->room)
        return TENON_OK;
    s->instead = tn_host_alloc_watched(&s->ctx->allocator, bytes, TN_CACHE_LINE, &stray);
    if (!s->instead)
        return tn_fail_host(&s->ctx->message, "a list of operands", bytes, stray, TN_CACHE_LINE);
    s->room = count;
    return TENON_OK;
}

static tenon_status place_all(stage *s, const tn_placement *at, const tn_choice *choice) {
    tn_operand_memory home;
    int64_t none;
    TN_TRY(make_room(s, count_operands(s, at)));
    for (tn_roles left = at->placed; left;) {
        const int role = tn_next_role(&left);
        s->operands->describe(at, role, &home);
        TN_TRY(place_one(s, at, &home, (choice->fills >> role & 1) != 0, &s->places.operand[role],
                         &s->places.step[role], &s->addresses[role]));
    }
    for (int p = -1; s->operands->next_part && (p = s->operands->next_part(at, p + 1)) >= 0;) {
        s->operands->describe_part(at, p, &home);
        TN_TRY(place_one(s, at, &home, false, &s->places.part[p], &none, &s->part[p]));
    }
    if (s->operands->move_parts)
        s->operands->move_parts(s->addresses, s->part);
    if (s->slot->space && choice->workspace)
        s->places.scratch = tn_arena_place(&s->slot->arena, choice->workspace);
    return TENON_OK;
}

static tenon_status bring(const stage *s, const stand_in *x, void *to) {
    tn_space *space = s->slot->space;
    const tn_place place = block_place(&x->block);
    size_t bytes;
    return total_of(&x->home, &bytes)
               ? space->calls->read(space, to, &place, bytes, &s->ctx->message)
               : TENON_OK;
}

/* Waits for work that uses what is the caller's, then brings the outputs home: all of them, or none
 * if the device is lost. */
static tenon_status finish(const stage *s) {
    tn_space *space = s->slot->space;
    if (space && s->count)
        TN_TRY(space->calls->wait(space, &s->ctx->message));
    for (int i = 0; i < s->count; ++i)
        if (space && s->instead[i].home.output && &s->instead[i] != s->straight)
            TN_TRY(bring(s, &s->instead[i], s->instead[i].image));
    if (s->straight)
        TN_TRY(bring(s, s->straight, s->straight->home.address + s->straight->home.low));
    for (int i = 0; i < s->count; ++i)
        if (s->instead[i].home.output && &s->instead[i] != s->straight)
            TN_TRY(store(s, &s->instead[i]));
    return TENON_OK;
}

static void end(stage *s) {
    for (int i = 0; i < s->count; ++i) {
        stand_in *x = &s->instead[i];
        if (x->lent.handle)
            (void)s->slot->space->calls->withdraw(s->slot->space, &x->lent);
        size_t bytes;
        if (x->own && total_of(&x->home, &bytes))
            tn_host_free(&s->ctx->allocator, x->own, bytes);
        tn_pool_free(s->slot->pool, &x->block);
    }
    if (s->room > TN_MAX_ADDRESSES)
        tn_host_free(&s->ctx->allocator, s->instead, (size_t)s->room * sizeof *s->instead);
}

tenon_status tn_stage_run(tenon_context *ctx, tn_slot *slot, const tn_plan_request *request,
                          const tn_placement *at, const tn_run *run) {
    stand_in few[TN_MAX_ADDRESSES];
    stage s = {.ctx = ctx,
               .slot = slot,
               .operands = request->operands,
               .room = TN_MAX_ADDRESSES,
               .instead = few};
    tn_run staged = *run;
    memcpy(s.addresses, at->addresses, sizeof s.addresses);
    staged.addresses = s.addresses;
    staged.places = slot->space ? &s.places : NULL;
    tenon_status status = place_all(&s, at, run->choice);
    if (status == TENON_OK)
        status = slot->name.backend->run(slot->device, &staged, &ctx->message);
    if (status == TENON_OK)
        status = finish(&s);
    end(&s);
    return status;
}

/* ---------------------------------------------------------------- reading before a run */

tenon_status tn_stage_fetch(tenon_context *ctx, const tn_placement *at, tn_roles roles,
                            const tn_operand_calls *operands, tn_fetched *fetched,
                            void **addresses) {
    const tn_roles wanted = roles & at->elsewhere;
    size_t total = 0, offset = 0;
    tn_operand_memory home;
    *fetched = (tn_fetched){NULL, 0};
    for (tn_roles left = wanted; left;) {
        operands->describe(at, tn_next_role(&left), &home);
        if (!tn_add_size(total, bytes_of(&home) + TN_CACHE_LINE, &total))
            return tn_fail(&ctx->message, TENON_ERROR_OUT_OF_MEMORY, "no memory for lengths");
    }
    if (total == 0)
        return TENON_OK;
    const void *stray;
    char *memory = tn_host_alloc_watched(&ctx->allocator, total, TN_CACHE_LINE, &stray);
    if (!memory)
        return tn_fail_host(&ctx->message, "lengths to be checked", total, stray, TN_CACHE_LINE);
    *fetched = (tn_fetched){memory, total};
    for (tn_roles left = wanted; left;) {
        const int role = tn_next_role(&left);
        operands->describe(at, role, &home);
        if (bytes_of(&home) != 0)
            TN_TRY(read_home(&home, memory + offset, &ctx->message));
        addresses[role] = memory + offset - home.low;
        offset += (bytes_of(&home) + TN_CACHE_LINE - 1) & ~(size_t)(TN_CACHE_LINE - 1);
    }
    return TENON_OK;
}

void tn_stage_forget(tenon_context *ctx, tn_fetched *fetched) {
    tn_host_free(&ctx->allocator, fetched->memory, fetched->bytes);
    *fetched = (tn_fetched){NULL, 0};
}
