/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm.h: what the files of the CPU's matrix product share: the plan's parameters, one member
 * of a batch, and the steps.
 *
 * cpu_gemm_family.c chooses the kernels and cpu_gemm_plan.c the loops; cpu_gemm.c runs one of the
 * arrangements, a file each, that share cpu_gemm_piece.c; cpu_gemm_pack.c packs panels (and whole
 * operands for the caller), cpu_gemm_epilogue.c finishes rows. Everything works on the canonical
 * problem, transposed first where that suits the kernels better: C^T = B^T A^T, with the same bits,
 * since each element is the same chain of products.
 *
 * Types and the layout of panels are the tile family's (gemm_tiles.def): what a panel takes is
 * asked of tn_gemm_a_bytes and tn_gemm_b_bytes; `element` is only ever that of a sum.
 */
#ifndef TN_CPU_GEMM_H
#define TN_CPU_GEMM_H

#include "core/backend.h"
#include "core/team.h"
#include "cpu/cpu_features.h"
#include "cpu/cpu_numbers.h"
#include "cpu/kernels/gemm_kernels.h"
#include "ops/blocks.h"

/*
 * Length of the blocks that k is cut into, whatever the machine or the shape: the result depends on
 * it (docs/NUMERICS.md). A panel of B for the widest tile, 256 x 32 f32, fills 32 KiB; for AVX2's
 * 256 x 16 it is half of a 32 KiB L1. Zen 3 at 2.4 GHz, 2026-11: 128, 256 and 512 steps run the f32
 * tile at 97, 100 and 93 GFLOP/s.
 */
#define TN_GEMM_KC INT64_C(256)

/* Steps of p that are packed at a time where panels are on the stack, if no more have to lie side
 * by side (tn_gemm_small_step); divides TN_GEMM_KC. */
#define TN_GEMM_SMALL_STEP INT64_C(32)

typedef enum tn_gemm_kind {
    TN_GEMM_VECTOR,  /* a few rows: B is read in place */
    TN_GEMM_PRIVATE, /* each worker packs the panels that it uses; one piece of C from beginning to
                        end is one task */
    TN_GEMM_STREAM,  /* a few rows more: workers copy panels of B while they multiply the ones
                        before */
    TN_GEMM_SHARED,  /* workers pack A and B together, as many blocks of k as the cache takes */
    TN_GEMM_SPLIT,   /* long sums of few elements: workers share the blocks of k */
    TN_GEMM_DIRECT,  /* small: all operands are read in place, C is written at once */
    TN_GEMM_SMALL    /* as PRIVATE, with pieces so small, packed so few steps at a time, that they
                        stay on the stack */
} tn_gemm_kind;

/* What the tiles of the private arrangement fetch meanwhile, of the next panel of B. */
typedef enum tn_gemm_fetch {
    TN_GEMM_FETCH_NOTHING,
    TN_GEMM_FETCH_COLUMNS, /* the columns that it is packed from */
    TN_GEMM_FETCH_PACKED   /* the caller's packed one */
} tn_gemm_fetch;

/* What a choice keeps (tn_choice.state). Sizes in bytes are multiples of 64. */
typedef struct tn_gemm_plan {
    const tn_gemm_tile *tile;
    const tn_gemm_tile *finish; /* whose numbers the epilogue works in */
    tn_gemm_kind kind;
    bool transposed; /* the problem is run as C^T = B^T A^T */
    bool in_place;   /* sums are kept in C itself */
    bool shared_a;   /* PRIVATE: A is packed once for all, in a phase of its own */
    bool direct_b;   /* B's rows are read in place where they are whole tiles */
    bool even_tiles; /* PRIVATE, STREAM: the tiles of a piece share its rows as evenly as can be */
    tn_gemm_fetch fetch; /* PRIVATE: what the tiles fetch for those that follow */
    bool on_stack;       /* the buffers of a worker are on its stack */
    bool at_once;        /* DIRECT: one call of the kernel is all */
    bool own_sums;       /* SHARED: each worker keeps its piece's sums, since no pass follows */
    int64_t mc, nc;  /* piece of C: rows and columns of a task (all but SHARED), or of a pass over k
                        (SHARED) */
    int64_t group;   /* PRIVATE, STREAM: columns that go through all of k before the next */
    int64_t depth;   /* SHARED, SPLIT: steps of k of a pass, in whole blocks */
    int64_t waiting; /* SPLIT: blocks of a pass whose sums wait to be added */
    int64_t item_m, item_n; /* SHARED: piece of a pass that is one task; SMALL: columns of a task's
                               block in item_n; SPLIT: rows that a task adds in item_m */
    int64_t last_n;         /* SHARED: columns of the pieces that are handed out last */
    int64_t chunk;          /* VECTOR: steps of A that are converted at a time; 0: A is read in
                               place. DIRECT: members of a task; SPLIT: blocks */
    /* Buffers of one worker (SHARED: of all, but own sums; SPLIT: sums are those of one block). */
    size_t a_bytes, b_bytes, sum_bytes;
    size_t shared_bytes; /* of all workers together */
} tn_gemm_plan;
_Static_assert(sizeof(tn_gemm_plan) <= TN_CHOICE_STATE, "a plan must fit into a choice");

