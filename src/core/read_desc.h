/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that can grow: the caller's struct_size says how much of one is there.
 */
#ifndef TN_READ_DESC_H
#define TN_READ_DESC_H

#include "core/message.h"

/*
 * Copies *desc (whose first member is size_t struct_size; 0 = the first release's size) into `full` of `size` bytes, zeros behind what
 * is covered. desc == NULL gives all zeros. A larger struct from a newer header is taken if what this release does not know is zero: UNSUPPORTED otherwise.
 */
tenon_status tn_read_desc(const char *call, const void *desc, void *full, size_t size,
                          tn_message *message);

/*
 * Copies a filled struct out as far as the caller's struct_size covers it; what a newer caller has beyond it stays as it was. INVALID_ARGUMENT, with the
 * process's sentence, for a size that covers nothing.
 */
tenon_status tn_write_info(const char *call, void *to, const void *from, size_t size);

#endif
