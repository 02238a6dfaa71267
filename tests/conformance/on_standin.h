/* SPDX-License-Identifier: Apache-2.0 */
/*
 * on_standin.h: the suite on CUDA devices of the stand-in driver (tests/support/cuda), which
 * TENON_CUDA_LIBRARY names: the architecture and seed that the environment asks for, before the
 * library looks for devices; and what the stand-in found wrong with the kernels, afterwards.
 */
#ifndef CONFORM_ON_STANDIN_H
#define CONFORM_ON_STANDIN_H

#include <stdbool.h>

/* Sets the device up: STANDIN_ARCH (80), STANDIN_SEED (1). False: TENON_CUDA_LIBRARY is no
 * stand-in. */
bool standin_begin(void);

/* Prints the findings and returns their number, none where there is no stand-in. */
int standin_end(void);

#endif
