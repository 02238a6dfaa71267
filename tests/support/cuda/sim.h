/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: the machine behind the stand-in CUDA driver, as its files see it.
 *
 * A kernel's PTX becomes an array of instructions, each a handler over the 32 lanes of a warp with
 * its operands' places worked out (ptx_*.c). Registers are structures of arrays: lane l of a 32-bit
 * register is word l of its 32, so that handlers are loops that the compiler vectorises (op_*.c).
 * run.c walks warps; shared.c watches shared memory; space.c holds device memory; drv_*.c are the
 * driver's entry points. Nothing here prints or exits.
 */
#ifndef TEST_SIM_H
#define TEST_SIM_H

#include "standin.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

enum {
    LANES = 32,
    MAX_WARPS = 32,     /* of a block: 1024 threads */
    MAX_MBARRIERS = 32, /* of a block; more are a finding */
    MAX_AGENTS = MAX_WARPS + MAX_MBARRIERS,
    MAX_BARRIERS = 16,
    CLUSTER_BARRIER = MAX_BARRIERS, /* its place in block->barrier */
};

/* Generic addresses: these windows, or device memory. Within shared memory the own block's bytes
 * are at their offset; those of rank r of the cluster, as mapa gives them, from (r + 1) << 24. */
#define WINDOW_SHARED (UINT64_C(1) << 56)
#define WINDOW_LOCAL (UINT64_C(2) << 56)
#define WINDOW_PARAM (UINT64_C(3) << 56)
#define WINDOW_MASK (UINT64_C(0xff) << 56)
#define RANK_SHIFT 24

typedef struct sim_insn sim_insn;
typedef struct sim_warp sim_warp;
typedef struct sim_block sim_block;
typedef struct sim_launch sim_launch;
typedef struct sim_kernel sim_kernel;
typedef struct sim_module sim_module;

/* What a handler tells the walk of its warp. */
typedef enum sim_step {
    STEP_NEXT,   /* go on behind it */
    STEP_JUMPED, /* the fragments were changed: look again */
    STEP_PARK,   /* needs the lanes of warp->wanted at this instruction: come back then */
    STEP_YIELD,  /* done, but let others go first (a failed wait) */
    STEP_RETRY,  /* not done: let others go first, then again */
    STEP_FAULT,  /* the launch ends with launch->fault */
} sim_step;

/* Executes one instruction for the lanes of `m`, a subset of the lanes at it. */
typedef sim_step sim_handler(sim_warp *w, const sim_insn *i, u32 m);

typedef enum sim_space {
    SPACE_GENERIC,
    SPACE_GLOBAL,
    SPACE_SHARED,
    SPACE_LOCAL,
    SPACE_CONST,
    SPACE_PARAM
} sim_space;

/* Places of operands: words from the start of the warp's registers, or with this bit of the
 * kernel's constants (each repeated for 32 lanes). Predicates have a numbering of their own. */
#define PLACE_CONSTANT UINT32_C(0x80000000)
#define PLACE_NONE UINT32_C(0x7fffffff)

struct sim_insn {
    sim_handler *run;
    u32 d, a, b, c; /* places, or numbers of predicates */
    u32 list;       /* first of further places in kernel->list */
    u16 guard;      /* predicate; 0 is always true */
    u16 second;     /* a second predicate: the other result of setp, the operand of selp */
    u8 guard_flip, width, count, space; /* width: bytes of an element; count: elements */
    u8 flags, mode, type, shape;        /* what each family makes of them */
    s64 imm;                            /* displacement of an address, number of a barrier, … */
    u32 target;                         /* of a branch */
    u32 line;                           /* of the PTX text */
};

typedef struct sim_variable {
    char *name;
    sim_space space;
    u64 address; /* offset for shared, local and parameters */
    size_t bytes, align;
    bool external; /* dynamic shared memory */
    u8 *initial;   /* NULL: zeros */
} sim_variable;

