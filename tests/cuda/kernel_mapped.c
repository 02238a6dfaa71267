/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_mapped.c: matrix products for gemm_wgmma.cu, on devices that have it. Each is made again
 * with A, and with B, at an address that no tensor map can begin at, and must give the same bytes
 * by gemm_mma.cu: which of both kernels is taken may not show.
 */
#include <math.h>
#include <standin.h>
#include <string.h>

#include "kernel_operand.h"
#include "number.h"

typedef struct mapped_case {
    const char *name, *kernel;
    int64_t m, n, k;
    tenon_dtype type, c; /* of A and B; of C */
    bool turn_a, turn_b, turn_c, split, repeat_b;
    int64_t heads, batch, experts; /* A and B of heads lie side by side in rows */
    tenon_gated gated;
    tenon_activation activation;
    bool bias, a_scale;
    double alpha, beta, tolerance;
} mapped_case;

#define F16S .type = TENON_F16, .c = TENON_F32, .tolerance = 1e-3
#define BF16S .type = TENON_BF16, .c = TENON_F32, .tolerance = 1e-3

static const mapped_case cases[] = {
    {"tiles, kk", "gemm_wgmma_bf16_kk", 200, 173, 325, BF16S, .turn_b = true},
    {"tiles, kn", "gemm_wgmma_f16_kn", 131, 261, 200, F16S, .bias = true, .beta = 0.5},
    {"tiles, mk", "gemm_wgmma_f16_mk", 173, 130, 77, F16S, .turn_a = true, .turn_b = true,
     .turn_c = true},
    {"tiles, mn", "gemm_wgmma_bf16_mn", 190, 200, 136, BF16S, .turn_a = true, .a_scale = true},
    {"fours of f16", "gemm_wgmma_f16_kn", 70, 137, 64, .type = TENON_F16, .c = TENON_F16,
     .tolerance = 4e-3},
    {"fours of bf16", "gemm_wgmma_bf16_kn", 140, 133, 64, .type = TENON_BF16, .c = TENON_BF16,
     .alpha = 0.5, .tolerance = 2e-2},
    {"long sums", "gemm_wgmma_bf16_kn", 129, 40, 2085, BF16S},
    {"shared out", "gemm_wgmma_f16_kk", 100, 120, 2100, F16S, .split = true, .turn_b = true},
    {"halves", "gemm_wgmma_f16_kk", 140, 75, 72, F16S, .turn_b = true, .gated = TENON_GATED_HALVES,
     .activation = TENON_ACTIVATION_SILU},
    {"halves, shared out", "gemm_wgmma_bf16_kn", 100, 60, 1100, BF16S, .split = true,
     .gated = TENON_GATED_HALVES},
    {"interleaved", "gemm_wgmma_bf16_mn", 100, 90, 64, BF16S, .turn_a = true,
     .gated = TENON_GATED_INTERLEAVED},
    {"heads", "gemm_wgmma_bf16_kk", 129, 136, 64, BF16S, .turn_b = true, .heads = 2, .batch = 2},
    {"repeated", "gemm_wgmma_f16_kn", 136, 120, 72, F16S, .heads = 2, .batch = 2, .repeat_b = true},
    {"experts", "gemm_wgmma_f16_kn", 300, 136, 80, F16S, .experts = 3},
    {"experts, mk", "gemm_wgmma_bf16_mk", 300, 136, 80, BF16S, .experts = 3, .turn_a = true,
     .turn_b = true},
};
enum { CASES = sizeof cases / sizeof *cases };

static int64_t round_up8(int64_t n) {
    return (n + 7) / 8 * 8;
}

/* rows x columns, and what is between rows (columns) of at least 8 elements NaN; of all members if
 * there are heads. */
static operand *matrix(const mapped_case *p, int64_t rows, int64_t columns, bool turned,
                       bool repeated) {
    const int64_t width = round_up8(turned ? rows : columns) + 8, heads = p->heads ? p->heads : 1;
    const int64_t pitch = heads * width, height = turned ? columns : rows;
    const int64_t shape[4] = {p->batch, heads, rows, columns};
    const int64_t stride[4] = {repeated ? 0 : height * pitch, width, turned ? 1 : pitch,
                               turned ? pitch : 1};
    return p->heads ? input(p->type, 4, shape, stride) : input(p->type, 2, shape + 2, stride + 2);
}

static operand *of_experts(const mapped_case *p, int64_t rows, int64_t columns) {
    const int64_t pitch = round_up8(p->turn_b ? rows : columns) + 8,
                  shape[3] = {p->experts, rows, columns};
    const int64_t stride[3] = {pitch * (p->turn_b ? columns : rows), p->turn_b ? 1 : pitch,
                               p->turn_b ? pitch : 1};
    return input(p->type, 3, shape, stride);
}

static operand *result(const mapped_case *p) {
    const int64_t shape[4] = {p->batch, p->heads, p->m, p->n},
                  stride[2] = {p->turn_c ? 1 : p->n + 3, p->turn_c ? p->m + 3 : 1};
    return p->heads       ? output(p->c, 4, shape, NULL)
           : p->beta != 0 ? in_out(p->c, 2, shape + 2, stride)
                          : output(p->c, 2, shape + 2, stride);
}

