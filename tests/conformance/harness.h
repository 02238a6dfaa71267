/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harness.h: operands between guard pages, their exact copies for the reference device, and the comparison.
 *
 * Every conformance test is a loop over the devices found here. A device gets an operand as a caller would lay it out: any
 * strides, any type, unaligned, a forbidden page behind it. The reference device gets the same values as dense f64, so that a
 * mistake in strides or conversions can't hide in code that both share. Outputs start as a pattern; whatever is not an element
 * of the output must still hold it afterwards.
 */
#ifndef CONFORM_HARNESS_H
#define CONFORM_HARNESS_H

#include <tenon/tenon.h>

#include <check.h>
#include <stdbool.h>

#include "bounds.h"
#include "rng.h"

/* ---- devices ---- */

enum { MAX_DEVICES = 8 };

/* Usable devices in the order of the library's list, or the one that TENON_TEST_DEVICE names. */
extern int device_total;
extern char device_id[MAX_DEVICES][32];

/*
 * Runs each test once per device, with the device's index as _i; afterwards lists what devices answered UNSUPPORTED to. Returns main's
 * status: 77, which means skipped, if TENON_CPU asks for a level that this machine has not got.
 */
int conform_main(const char *suite_name, const TTest *const *tests, int count);

/* ---- one test's state ---- */

typedef struct world {
    rng random;
    const char *device;
    tenon_context *ctx, *reference;
    char what[256];       /* the case at hand, for messages */
    struct block *blocks; /* everything a case allocated */
    bool counting; /* negative controls: count what is out of bounds instead of ending the test */
    int64_t failures;
    int64_t offered; /* cases small enough to be in a sample */
} world;

world world_start(const char *name, const char *device);
/* Names the next case and frees what the one before allocated (checking its guards). */
void world_case(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_end(world *w);
/*
 * True if a case that takes about `work` steps is to be left out. TENON_TEST_SAMPLE=N,MOST in the environment, for slow devices, keeps
 * every N-th case of at most MOST steps; without it none is left out.
 */
bool world_leaves_out(world *w, double work);
/* Plain zeroed memory that lives as long as the case. */
void *world_alloc(world *w, size_t bytes);
/* Memory between guard pages, mostly with the forbidden one right behind it. */
void *world_guarded(world *w, size_t bytes, size_t alignment);

/*
 * Judges the answer of the device under test. False if it is UNSUPPORTED and the device's name is in `unsupported`
 * (NULL: nowhere), which is recorded; anything else but TENON_OK fails the test, and so does success where `unsupported` says otherwise.
 */
bool world_answered(world *w, tenon_status status, const char *unsupported);
/* Ends the test if a call on the reference device failed. */
void world_reference(world *w, tenon_status status);

/* ---- operands ---- */

typedef enum layout {
    DENSE,      /* row-major, nothing between */
    TRANSPOSED, /* the last two dimensions change places in memory */
    PADDED,     /* rows three elements apart */
    STEPPED,    /* every second element of padded rows */
    BACKWARD,   /* strides of all dimensions negative (inputs only) */
    REVERSED,   /* dimensions in opposite order: column-major */
    LAYOUTS
} layout;

/* Values drawn: uniform, integers where the type is one; booleans are true with probability `high`. */
typedef struct range {
    double low, high;
} range;

typedef struct operand {
    tenon_tensor t;     /* what the device under test gets */
    tenon_tensor exact; /* dense f64 copy (boolean and index types: of the same type) */
    tenon_tensor
        size; /* block types: dense f64, |product| + |minimum| of each element; else rank 0 */
    unsigned char *memory, *before;
    size_t bytes;
    double largest; /* largest finite magnitude */
} operand;

/* An input. Bit d of `repeat`: dimension d has stride 0. */
operand input(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape, layout in_memory,
              unsigned repeat, range values);
/* An output, filled with a pattern. */
operand output(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape, layout in_memory);
/* An output that is read as well. */
operand in_out(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape, layout in_memory,
               range values);
/* A dense f64 tensor of zeros: an output of the reference. */
tenon_tensor exact_zeros(world *w, int32_t rank, const int64_t *shape);

/* A part of another operand: the same memory, `offset` elements on. Checks and frees belong to the whole. */
operand view_of(world *w, const operand *whole, int64_t offset, int32_t rank, const int64_t *shape,
                const int64_t *stride);

int64_t count_of(const tenon_tensor *t);
/* Element number `index` in row-major order of the logical shape. */
double get(const tenon_tensor *t, int64_t index);
/* Sets one element of an input in both copies; the value must be exact in the type. `largest` stays. */
void set(operand *o, int64_t index, double value);

/* Ends the test if anything but the elements of an output has changed; `written` (NULL: all) says which of them may. */
void expect_untouched(world *w, const operand *o, const bool *written);

/* One call of an operation; the others are NULL. */
typedef struct call {
    tenon_gemm_desc *gemm;
    tenon_softmax_desc *softmax;
    tenon_attention_desc *attention;
} call;

/*
 * Runs what has just run once more for every choice of its plan, each in exactly its workspace with a forbidden page behind it, and ends the
 * test if a byte of an output differs. Also that choices are in order: less workspace each time, and predicted no faster; on the CPU
 * the last takes none.
 */
void expect_every_choice(world *w, const call *c, const operand *const *outputs, int count);

/* Compares element `index` with what the reference says; ends the test with a message if it is out of bounds. */
void expect(world *w, const operand *o, int64_t index, double expected, double error);

#endif
