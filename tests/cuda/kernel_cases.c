/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_cases.c: see kernel_cases.h. With two of the seeds a launch runs as one or two blocks,
 * which go around their loops.
 */
#include "kernel_cases.h"

#include <standin.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel_operand.h"

const uint64_t kernel_seeds[KERNEL_SEEDS] = {1, 77, 123456789};

static const struct {
    int (*count)(void);
    const char *(*name)(int);
    void (*run)(int);
} files[] = {{kernel_products, kernel_product_name, kernel_product_run},
             {kernel_rows, kernel_rows_name, kernel_rows_run},
             {kernel_blocks, kernel_blocks_name, kernel_blocks_run},
             {kernel_mapped, kernel_mapped_name, kernel_mapped_run}};

/* Which of `files` has case *i, which becomes the number there. */
static int file_of(int *i) {
    int f = 0;
    for (; *i >= files[f].count(); f++)
        *i -= files[f].count();
    return f;
}

int kernel_cases(void) {
    return kernel_products() + kernel_rows() + kernel_blocks() + kernel_mapped();
}

const char *kernel_case_name(int i) {
    const int file = file_of(&i);
    return files[file].name(i);
}

int kernel_arch(void) {
    const char *text = getenv("STANDIN_ARCH");
    return text ? atoi(text) : 80;
}

bool kernel_cases_open(int turn, const kernel_patch *patch) {
    CUcontext driver;
    standin_reset();
    standin_configure(&(standin_device){
        .arch = kernel_arch(), .memory = (size_t)256 << 20, .multiprocessors = 2});
    standin_seed(kernel_seeds[turn]);
    if (patch)
        standin_patch(patch->kernel, patch->line, patch->text);
    standin_options options = standin_get_options();
    options.most_blocks = kernel_seeds[turn] % 3; /* 0: as many as are asked for */
    options.max_instructions = UINT64_C(1) << 23;
    standin_set_options(&options);
    kernel_now = (kernel_world){.turn = turn};
    return tenon_context_create(&(tenon_context_desc){.device = "cpu"}, &kernel_now.cpu) ==
               TENON_OK &&
           cuInit(0) == CUDA_SUCCESS && cuDevicePrimaryCtxRetain(&driver, 0) == CUDA_SUCCESS &&
           cuCtxPushCurrent(driver) == CUDA_SUCCESS &&
           tenon_context_create(&(tenon_context_desc){.device = "cuda"}, &kernel_now.cuda) ==
               TENON_OK &&
           tenon_context_create(&(tenon_context_desc){.device = "reference"},
                                &kernel_now.reference) == TENON_OK &&
           (kernel_now.pool = tenon_context_pool(kernel_now.cuda, 0)) != NULL;
}

void kernel_cases_close(void) {
    tenon_context_destroy(kernel_now.cuda);
    tenon_context_destroy(kernel_now.reference);
    tenon_context_destroy(kernel_now.cpu);
    cuDevicePrimaryCtxRelease(0);
}

const char *kernel_case_run(int i) {
    kernel_now.wrong[0] = 0;
    kernel_now.random = (rng){(uint64_t)i + 1};
    const int file = file_of(&i);
    files[file].run(i);
    release();
    if (standin_count() > 0) { /* says more than a wrong value */
        const standin_finding *f = standin_at(0);
        snprintf(kernel_now.wrong, sizeof kernel_now.wrong, "%s: %s", standin_kind_name(f->kind),
                 f->text);
    }
    return kernel_now.wrong[0] ? kernel_now.wrong : NULL;
}
