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
    tn_segment_memory lent; /* handle NULL: it is not */
    tn_block block;         /* node NULL: there is none */
    void *image, *own;      /* see take_image; `own` is to be freed */
} stand_in;

typedef struct stage {
    tenon_context *ctx;
    tn_slot *slot;
    const tn_plan_request *request;
    const tn_placement *at;
    tn_places places;                  /* what a device with memory of its own is given … */
    void *addresses[TN_MAX_ADDRESSES]; /* … or the host */
    tn_roles copied, lent;
    stand_in instead[TN_MAX_ADDRESSES];
} stage;

/* ---------------------------------------------------------------- one operand's memory */

static char *first_byte(const tn_placement *at, int role) {
    return (char *)at->addresses[role] + at->reaches->of[role].low;
}

static size_t bytes_of(const tn_placement *at, int role) {
    return (size_t)(at->reaches->of[role].high - at->reaches->of[role].low);
}

/* Whose memory an operand is; NULL: the host's. */
static tn_space *home_of(const tn_placement *at, int role) {
    return at->elsewhere >> role & 1 ? tn_buffer_space(at->buffers[role]) : NULL;
}

static bool is_output(const tn_placement *at, int role) {
    return at->reaches->outputs >> role & 1;
}

/* ---------------------------------------------------------------- images in host memory */

/* The bytes that an operand covers, in host memory, beside the home they are copied from or to. */
typedef struct image {
    char *first; /* stands for first_byte */
    int64_t low;
    const tn_placement *at;
    int role;
    tn_space *home;
    tenon_status status;
    tn_message *message;
} image;

static void gather_piece(void *arg, int64_t offset, size_t bytes) {
    const image *i = arg;
    memcpy(i->first + (offset - i->low), (const char *)i->at->addresses[i->role] + offset, bytes);
}

static void scatter_piece(void *arg, int64_t offset, size_t bytes) {
    image *i = arg;
    char *to = (char *)i->at->addresses[i->role] + offset;
    const char *from = i->first + (offset - i->low);
    if (!i->home) {
        memcpy(to, from, bytes);
    } else if (i->status == TENON_OK) {
        const tn_place place = tn_buffer_place(i->at->buffers[i->role], to);
        i->status = i->home->calls->write(i->home, &place, from, bytes, i->message);
    }
}

static image image_of(const stage *s, int role, void *memory) {
    return (image){.first = memory,
                   .low = s->at->reaches->of[role].low,
                   .at = s->at,
                   .role = role,
                   .home = home_of(s->at, role),
                   .message = &s->ctx->message};
}

static tenon_status read_home(const tn_placement *at, int role, void *memory, tn_message *why) {
    tn_space *home = home_of(at, role);
    const tn_place place = tn_buffer_place(at->buffers[role], first_byte(at, role));
    return home->calls->read(home, memory, &place, bytes_of(at, role), why);
}

/* Elements from their home into an image of them. */
static tenon_status load(const stage *s, int role, void *memory) {
    image i = image_of(s, role, memory);
    if (i.home)
        return read_home(s->at, role, memory, i.message);
    s->request->operands->pieces(s->at, role, gather_piece, &i);
    return TENON_OK;
}

/* And back. */
static tenon_status store(const stage *s, int role, void *memory) {
    image i = image_of(s, role, memory);
    s->request->operands->pieces(s->at, role, scatter_piece, &i);
    return i.status;
}

static void note_piece(void *arg, int64_t offset, size_t bytes) {
    (void)offset;
    size_t *least = arg;
    *least = *least == 0 || bytes < *least ? bytes : *least;
}

/* Host memory whose elements lie without gaps is its own image. */
static bool is_dense_host(const stage *s, int role) {
    size_t piece = 0;
    if (home_of(s->at, role))
        return false;
    s->request->operands->pieces(s->at, role, note_piece, &piece);
    return piece == bytes_of(s->at, role);
}