struct sim_kernel {
    char *name;
    sim_module *module;
    char *text;              /* of its module */
    const char *begin, *end; /* its PTX, decoded at first use */
    bool decoded, broken;
    sim_insn *code;
    u32 length;
    bool *reached; /* by instruction: whether a warp has come to it */
    u32 *list;     /* places of operands that don't fit in an instruction */
    u32 list_length, list_room;
    u32 *constants;
    u32 constants_words, constants_room;
    u32 register_words; /* of a warp */
    u32 predicates;
    sim_variable *parameter;
    u32 parameters;
    size_t parameter_bytes;
    sim_variable *variable; /* shared and local ones of the body */
    u32 variables;
    size_t shared_static, local_bytes;
    size_t shared_align; /* where dynamic shared memory starts */
    u32 shared_granule;  /* log2 of the smallest store to shared memory */
    u32 max_threads, required_threads;
    u32 cluster[3]; /* .reqnctapercluster, or zeros */
    bool uses_dynamic;
    u32 registers;       /* per thread, from the machine code; 0 unknown */
    size_t shared_limit; /* attribute MAX_DYNAMIC_SHARED_SIZE_BYTES */
    sim_kernel *next;
};

/* Slots of special registers, at the start of each warp's registers, 32 words each. */
typedef enum sim_special {
    SR_TID_X,
    SR_TID_Y,
    SR_TID_Z,
    SR_NTID_X,
    SR_NTID_Y,
    SR_NTID_Z,
    SR_CTAID_X,
    SR_CTAID_Y,
    SR_CTAID_Z,
    SR_NCTAID_X,
    SR_NCTAID_Y,
    SR_NCTAID_Z,
    SR_LANEID,
    SR_WARPID,
    SR_NWARPID,
    SR_SMID,
    SR_NSMID,
    SR_GRIDID,
    SR_MASK_EQ,
    SR_MASK_LT,
    SR_MASK_LE,
    SR_MASK_GT,
    SR_MASK_GE,
    SR_DYNAMIC_SMEM,
    SR_TOTAL_SMEM,
    SR_CLUSTERID_X,
    SR_CLUSTERID_Y,
    SR_CLUSTERID_Z,
    SR_NCLUSTERID_X,
    SR_NCLUSTERID_Y,
    SR_NCLUSTERID_Z,
    SR_CLUSTER_CTAID_X,
    SR_CLUSTER_CTAID_Y,
    SR_CLUSTER_CTAID_Z,
    SR_CLUSTER_NCTAID_X,
    SR_CLUSTER_NCTAID_Y,
    SR_CLUSTER_NCTAID_Z,
    SR_CLUSTER_CTARANK,
    SR_CLUSTER_NCTARANK,
    SR_EXPLICIT_CLUSTER,
    SR_COUNT
} sim_special;

/* Lanes of a warp that are at one place. */
typedef enum sim_state { FRAGMENT_READY, FRAGMENT_PARKED, FRAGMENT_WAITS } sim_state;
typedef struct sim_fragment {
    u32 pc, mask;
    u32 wanted; /* parked: lanes that must come */
    u8 state, barrier;
} sim_fragment;

/* An asynchronous copy of one instruction: per lane, until delivered. */
typedef struct sim_copy {
    u32 mask; /* lanes whose copy is pending */
    u32 line;
    u8 bytes;   /* 4, 8, 16; 0: an arrival at the mbarrier in to[] */
    bool early; /* the source was read at issue */
    u32 group[LANES];
    u32 to[LANES];
    u8 from_bytes[LANES];
    u64 from[LANES];
    u8 data[LANES][16];
} sim_copy;

typedef struct sim_wgmma sim_wgmma; /* op_wgmma.c */

struct sim_warp {
    u32 *bank[2]; /* registers, constants */
    u32 *pred;
    sim_block *block;
    sim_launch *launch;
    u32 id;   /* in its block */
    u32 live; /* lanes that have not exited */
    sim_fragment fragment[LANES];
    u32 fragments;
    u32 here; /* index of the fragment that runs */
    u32 wanted;
    bool done;
    bool blocked;       /* no fragment is ready */
    bool idle;          /* the last turn ended with a failed wait */
    u32 cluster_phase;  /* when it arrived at the cluster's barrier */
    u32 clock;          /* of its memory accesses: rises at each release */
    u32 fenced;         /* clock at the last fence.proxy.async */
    u32 vc[MAX_AGENTS]; /* clocks known to have happened before */
    u32 group[LANES];   /* cp.async groups committed */
    sim_copy *copy;
    u32 copies, copies_room;
    u32 bulk_group[LANES]; /* cp.async.bulk groups committed */
    sim_wgmma *wgmma;
    u32 wgmmas, wgmmas_room, wgmma_group;
    u8 *local;
};