/* The same operand two bytes further on in memory of its own. */
typedef struct moved {
    CUdeviceptr at;
    tenon_buffer *buffer;
    tenon_tensor device;
} moved;
static moved move(const operand *o) {
    moved x = {.device = o->device};
    if (cuMemAlloc(&x.at, o->bytes + 2) != CUDA_SUCCESS ||
        cuMemcpyHtoD(x.at + 2, o->own, o->bytes) != CUDA_SUCCESS ||
        tenon_buffer_import(kernel_now.pool, TENON_NATIVE_CUDA, (void *)(uintptr_t)x.at,
                            o->bytes + 2, &x.buffer) != TENON_OK) /* NOLINT: a CUdeviceptr */
        tell("moved operand", "no memory");
    x.device.buffer = x.buffer;
    x.device.offset += 2;
    return x;
}

static double within(int64_t index, double exact, const void *tolerance) {
    (void)index;
    return *(const double *)tolerance * (1 + fabs(exact));
}

static bool choose(tenon_plan *plan, const mapped_case *p) {
    tenon_plan_info info = {0};
    (void)tenon_plan_query(plan, &info);
    for (int i = 0; i < info.choices; i++) {
        tenon_plan_choice c = {0};
        (void)tenon_plan_choice_get(plan, i, &c);
        if (strcmp(c.kernel, p->kernel) == 0 && (c.workspace > 0) == p->split)
            return tenon_plan_choose(plan, i) == TENON_OK;
    }
    tell(p->name, info.kernel);
    return false;
}

static void run(const mapped_case *p, const tenon_gemm_desc *d, bool is_mapped) {
    const uint64_t before = standin_counters_of(p->kernel).launches;
    tenon_plan *plan = NULL;
    must(p->name, "plan", kernel_now.cuda, tenon_gemm_plan(kernel_now.cuda, d, &plan));
    if (plan && choose(plan, p)) {
        must(p->name, "run", kernel_now.cuda, tenon_gemm_run(kernel_now.cuda, plan, d));
        must(p->name, "sync", kernel_now.cuda, tenon_sync(kernel_now.cuda));
    }
    tenon_plan_destroy(plan);
    if ((standin_counters_of(p->kernel).launches > before) != is_mapped)
        tell(p->name, is_mapped ? "operands were not mapped" : "one was mapped that can't be");
}

/* The product again with A (then B) where no map can be made of it; `first` is C as it was. */
static void run_moved(const mapped_case *p, tenon_gemm_desc d, const operand *moving, bool is_a,
                      const operand *first) {
    operand *c = result(p);
    moved x = move(moving);
    d.c = DEVICE(c);
    *(is_a ? &d.a : &d.b) = x.device;
    if (cuMemcpyHtoD(c->at, first->own, c->bytes) != CUDA_SUCCESS)
        tell(p->name, "C can't be written");
    run(p, &d, false);
    if (cuMemcpyDtoH(c->got, c->at, c->bytes) != CUDA_SUCCESS ||
        memcmp(c->got, first->got, c->bytes) != 0)
        tell(p->name, is_a ? "other bytes with A moved" : "other bytes with B moved");
    tenon_buffer_free(x.buffer);
    cuMemFree(x.at);
}

static void run_case(const mapped_case *p) {
    static const int32_t starts[4] = {0, 35, 35, 280};
    const int64_t width = p->n * (p->gated ? 2 : 1);
    operand *a = matrix(p, p->m, p->k, p->turn_a, false);
    operand *b =
        p->experts ? of_experts(p, p->k, width) : matrix(p, p->k, width, p->turn_b, p->repeat_b);
    operand *c = result(p);
    operand *bias = p->bias ? input(TENON_F32, 2, (const int64_t[2]){1, width}, NULL) : NULL;
    operand *scale = p->a_scale ? input(TENON_F32, 2, (const int64_t[2]){p->m, 1}, NULL) : NULL;
    operand *offsets = p->experts ? indices(TENON_S32, 1, (const int64_t[1]){4}, starts) : NULL;
    tenon_gemm_desc d = {.a = DEVICE(a),
                         .b = DEVICE(b),
                         .c = DEVICE(c),
                         .bias = DEVICE(bias),
                         .a_scale = DEVICE(scale),
                         .group_offsets = DEVICE(offsets),
                         .gated = p->gated,
                         .activation = p->activation,
                         .alpha = p->alpha != 0 ? &p->alpha : NULL,
                         .beta = p->beta};
    run(p, &d, true);
    if (!kernel_now.wrong[0] && cuMemcpyDtoH(c->got, c->at, c->bytes) != CUDA_SUCCESS)
        tell(p->name, "the result can't be read");
    for (int which = 0; which < 2 && !kernel_now.wrong[0]; which++)
        run_moved(p, d, which ? b : a, which == 0, c);
    d.a = HOST(a), d.b = HOST(b), d.c = HOST(c), d.bias = HOST(bias), d.a_scale = HOST(scale);
    d.group_offsets = HOST(offsets);
    must(p->name, "reference", kernel_now.reference, tenon_gemm(kernel_now.reference, &d));
    if (!kernel_now.wrong[0])
        compare(p->name, c, within, &p->tolerance);
}

int kernel_mapped(void) {
    return kernel_arch() == 90 ? CASES : 0;
}
const char *kernel_mapped_name(int index) {
    return cases[index].name;
}
void kernel_mapped_run(int index) {
    run_case(&cases[index]);
}