/*
 * Host memory that has the operand's bytes while they are copied: a host's block is that itself, a
 * card's needs some beside it. Outputs have theirs before anything runs, so that bringing them home
 * needs nothing that could be refused.
 */
static tenon_status take_image(stage *s, int role) {
    stand_in *instead = &s->instead[role];
    const size_t bytes = bytes_of(s->at, role);
    const void *stray;
    if (!s->slot->space) {
        instead->image = instead->block.address;
        return TENON_OK;
    }
    if (!is_output(s->at, role) && is_dense_host(s, role))
        return TENON_OK;
    instead->image = instead->own =
        tn_host_alloc_watched(&s->ctx->allocator, bytes, TN_CACHE_LINE, &stray);
    if (!instead->own)
        return tn_fail_host(&s->ctx->message, "the image of an operand", bytes, stray,
                            TN_CACHE_LINE);
    memset(instead->own, 0, bytes); /* gaps are copied too */
    return TENON_OK;
}

static tn_place block_place(const tn_block *block) {
    return (tn_place){block->address, block->handle, block->offset};
}

static tenon_status move_in(const stage *s, int role) {
    const stand_in *instead = &s->instead[role];
    tn_space *space = s->slot->space;
    const void *from = instead->image ? instead->image : first_byte(s->at, role);
    if (instead->image)
        TN_TRY(load(s, role, instead->image));
    if (!space)
        return TENON_OK;
    const tn_place place = block_place(&instead->block);
    return space->calls->write(space, &place, from, bytes_of(s->at, role), &s->ctx->message);
}

/* ---------------------------------------------------------------- stand-ins */

static tenon_status refuse_staging(const stage *s, int role) {
    return tn_fail(&s->ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                   "%s is %p, expected memory of device %s, as TENON_CONTEXT_NO_STAGING asks for",
                   s->request->operands->name(s->at, role), s->at->addresses[role],
                   s->slot->name.id);
}

/* Inputs in host memory stay where they are, if the device can use them there. */
static bool lend(stage *s, int role) {
    tn_space *space = s->slot->space;
    return space && space->host_pages && !is_output(s->at, role) && !home_of(s->at, role) &&
           space->calls->lend(space, first_byte(s->at, role), bytes_of(s->at, role),
                              &s->instead[role].lent, NULL) == TENON_OK;
}

static tenon_status copy_in(stage *s, int role) {
    const size_t bytes = bytes_of(s->at, role);
    tn_block *block = &s->instead[role].block;
    const tenon_status status =
        tn_pool_try(s->slot->pool, bytes, TN_CACHE_LINE, owner, block, &s->ctx->message);
    if (status != TENON_OK) {
        s->ctx->refuser = s->slot->pool;
        s->ctx->refused = bytes;
        return status;
    }
    s->copied |= 1u << role;
    TN_TRY(take_image(s, role));
    return move_in(s, role);
}

static tenon_status place_role(stage *s, int role) {
    char *const address = s->at->addresses[role];
    const int64_t low = s->at->reaches->of[role].low;
    tn_space *const home = home_of(s->at, role);
    s->addresses[role] = address;
    if (bytes_of(s->at, role) == 0)
        return TENON_OK;
    if (home == s->slot->space) {
        if (home)
            s->places.operand[role] = tn_buffer_place(s->at->buffers[role], address);
        return TENON_OK;
    }
    if (s->ctx->flags & TENON_CONTEXT_NO_STAGING)
        return refuse_staging(s, role);
    stand_in *instead = &s->instead[role];
    if (lend(s, role)) {
        s->lent |= 1u << role;
        s->places.operand[role] = tn_place_in(&instead->lent, address);
        return TENON_OK;
    }
    TN_TRY(copy_in(s, role));
    s->addresses[role] = (char *)instead->block.address - low;
    s->places.operand[role] = block_place(&instead->block);
    s->places.operand[role].address = s->addresses[role];
    s->places.operand[role].offset -= (size_t)low;
    return TENON_OK;
}

