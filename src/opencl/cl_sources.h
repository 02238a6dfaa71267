/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_sources.h: the texts of kernels/, made part of the library by embed.py.
 */
#ifndef TN_CL_SOURCES_H
#define TN_CL_SOURCES_H

typedef struct tn_cl_source {
    const char *name; /* "first_gemm.cl" */
    const char *text;
} tn_cl_source;

/* Ended by one without a name. */
extern const tn_cl_source tn_cl_sources[];

#endif