typedef struct sim_barrier {
    u32 arrived, expected; /* threads; expected 0: all of the block */
    u32 votes_and, votes_or, votes_count;
    u32 vc[MAX_AGENTS];
} sim_barrier;

typedef struct sim_mbarrier {
    bool live;
    u32 offset, count, pending, phase;
    s64 tx;
    u32 vc[MAX_AGENTS];      /* of arrivals in this phase */
    u32 vc_done[MAX_AGENTS]; /* of completed phases */
} sim_mbarrier;

struct sim_block {
    sim_launch *launch;
    u32 id[3], rank;     /* place in the grid, rank in the cluster */
    sim_block **cluster; /* blocks of its cluster by rank */
    u32 cluster_size;
    u32 warps, live_warps, live_threads;
    sim_warp *warp;
    u8 *shared;
    size_t shared_bytes;
    u64 *written; /* stamp of the last write of each granule; 0: never */
    u32 *read;    /* [warp][granule]: clock of the last read */
    size_t granules;
    sim_barrier barrier[MAX_BARRIERS + 1];
    sim_mbarrier mbarrier[MAX_MBARRIERS];
    u32 mbarriers;
    struct sim_bulk *bulk; /* bulk copies not delivered yet (op_bulk.c) */
    u32 bulks, bulks_room;
    u32 cluster_arrived, cluster_phase;
};

struct sim_launch {
    sim_kernel *kernel;
    u32 grid[3], block[3], cluster[3];
    size_t dynamic;
    u8 *parameters;
    bool cooperative;
    u64 rng;
    u64 steps, ticks;
    u32 idle_turns; /* since anything moved */
    int fault;      /* CUresult */
    standin_counters counters;
};

/* Findings and switches (findings.c). */
extern standin_options sim_options;
u64 sim_random(u64 *state);
void sim_find(standin_kind kind, const sim_warp *w, const sim_insn *i, int lane, u64 address,
              const char *format, ...) __attribute__((format(printf, 6, 7)));
/* The same, and the launch ends with this CUresult. */
sim_step sim_fail(int result, standin_kind kind, const sim_warp *w, const sim_insn *i, int lane,
                  u64 address, const char *format, ...) __attribute__((format(printf, 7, 8)));