/* One product: a member of the batch, or the rows of one expert. */
typedef struct tn_gemm_member {
    char *at[TN_GEMM_ROLES]; /* its first element; NULL: absent */
    int64_t m;
    int64_t packed; /* which of B's packed members */
} tn_gemm_member;

/* A run: the problem as it is computed, and everything that tasks need. */
typedef struct tn_gemm_job {
    tn_gemm_problem p; /* the first member */
    void *address[TN_GEMM_ROLES];
    const tn_gemm_plan *plan;
    const tn_gemm_tile *tile, *finish;
    char *workspace;
    size_t element;              /* bytes of a sum */
    int halves;                  /* 2 when gated */
    const tn_block_type *blocks; /* B's type, if it is one of blocks */
    bool packed_blocks;    /* B's blocks are the caller's packed ones; p has no B_PACKED then */
    tn_gemm_member member; /* SHARED, and the others where there is only one */
    /* SHARED: the pass being worked on; p0: its first step of k. */
    int64_t i0, j0, rows, cols, p0;
} tn_gemm_job;

/* Bytes of one element of a plain type. */
static inline size_t tn_gemm_element(tenon_dtype dtype) {
    return (size_t)tn_element_size(dtype);
}

/* Bytes from the first to element `elements` of an operand that may be of blocks, of which that is
 * a multiple then. */
static inline int64_t tn_gemm_offset(tenon_dtype dtype, int64_t elements) {
    const tn_block_type *blocks = tn_block_find(dtype);
    return blocks ? elements / blocks->elements * blocks->bytes : elements * tn_element_size(dtype);
}

static inline int64_t tn_gemm_panel_element(tenon_dtype dtype) {
    return dtype == TN_S16 ? 2 : tn_element_size(dtype);
}

/* Element `index` of bytes. */
static inline int32_t tn_gemm_byte_at(tenon_dtype dtype, const void *base, int64_t index) {
    return dtype == TENON_S8 ? ((const int8_t *)base)[index] : ((const uint8_t *)base)[index];
}

/* Steps of p that are packed at a time where panels are on the stack. */
static inline int64_t tn_gemm_small_step(const tn_gemm_tile *tile) {
    return tile->a_group > TN_GEMM_SMALL_STEP ? tile->a_group : TN_GEMM_SMALL_STEP;
}

/* Around the calls of a family's microkernel by one task. */
static inline void tn_gemm_begin(const tn_gemm_tile *tile) {
    if (tile->begin)
        tile->begin();
}
static inline void tn_gemm_end(const tn_gemm_tile *tile) {
    if (tile->end)
        tile->end();
}

/* Bytes from one packed panel of A to the next, a multiple of 64. Its slack may be written over
 * while the next panel is packed by someone else. */
static inline int64_t tn_gemm_a_bytes(const tn_gemm_tile *tile, int64_t kc) {
    const int64_t unit =
        tile->a_unit ? tile->a_unit : tile->a_group * tn_gemm_panel_element(tile->a_panel);
    return (int64_t)tn_round64(
        (size_t)(tn_ceil_div(kc, tile->a_group) * unit * tile->mr +
                 (tile->tail * tile->mr + TN_GEMM_SLACK) * tn_element_size(tile->type)));
}

/* Bytes from the beginning of a packed panel of B to step kc, a multiple of the family's a_group,
 * or to the end of its kc steps. */
static inline int64_t tn_gemm_b_steps(const tn_gemm_tile *tile, int64_t kc) {
    const int64_t unit =
        tile->b_unit ? tile->b_unit : tile->a_group * tn_gemm_panel_element(tile->b_panel);
    return tn_ceil_div(kc, tile->a_group) * unit * tile->nr;
}

/* Bytes from one packed panel of B, of kc steps, to the next. */
static inline int64_t tn_gemm_b_bytes(const tn_gemm_tile *tile, int64_t kc) {
    return tn_gemm_b_steps(tile, kc) + tile->tail * tile->nr * tn_element_size(tile->type);
}

/* Bytes of k steps' panels of B, one for each block of k. */
static inline int64_t tn_gemm_b_blocks(const tn_gemm_tile *tile, int64_t k) {
    return k / TN_GEMM_KC * tn_gemm_b_bytes(tile, TN_GEMM_KC) +
           (k % TN_GEMM_KC ? tn_gemm_b_bytes(tile, k % TN_GEMM_KC) : 0);
}

