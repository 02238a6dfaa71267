/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_memory.h: addresses of lanes and their checks, shared by loads, atomics, matrices and copies.
 */
#ifndef TEST_OP_MEMORY_H
#define TEST_OP_MEMORY_H

#include "op_lanes.h"
#include "ptx.h"

enum { ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_ATOMIC = 4 };
enum { ADDRESS_WIDE = 0x80 };          /* insn.flags: the base is 64 bits wide (ptx_bind_address) */
enum { LOAD_SIGNED = 1 };              /* insn.mode */
enum { LOAD_WIDE = 1, LOAD_HALF = 2 }; /* insn.shape: registers of 64 and of 16 bits */

/* The address that lane l names with insn.a and insn.imm. */
bool sim_address(const sim_warp *w, const sim_insn *i, u32 l, u64 *address);
/* Its bytes on the host, in the space insn.space; checked for bounds, alignment and, in shared
 * memory, for what the access is. NULL: told, and the launch ends. */
u8 *sim_lane_bytes(sim_warp *w, const sim_insn *i, u32 l, u64 address, u32 bytes, u32 access);
sim_step sim_bad_address(sim_warp *w, const sim_insn *i, int lane, u64 address, size_t bytes,
                         const char *what);
void sim_count_global(sim_warp *w, const u64 *address, u32 m, u32 bytes);
void sim_count_shared(sim_warp *w, const u32 *offset, u32 m, u32 bytes);
/* insn.space from the opcode's words. */
bool sim_decode_space(ptx_decoder *d);
void sim_note_store(ptx_decoder *d, u32 bytes);

#endif
