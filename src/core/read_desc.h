/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structs that can grow: the caller's struct_size, their first member, says how much of one is
 * there; 0 stands for the first release's size.
 */
#ifndef TN_READ_DESC_H
#define TN_READ_DESC_H

#include "core/message.h"

/*
 * Copies *desc into `full` of `size` bytes, zeros behind what is covered. desc == NULL gives all
 * zeros. A larger struct from a newer header is taken if what this release does not know is zero:
 * UNSUPPORTED otherwise. INVALID_ARGUMENT for an unaligned address or an absurd size.
 */
tenon_status tn_read_desc(const void *desc, void *full, size_t size, tn_message *message);

/*
 * Copies a filled struct out as far as the caller's struct_size covers it, which stays as it was,
 * and so does what a newer caller has beyond. INVALID_ARGUMENT, with the process's sentence, for a
 * size that covers nothing.
 */
tenon_status tn_write_info(const char *call, void *to, const void *from, size_t size);

#endif
