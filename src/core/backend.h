/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the core knows of a backend: one constant table of functions, listed in
 * src/core/backends.def. The core validates and owns all memory; a backend plans (without
 * allocating: a choice carries its parameters in a small block) and runs (without allocating).
 */
#ifndef TN_BACKEND_H
#define TN_BACKEND_H

#include "core/message.h"
#include "core/places.h"
#include "core/team.h"
#include "ops/problem.h"

typedef struct tn_device tn_device; /* a backend's own state for one open device */

/* How a device is opened for a context. */
typedef struct tn_open {
    int index;      /* n of "cuda:n" */
    uint32_t flags; /* TENON_CONTEXT_* */
    tenon_allocator allocator;
    void *native_context, *native_queue;
    const char *kernel_cache_path;
} tn_open;

#define TN_MAX_CHOICES 8
#define TN_CHOICE_STATE 192

/* One algorithm that can run a problem. Strings are static or inside `state`'s lifetime (constant
 * tables). */
typedef struct tn_choice {
    const char *algorithm; /* "gemm-packed" */
    const char *kernel;    /* "gemm_f32_6x16_avx2" */
    const char *reason;    /* why it stands at this place, a sentence part: "m is at most 4" */
    size_t workspace; /* bytes, exact, for `threads` workers; the run gets a block aligned to 64 */
    double seconds;   /* predicted */
    tn_roles fills;   /* outputs of which it writes every element and reads none: copies of them
                       * need not hold what was there before */
    _Alignas(16) unsigned char state
        [TN_CHOICE_STATE]; /* the backend's parameters: kernel pointers, block sizes */
} tn_choice;

typedef struct tn_choices {
    int count;
    tn_choice choice[TN_MAX_CHOICES]; /* fastest first, smallest workspace last */
} tn_choices;

/*
 * Puts a choice into its place in the list, which starts with count = 0. Choices that need no less
 * workspace and are predicted no faster than another are dropped. Full lists keep their fastest and
 * the smallest.
 */
void tn_choices_offer(tn_choices *list, const tn_choice *choice);

typedef struct tn_run {
    tn_op op;
    const void *problem;
    const tn_choice *choice;
    void *const *addresses;  /* by role; of a device with memory of its own, not to be read */
    void *workspace;         /* choice->workspace bytes */
    tn_team *team;           /* at most the number of workers that the plan was made for */
    const tn_places *places; /* for devices with memory of their own; else NULL */
} tn_run;

typedef struct tn_backend {
    const char *name; /* the device string's part before ':' */
    int host;         /* 1: its memory is host memory; addresses are host pointers */
    int by_name;      /* 1: "auto" never means it */

    /* Number of devices; 0 if none (info(0) then gives the reason). Never touches a driver's
     * context. */
    int (*count)(void);
    /* Fills everything but struct_size for device `index`; for index 0 of a backend without
     * devices, usable = 0 and the reason. */
    void (*info)(int index, tenon_device_info *info);
    /* Opens a device; NO_DEVICE with a reason. */
    tenon_status (*open)(const tn_open *how, tn_device **out, tn_message *why);
    /* Takes NULL. */
    void (*close)(tn_device *device);
    /* Waits for queued work. */
    tenon_status (*sync)(tn_device *device, tn_message *why);
    /* Lists algorithms for a legal problem with `threads` workers, or UNSUPPORTED with a reason
     * that names the field. Does not allocate. */
    tenon_status (*plan)(tn_device *device, tn_op op, const void *problem, int threads,
                         tn_choices *out, tn_message *why);
    /*
     * Runs. On the CPU it cannot fail. Others may lose the device, or be short of something of
     * their driver's; where they answer so, no output has been touched, or (DEVICE_LOST) the
     * outputs' memory is lost too. Work may only be queued when it returns. Does not allocate from
     * pools.
     */
    tenon_status (*run)(tn_device *device, const tn_run *run, tn_message *why);
    /* Bytes of tenon_gemm_pack's output for this problem; UNSUPPORTED with a reason if it has no
     * packed form. */
    tenon_status (*pack_size)(tn_device *device, const tn_gemm_problem *problem, size_t *bytes,
                              tn_message *why);
    /* Checks a packed B's header against the problem; INVALID_ARGUMENT with a reason. */
    tenon_status (*pack_check)(tn_device *device, const tn_gemm_problem *problem,
                               const void *packed, size_t bytes, tn_message *why);

    /* ---- devices whose memory is not the host's; NULL on others ---- */

    /* The memory of an open device, which keeps it until it is closed. */
    tn_space *(*space)(tn_device *device);
    /* That of device `index` without a context, retained: what its contexts have that borrow
     * nothing. NO_DEVICE with a reason; OUT_OF_MEMORY. */
    tenon_status (*open_space)(int index, tn_space **out, tn_message *why);
    /* The driver's objects behind a device, its own or borrowed. */
    void (*native)(tn_device *device, void **context, void **queue);

    /* ---- devices that compile kernels; NULL on others ---- */

    /* Writes what has been compiled to `memory` if `capacity` bytes are enough; *bytes is what it
     * takes. NULL: only that. Waits for queued work. */
    tenon_status (*save_kernels)(tn_device *device, void *memory, size_t capacity, size_t *bytes,
                                 tn_message *why);
    /* Takes what was saved of the same device by the same driver and tenon, and is whole; ignores
     * all else. Adds the number of programs that came to *loaded. */
    tenon_status (*load_kernels)(tn_device *device, const void *memory, size_t bytes, int *loaded,
                                 tn_message *why);
} tn_backend;

#endif
