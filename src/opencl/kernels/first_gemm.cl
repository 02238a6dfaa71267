/* SPDX-License-Identifier: Apache-2.0 */
/*
 * f32 products, one element of C for each work-item: alpha · A·B + beta · C. Sums are made in
 * blocks of KC, as everywhere in tenon.
 */
#define KC 256

__kernel void first_gemm(__global const float *a, ulong a_at, long a_row, long a_column,
                         __global const float *b, ulong b_at, long b_row, long b_column,
                         __global float *c, ulong c_at, long c_row, long c_column,
                         long k, float alpha, float beta)
{
    const long i = get_global_id(1), j = get_global_id(0);
    __global const float *x = (__global const float *)((__global const char *)a + a_at) + i * a_row;
    __global const float *y =
        (__global const float *)((__global const char *)b + b_at) + j * b_column;
    __global float *z = (__global float *)((__global char *)c + c_at) + i * c_row + j * c_column;
    float sum = 0;
    for (long start = 0; start < k; start += KC) {
        const long end = start + KC < k ? start + KC : k;
        float block = 0;
        for (long p = start; p < end; ++p)
            block = fma(x[p * a_column], y[p * b_row], block);
        sum += block;
    }
    sum *= alpha;
    *z = beta != 0 ? fma(beta, *z, sum) : sum;
}
