/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_cases.c: see kernel_cases.h. With two of the seeds a launch runs as one or two blocks,
 * which go around their loops.
 */
#include "kernel_cases.h"

#include <standin.h>
#include <stdio.h>

#include "kernel_operand.h"

const uint64_t kernel_seeds[KERNEL_SEEDS] = {1, 77, 123456789};

int kernel_cases(void) {
    return kernel_products() + kernel_rows() + kernel_blocks();
}

const char *kernel_case_name(int i) {
    const int rows = i - kernel_products(), of_blocks = rows - kernel_rows();
    return rows < 0        ? kernel_product_name(i)
           : of_blocks < 0 ? kernel_rows_name(rows)
                           : kernel_blocks_name(of_blocks);
}

bool kernel_cases_open(int turn, const kernel_patch *patch) {
    CUcontext driver;
    standin_reset();
    standin_configure(
        &(standin_device){.arch = 80, .memory = (size_t)256 << 20, .multiprocessors = 2});
    standin_seed(kernel_seeds[turn]);
    if (patch)
        standin_patch(patch->kernel, patch->line, patch->text);
    standin_options options = standin_get_options();
    options.most_blocks = kernel_seeds[turn] % 3; /* 0: as many as are asked for */
    options.max_instructions = UINT64_C(1) << 23;
    standin_set_options(&options);
    kernel_now = (kernel_world){.turn = turn};
    if (tenon_context_create(&(tenon_context_desc){.device = "cpu"}, &kernel_now.cpu) != TENON_OK)
        kernel_now.cpu = NULL;
    return cuInit(0) == CUDA_SUCCESS && cuDevicePrimaryCtxRetain(&driver, 0) == CUDA_SUCCESS &&
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
    const int rows = i - kernel_products(), of_blocks = rows - kernel_rows();
    if (rows < 0)
        kernel_product_run(i);
    else if (of_blocks < 0)
        kernel_rows_run(rows);
    else
        kernel_blocks_run(of_blocks);
    release();
    if (standin_count() > 0) { /* says more than a wrong value */
        const standin_finding *f = standin_at(0);
        snprintf(kernel_now.wrong, sizeof kernel_now.wrong, "%s: %s", standin_kind_name(f->kind),
                 f->text);
    }
    return kernel_now.wrong[0] ? kernel_now.wrong : NULL;
}
