/* SPDX-License-Identifier: Apache-2.0 */
/* A C program outside the source tree, built against an installed tenon by check_consumers.py. */
#include <tenon/tenon.h>

#include <stdio.h>

int main(void) {
    float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 0, 0, 1, 1, 1}, c[4] = {0, 0, 0, 0};
    tenon_gemm_desc g = {0};
    tenon_context *ctx;

    if (tenon_version() / 100 != TENON_VERSION_MAJOR * 100 + TENON_VERSION_MINOR)
        return 2;
    if (tenon_context_create(NULL, &ctx) != TENON_OK)
        return puts(tenon_error_message(NULL)), 3;
    g.a = tenon_matrix(a, TENON_F32, 2, 3);
    g.b = tenon_matrix(b, TENON_F32, 3, 2);
    g.c = tenon_matrix(c, TENON_F32, 2, 2);
    if (tenon_gemm(ctx, &g) != TENON_OK)
        return puts(tenon_error_message(ctx)), 4;
    tenon_context_destroy(ctx);
    printf("%g %g %g %g\n", c[0], c[1], c[2], c[3]);
    return c[0] == 4 && c[1] == 5 && c[2] == 10 && c[3] == 11 ? 0 : 5;
}