static inline bool tn_gemm_present(const tn_gemm_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

/* B of blocks, packed or not, is decoded by whoever packs panels. */
static inline bool tn_gemm_of_blocks(const tn_gemm_problem *p) {
    return p->operand[TN_GEMM_B].dtype >= TENON_Q8_0;
}

/* A scale or zero that is the same for the whole of k, or none. */
static inline bool tn_gemm_ungrouped(const tn_gemm_problem *p, int role) {
    return !tn_gemm_present(p, role) || p->group[role] >= p->k;
}

/* One past the last of `rows` rows that tile `index` of a piece has. Two rows take a tile as long
 * as four, whose sums' chains fill the multipliers: even shares where there are few rows. */
static inline int64_t tn_gemm_tile_end(const tn_gemm_plan *plan, const tn_gemm_tile *tile,
                                       int64_t rows, int64_t index) {
    return plan->even_tiles ? rows * (index + 1) / tn_ceil_div(rows, tile->mr)
                            : tn_min64(rows, (index + 1) * tile->mr);
}

/* STREAM: bytes from one copied panel of B to the next; a line more than it has, or the same step
 * of all of them would meet in one set of L1. */
static inline int64_t tn_gemm_copied_panel(const tn_gemm_tile *tile) {
    return tn_gemm_b_steps(tile, TN_GEMM_KC) + 64;
}

/* ---- cpu_gemm_plan.c */

tenon_status tn_cpu_gemm_plan(tn_cpu_isa isa, const tn_gemm_problem *p, int threads,
                              tn_choices *out, tn_message *why);

/* The problem with A and B, rows and columns exchanged. */
void tn_gemm_transpose(const tn_gemm_problem *p, tn_gemm_problem *out);

/* ---- cpu_gemm_family.c */

/* The tile family that serves a problem. */
const tn_gemm_tile *tn_cpu_gemm_tile(tn_cpu_isa isa, const tn_gemm_problem *p);

/* ---- cpu_gemm.c, and the arrangements that it runs */

void tn_cpu_gemm_run(const tn_run *run);

void tn_gemm_run_vector(tn_gemm_job *job, tn_team *team);
void tn_gemm_run_private(tn_gemm_job *job, tn_team *team);
void tn_gemm_run_stream(tn_gemm_job *job, tn_team *team); /* pre: k > 0 */
void tn_gemm_run_shared(tn_gemm_job *job, tn_team *team); /* pre: k > 0 */
void tn_gemm_run_split(tn_gemm_job *job, tn_team *team);  /* pre: k > 0 */
void tn_gemm_run_small(tn_gemm_job *job, tn_team *team);

/* ---- cpu_gemm_direct.c */

/* Whether the arrangement can have a problem, as it is computed; and whether B may then stay where
 * it lies, for which nothing is faster. */
bool tn_gemm_direct_takes(const tn_gemm_problem *p, const tn_gemm_tile *tile);
bool tn_gemm_direct_in_place(const tn_gemm_problem *p, const tn_gemm_tile *tile, size_t l1);
void tn_gemm_run_direct(const tn_run *run);

/* ---- cpu_gemm_piece.c */

/* Member `index` of the batch. */
void tn_gemm_batch_member(const tn_gemm_job *job, int64_t index, tn_gemm_member *x);

/* The piece of C, at most mc x nc, that is task `index`; and how many there are, in all members,
 * from top to bottom. */
typedef struct tn_gemm_place {
    tn_gemm_member x;
    int64_t i0, rows, j0, cols;
} tn_gemm_place;
void tn_gemm_find_place(const tn_gemm_job *job, int64_t index, tn_gemm_place *at);
int64_t tn_gemm_pieces_down(const tn_gemm_job *job);

/* Where the only member's A is packed once for all, and its packed panels of block p0 of k, of
 * which there are rows in all, from row i0 on. */
void tn_gemm_pack_shared_a(tn_gemm_job *job, tn_team *team);
char *tn_gemm_shared_a(const tn_gemm_job *job, int64_t rows, int64_t i0, int64_t p0);

/* Where sums are kept: C itself, or a buffer of their own. */
typedef struct tn_gemm_sums {
    char *at;
    int64_t ld, half; /* elements between rows, and from one half to the other */
} tn_gemm_sums;
tn_gemm_sums tn_gemm_sums_in_c(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i0,
                               int64_t j0);
tn_gemm_sums tn_gemm_sums_in_buffer(const tn_gemm_job *job, char *at, int64_t columns);
void tn_gemm_zero_sums(const tn_gemm_job *job, const tn_gemm_sums *s, int64_t rows, int64_t cols);

static inline char *tn_gemm_sum_at(const tn_gemm_job *job, const tn_gemm_sums *s, int half,
                                   int64_t i, int64_t j) {
    return s->at + (i * s->ld + half * s->half + j) * (int64_t)job->element;
}

/* All row tiles of one panel of B, which take the next `pieces` of what lies ahead. */
void tn_gemm_panel_product(const tn_gemm_job *job, const char *a, int64_t rows, const char *b,
                           int64_t ldb, int64_t kc, char *c, int64_t ldc, int64_t cols, bool first,
                           tn_gemm_ahead *ahead, int64_t pieces);

/* The epilogue, for all rows of a piece; nothing where the sums are already what C holds. */
void tn_gemm_finish_rows(const tn_gemm_job *job, const tn_gemm_member *x, const tn_gemm_sums *s,
                         int64_t i0, int64_t rows, int64_t j0, int64_t cols);

/* A worker's own part of the workspace. */
char *tn_gemm_worker_buffer(const tn_gemm_job *job, int worker);

/* ---- cpu_gemm_pack.c */

/* Packs rows i0 ... i0 + rows of A', steps p0 ... p0 + kc, into panels of mr rows, tn_gemm_a_stride
 * apart. */
void tn_gemm_pack_a(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i0, int64_t rows,
                    int64_t p0, int64_t kc, char *to);

/* Packs one panel of nr columns of B': columns j0 ... j0 + cols of half `half`. */
void tn_gemm_pack_b(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j0,
                    int64_t cols, int64_t p0, int64_t kc, char *to);

/* Bytes before the panels of a caller's packed B. */
#define TN_GEMM_PACK_HEADER 64

/* Which packed member batch member `index` uses. */
int64_t tn_gemm_packed_member(const tn_gemm_problem *p, int64_t index);

/* Where a caller's packed B has a panel. */
const char *tn_gemm_packed_panel(const tn_gemm_job *job, const tn_gemm_member *x, int half,
                                 int64_t j0, int64_t p0, int64_t kc);

tenon_status tn_cpu_gemm_pack_size(tn_cpu_isa isa, const tn_gemm_problem *p, size_t *bytes,
                                   tn_message *why);
tenon_status tn_cpu_gemm_pack_check(tn_cpu_isa isa, const tn_gemm_problem *p, const void *packed,
                                    size_t bytes, tn_message *why);
/* Packing is not planned: run->choice and run->workspace are not looked at. */
void tn_cpu_gemm_pack_run(tn_cpu_isa isa, const tn_run *run);

/* ---- cpu_gemm_blocks.c */

/* The fields of a block, as they are interleaved. */
tn_block_format tn_gemm_block_format(tenon_dtype dtype);

/* Bytes of a caller's packed B of blocks: `lanes` columns of k steps, and a member. */
int64_t tn_gemm_block_group_bytes(const tn_block_type *blocks, int32_t lanes, int64_t k);
int64_t tn_gemm_block_member_bytes(const tn_block_type *blocks, int32_t lanes, int64_t halves,
                                   int64_t n, int64_t k);

/* As tn_gemm_pack_b, of blocks and without scale and zero. */
void tn_gemm_pack_blocks(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j0,
                         int64_t cols, int64_t p0, int64_t kc, char *to);

/* Bytes of a worker's buffer for blocks that few rows meet. */
size_t tn_gemm_few_bytes(const tn_gemm_tile *tile, tenon_dtype dtype);

/* PRIVATE with A packed for all: columns j0 ... j0 + cols of a place, all of k, if its rows are no
 * more than a tile's; `buffer` is that of B. */
bool tn_gemm_block_columns(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s,
                           int64_t j0, int64_t cols, char *buffer);

/* The same for block p0 of k alone, whose A, packed anyhow, is `a`: false if the rows are too many
 * or B has factors. */
bool tn_gemm_few_block(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s,
                       int half, int64_t j0, int64_t cols, int64_t p0, const char *a, char *buffer);

/* Packs, for the caller, group `group` of a member's columns; those of its halves follow each
 * other. */
void tn_gemm_pack_block_group(const tn_gemm_job *job, const tn_gemm_member *x, int64_t group);

/* ---- cpu_gemm_epilogue.c */

/* Whether the sums, of C's type, are not yet what C holds. */
bool tn_gemm_has_epilogue(const tn_gemm_job *job);

/*
 * Turns the sums z (and z2 when gated) of columns j0 ... j0 + n of row i into elements of C. z and
 * z2 may be overwritten; z may be C's own row.
 */
void tn_gemm_finish_row(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i, int64_t j0,
                        int64_t n, char *z, char *z2);

#endif
