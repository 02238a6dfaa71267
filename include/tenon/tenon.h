/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/tenon.h: matrix multiplication, softmax and attention behind one C API.
 *
 *     #include <tenon/tenon.h>
 *
 *     tenon_context *ctx;
 *     if (tenon_context_create(NULL, &ctx) != TENON_OK) return puts(tenon_error_message(NULL));
 *
 *     tenon_gemm_desc g = {
 *         .a = tenon_matrix(a, TENON_F32, m, k),
 *         .b = tenon_transposed(tenon_matrix(b, TENON_F32, n, k)),
 *         .c = tenon_matrix(c, TENON_F32, m, n),
 *     };
 *     if (tenon_gemm(ctx, &g) != TENON_OK) puts(tenon_error_message(ctx));
 *     tenon_context_destroy(ctx);
 *
 * Conventions of the whole API
 * - Descriptors are zero-initialised structs; a field left zero is the default. `struct_size` is 0 or sizeof the struct: fields
 *   that a smaller size does not cover count as zero, so that old binaries go on working.
 * - Scalars are double, exact for every type; where 0 is legal but not the default they are `const double *` with NULL = default.
 * - Every fallible call returns a tenon_status; tenon_error_message says what was wrong and what was expected. After an error
 *   outputs are untouched and everything is still usable.
 * - `create(…, T **out)` sets *out to NULL first; `destroy` takes NULL.
 */
#ifndef TENON_TENON_H
#define TENON_TENON_H

#include <tenon/status.h>
#include <tenon/host.h>
#include <tenon/memory.h>
#include <tenon/context.h>
#include <tenon/tensor.h>
#include <tenon/plan.h>
#include <tenon/schedule.h>
#include <tenon/gemm.h>
#include <tenon/softmax.h>
#include <tenon/attention.h>
#include <tenon/quantize.h>

#endif
