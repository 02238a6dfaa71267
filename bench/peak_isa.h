/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peak_isa.h: what the peak_<isa>.c files share: the unrolling of accumulator loops and their
 * tables' names.
 *
 * STEP_CHAINS independent accumulators cover latency x throughput of every instruction probed (at
 * most 6 cycles, two a cycle) and fit, with two operands, in 16 registers. The chains are C arrays.
 * What keeps them in registers, and apart, is that each loop over them is unrolled in full, that
 * HOLD makes every chain an opaque register value after each step, and that the build compiles
 * these files at -O2 whatever its own type.
 */
#ifndef BENCH_PEAK_ISA_H
#define BENCH_PEAK_ISA_H

#include "peak.h"

#define STEP_CHAINS 12

/* `constraint` is the register class of a vector: "x" (SSE, AVX), "v" (AVX-512), "w" (NEON). */
#define HOLD(constraint, c)                                                                        \
    __asm__ volatile(""                                                                            \
                     : "+" constraint((c)[0]), "+" constraint((c)[1]), "+" constraint((c)[2]),     \
                       "+" constraint((c)[3]), "+" constraint((c)[4]), "+" constraint((c)[5]),     \
                       "+" constraint((c)[6]), "+" constraint((c)[7]), "+" constraint((c)[8]),     \
                       "+" constraint((c)[9]), "+" constraint((c)[10]), "+" constraint((c)[11]))

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Tables of the files; each ends with a row whose isa is NULL. */
extern const peak_probe peak_generic_probes[];
extern const peak_probe peak_avx2_probes[];
extern const peak_probe peak_avx512_probes[];

#endif