void sim_find_ptx(standin_kind kind, const char *kernel, u32 line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void sim_count_launch(const char *kernel, const standin_counters *more);
u64 sim_seed_of(u64 salt);

/* Memory for the machine itself: never fails (the process would be out of memory), zeroed. */
void *sim_alloc(size_t bytes);
void *sim_grow(void *old, u32 *room, u32 need, size_t size);

/* Device memory (space.c). */
u8 *sim_space_at(u64 address, size_t bytes); /* where these device bytes lie on the host, or NULL */
bool sim_space_was_freed(u64 address);
u64 sim_space_reserve(size_t bytes, size_t align); /* address space without memory; 0: none left */
void sim_space_release(u64 address, size_t bytes);
bool sim_space_back(u64 address, size_t bytes, int file, size_t offset); /* file -1: private */
void sim_space_unback(u64 address);
bool sim_space_find(u64 address, u64 *base, size_t *bytes);
void sim_space_reset(void);
bool sim_space_owns(u64 address);
void sim_space_fill(u64 address, size_t bytes);

/* PTX (ptx_*.c). Text is kept by the module. */
struct sim_module {
    char *text;
    u32 arch;
    sim_kernel *kernel;
    sim_variable *variable;
    u32 variables;
    u64 globals; /* device memory of its variables */
    size_t globals_bytes;
};
sim_module *sim_module_parse(const char *text, size_t length, int *result);
void sim_module_free(sim_module *m);
sim_kernel *sim_module_kernel(sim_module *m, const char *name);
/* The text with what standin_patch asked for (patch.c); takes and gives memory of the heap. */
char *sim_patched(char *text, size_t *length);
bool sim_kernel_decode(sim_kernel *k); /* false: unknown PTX, told as finding */

/* Executes a launch (run.c); returns a CUresult. */
int sim_run(sim_launch *launch);
sim_step sim_branch(sim_warp *w, u32 target, u32 m);
sim_step sim_exit_lanes(sim_warp *w, u32 m);
/* Waits at a barrier of the block with the lanes of m, having arrived. */
sim_step sim_wait_at(sim_warp *w, u32 m, u32 barrier);
/* Lets those go who wait at a barrier that is complete. */
void sim_barrier_check(sim_block *b, u32 barrier);
void sim_cluster_check(sim_block *b);
/* Lanes of `wanted` that are not in m: STEP_PARK while they can come; told where they can't. */
sim_step sim_need_lanes(sim_warp *w, const sim_insn *i, u32 m, u32 wanted);
void sim_barrier_result(sim_warp *w, const sim_insn *i, u32 m, const sim_barrier *bar);

/* Shared memory (shared.c): checks, race clocks; data are at block->shared. */
u8 *sim_shared_at(sim_warp *w, const sim_insn *i, int lane, u64 offset, size_t bytes,
                  sim_block **owner);
void sim_shared_read(sim_warp *w, const sim_insn *i, int lane, u32 offset, u32 bytes);
void sim_shared_write(sim_warp *w, const sim_insn *i, int lane, u32 offset, u32 bytes, bool atomic);
void sim_shared_claim(sim_warp *w, const sim_insn *i, int lane, u32 offset, u32 bytes);
void sim_shared_deliver(sim_block *b, u32 agent, u32 clock, int lane, u32 offset, u32 bytes,
                        bool by_async);
void sim_shared_read_async(sim_warp *w, const sim_insn *i, u32 offset, u32 bytes, bool begin);
void sim_clock_release(sim_warp *w, u32 *vc); /* vc = max(vc, what w knows); w's clock rises */
void sim_clock_acquire(sim_warp *w, const u32 *vc);
u32 sim_bank_wavefronts(const u32 *offset, u32 mask, u32 bytes);

/* cp.async (op_async.c), mbarrier (op_mbarrier.c), bulk copies (op_bulk.c), wgmma. */
void sim_async_settle(sim_warp *w, const sim_insn *i, u32 mask, const u32 *upto);
bool sim_async_background(sim_warp *w); /* delivers what nobody waits for; whether anything was */
sim_step sim_mbarrier_arrive_at(sim_warp *w, const sim_insn *i, int lane, sim_block *b, u32 offset,
                                u32 count, s64 expect, u64 *state);
/* The agent that copies completing on this mbarrier write as, and the clock of its phase. */
u32 sim_mbarrier_agent(sim_block *b, u32 offset, u32 *clock);
bool sim_mbarrier_raise(sim_warp *w, const sim_insn *i, int lane, u32 offset);
void sim_mbarrier_complete_tx(sim_block *b, u32 offset, s64 bytes);
bool sim_bulk_background(sim_block *b, bool force);
void sim_warp_drop_async(sim_warp *w);
void sim_wgmma_drop(sim_warp *w);
void sim_bulk_drop(sim_block *b);

static inline u32 *sim_words(const sim_warp *w, u32 place) {
    return w->bank[place >> 31] + (place & ~PLACE_CONSTANT);
}
static inline u64 *sim_doubles(const sim_warp *w, u32 place) {
    return (u64 *)(void *)sim_words(w, place);
}

static inline u32 sim_guard(const sim_warp *w, const sim_insn *i) {
    return w->pred[i->guard] ^ (0u - i->guard_flip);
}

/* Lane l's bit, so that `m & lane_bit[l]` vectorises. */
extern const u32 lane_bit[LANES];

#define EACH_LANE(l) for (int l = 0; l < LANES; ++l)
#define EACH_LANE_OF(l, m)                                                                         \
    for (u32 left_##l = (m), l = 0; left_##l && (l = (u32)__builtin_ctz(left_##l), true);          \
         left_##l &= left_##l - 1)

static inline const u32 *sim_list(const sim_warp *w, const sim_insn *i) {
    return w->launch->kernel->list + i->list;
}

#endif