static tenon_status place_all(stage *s, size_t workspace) {
    for (tn_roles left = s->at->placed; left;)
        TN_TRY(place_role(s, tn_next_role(&left)));
    if (s->slot->space && workspace)
        s->places.scratch = tn_arena_place(&s->slot->arena, workspace);
    return TENON_OK;
}

/* Waits for work that uses what is the caller's, then brings the outputs home: all of them, or none
 * if the device is lost. */
static tenon_status finish(const stage *s) {
    const tn_roles outputs = s->copied & s->at->reaches->outputs;
    tn_space *space = s->slot->space;
    if (space && (s->copied | s->lent))
        TN_TRY(space->calls->wait(space, &s->ctx->message));
    for (tn_roles left = space ? outputs : 0; left;) {
        const int role = tn_next_role(&left);
        const tn_place place = block_place(&s->instead[role].block);
        TN_TRY(space->calls->read(space, s->instead[role].image, &place, bytes_of(s->at, role),
                                  &s->ctx->message));
    }
    for (tn_roles left = outputs; left;) {
        const int role = tn_next_role(&left);
        TN_TRY(store(s, role, s->instead[role].image));
    }
    return TENON_OK;
}

static void end(stage *s) {
    for (tn_roles left = s->lent; left;)
        (void)s->slot->space->calls->withdraw(s->slot->space,
                                              &s->instead[tn_next_role(&left)].lent);
    for (tn_roles left = s->copied; left;) {
        const int role = tn_next_role(&left);
        tn_host_free(&s->ctx->allocator, s->instead[role].own, bytes_of(s->at, role));
        tn_pool_free(s->slot->pool, &s->instead[role].block);
    }
}

tenon_status tn_stage_run(tenon_context *ctx, tn_slot *slot, const tn_plan_request *request,
                          const tn_placement *at, const tn_run *run) {
    stage s = {.ctx = ctx, .slot = slot, .request = request, .at = at};
    tn_run staged = *run;
    memcpy(s.addresses, at->addresses, sizeof s.addresses);
    staged.addresses = s.addresses;
    staged.places = slot->space ? &s.places : NULL;
    tenon_status status = place_all(&s, run->choice->workspace);
    if (status == TENON_OK)
        status = slot->name.backend->run(slot->device, &staged, &ctx->message);
    if (status == TENON_OK)
        status = finish(&s);
    end(&s);
    return status;
}

/* ---------------------------------------------------------------- reading before a run */

tenon_status tn_stage_fetch(tenon_context *ctx, const tn_placement *at, tn_roles roles,
                            tn_fetched *fetched, void **addresses) {
    const tn_roles wanted = roles & at->elsewhere;
    size_t total = 0, offset = 0;
    *fetched = (tn_fetched){NULL, 0};
    for (tn_roles left = wanted; left;)
        if (!tn_add_size(total, bytes_of(at, tn_next_role(&left)) + TN_CACHE_LINE, &total))
            return tn_fail(&ctx->message, TENON_ERROR_OUT_OF_MEMORY, "no memory for lengths");
    if (total == 0)
        return TENON_OK;
    const void *stray;
    char *memory = tn_host_alloc_watched(&ctx->allocator, total, TN_CACHE_LINE, &stray);
    if (!memory)
        return tn_fail_host(&ctx->message, "lengths to be checked", total, stray, TN_CACHE_LINE);
    *fetched = (tn_fetched){memory, total};
    for (tn_roles left = wanted; left;) {
        const int role = tn_next_role(&left);
        const size_t bytes = bytes_of(at, role);
        if (bytes != 0)
            TN_TRY(read_home(at, role, memory + offset, &ctx->message));
        addresses[role] = memory + offset - at->reaches->of[role].low;
        offset += (bytes + TN_CACHE_LINE - 1) & ~(size_t)(TN_CACHE_LINE - 1);
    }
    return TENON_OK;
}

void tn_stage_forget(tenon_context *ctx, tn_fetched *fetched) {
    tn_host_free(&ctx->allocator, fetched->memory, fetched->bytes);
    *fetched = (tn_fetched){NULL, 0};
}
