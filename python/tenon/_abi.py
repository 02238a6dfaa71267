# SPDX-License-Identifier: Apache-2.0
"""The C API as ctypes sees it: every struct, enumeration value and prototype, in the order of the headers.

Nothing here decides anything. tests/python/test_abi.py compares sizes, offsets and values with what a C compiler
makes of include/tenon/*.h, and fails when a header changed and this file did not.
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t
from ctypes import c_uint32, c_uint64, c_void_p

VERSION = (0, 1)  # major, minor of the headers that are mirrored here
MAX_RANK = 8

# --- status.h, host.h, tensor.h, softmax.h, gemm.h, plan.h, context.h: values -------------------------------------
CONSTANTS: dict[str, int] = {
    "TENON_OK": 0,
    "TENON_ERROR_INVALID_ARGUMENT": -1,
    "TENON_ERROR_UNSUPPORTED": -2,
    "TENON_ERROR_OUT_OF_MEMORY": -3,
    "TENON_ERROR_OVER_BUDGET": -4,
    "TENON_ERROR_NO_DEVICE": -5,
    "TENON_ERROR_DEVICE_LOST": -6,
    "TENON_ERROR_BUSY": -7,
    "TENON_ERROR_IO": -8,
    "TENON_ERROR_INTERNAL": -9,
    "TENON_LOG_NONE": 0,
    "TENON_LOG_WARNING": 1,
    "TENON_LOG_INFO": 2,
    "TENON_LOG_DISPATCH": 3,
    "TENON_LOG_DEBUG": 4,
    "TENON_MAX_RANK": MAX_RANK,
    "TENON_VERSION_MAJOR": VERSION[0],
    "TENON_VERSION_MINOR": VERSION[1],
    "TENON_F64": 1,
    "TENON_F32": 2,
    "TENON_F16": 3,
    "TENON_BF16": 4,
    "TENON_F8_E4M3": 5,
    "TENON_F8_E5M2": 6,
    "TENON_S8": 7,
    "TENON_U8": 8,
    "TENON_S32": 9,
    "TENON_S64": 10,
    "TENON_BOOL": 11,
    "TENON_Q8_0": 64,
    "TENON_Q4_0": 65,
    "TENON_Q4_1": 66,
    "TENON_Q5_0": 67,
    "TENON_Q5_1": 68,
    "TENON_Q4_K": 69,
    "TENON_Q5_K": 70,
    "TENON_Q6_K": 71,
    "TENON_IQ4_NL": 72,
    "TENON_MXFP4": 73,
    "TENON_NVFP4": 74,
    "TENON_CONTEXT_DEBUG_MEMORY": 1,
    "TENON_CONTEXT_REDUCED_PRECISION": 8,
    "TENON_COMPUTE_DEFAULT": 0,
    "TENON_COMPUTE_EXACT": 1,
    "TENON_COMPUTE_FAST": 2,
    "TENON_ACTIVATION_NONE": 0,
    "TENON_ACTIVATION_RELU": 1,
    "TENON_ACTIVATION_GELU": 2,
    "TENON_ACTIVATION_GELU_TANH": 3,
    "TENON_ACTIVATION_SILU": 4,
    "TENON_ACTIVATION_SIGMOID": 5,
    "TENON_ACTIVATION_TANH": 6,
    "TENON_ACTIVATION_CLAMP": 7,
    "TENON_GATED_NONE": 0,
    "TENON_GATED_HALVES": 1,
    "TENON_GATED_INTERLEAVED": 2,
    "TENON_GROUPS_GPTQ": 0,
    "TENON_GROUPS_GPTQ_V2": 1,
    "TENON_GROUPS_AWQ": 2,
    "TENON_CAUSAL_NONE": 0,
    "TENON_CAUSAL_TOP_LEFT": 1,
    "TENON_CAUSAL_BOTTOM_RIGHT": 2,
}


def names(prefix: str) -> dict[str, int]:
    """The constants of one enumeration by their short names: names("TENON_CAUSAL_") has "top_left"."""
    return {name[len(prefix) :].lower(): value for name, value in CONSTANTS.items() if name.startswith(prefix)}


# --- host.h -------------------------------------------------------------------------------------------------------
LogFunction = CFUNCTYPE(None, c_void_p, c_int, c_char_p)


class Allocator(Structure):
    _fields_ = [("user", c_void_p), ("alloc", c_void_p), ("free", c_void_p)]


class Parallel(Structure):
    _fields_ = [("user", c_void_p), ("threads", c_void_p), ("run", c_void_p)]


class Logger(Structure):
    _fields_ = [("user", c_void_p), ("log", LogFunction)]


# --- memory.h -----------------------------------------------------------------------------------------------------
class LadderStats(Structure):
    _fields_ = [
        ("coalesced", c_uint64),
        ("segments_given", c_uint64),
        ("caches_dropped", c_uint64),
        ("smaller_plans", c_uint64),
        ("waits", c_uint64),
        ("device_changes", c_uint64),
        ("failures", c_uint64),
    ]


class Lifetime(Structure):
    _fields_ = [
        ("bytes", c_size_t),
        ("alignment", c_size_t),
        ("first", c_int64),
        ("last", c_int64),
        ("offset", c_size_t),
    ]


class MemoryInfo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("budget", c_size_t),
        ("reserved", c_size_t),
        ("in_use", c_size_t),
        ("peak_reserved", c_size_t),
        ("peak_in_use", c_size_t),
        ("largest_free", c_size_t),
        ("segments", c_uint64),
        ("blocks", c_uint64),
        ("allocations", c_uint64),
        ("frees", c_uint64),
        ("ladder", LadderStats),
        ("damages", c_uint64),
    ]


# --- context.h ----------------------------------------------------------------------------------------------------
class DeviceInfo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("usable", c_int32),
        ("cores", c_int32),
        ("id", c_char * 32),
        ("backend", c_char * 16),
        ("name", c_char * 128),
        ("vendor", c_char * 64),
        ("instruction_sets", c_char * 256),
        ("reason", c_char * 256),
        ("memory_total", c_uint64),
        ("memory_free", c_uint64),
        ("cache_l1", c_uint64),
        ("cache_l2", c_uint64),
        ("cache_l3", c_uint64),
    ]


class ContextDesc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("threads", c_int32),
        ("flags", c_uint32),
        ("parallel", Parallel),
        ("pool", c_void_p),
        ("memory_budget", c_size_t),
        ("allocator", Allocator),
        ("logger", Logger),
        ("log_level", c_int),
        ("native_context", c_void_p),
        ("native_queue", c_void_p),
        ("plan_cache_bytes", c_size_t),
        ("kernel_cache_path", c_char_p),
    ]


# --- tensor.h -----------------------------------------------------------------------------------------------------
class Tensor(Structure):
    held: object  # memory that was made for this struct, kept with it
    _fields_ = [
        ("data", c_void_p),
        ("buffer", c_void_p),
        ("offset", c_size_t),
        ("dtype", c_int),
        ("rank", c_int32),
        ("shape", c_int64 * MAX_RANK),
        ("stride", c_int64 * MAX_RANK),
    ]


# --- plan.h -------------------------------------------------------------------------------------------------------
class Workspace(Structure):
    _fields_ = [("memory", c_void_p), ("bytes", c_size_t)]


class PlanInfo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("algorithm", c_char_p),
        ("kernel", c_char_p),
        ("reason", c_char_p),
        ("workspace", c_size_t),
        ("workspace_preferred", c_size_t),
        ("workspace_smallest", c_size_t),
        ("flops", c_double),
        ("bytes", c_double),
        ("choices", c_int32),
        ("chosen", c_int32),
        ("declined", c_int32),
    ]


class PlanChoice(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("algorithm", c_char_p),
        ("kernel", c_char_p),
        ("workspace", c_size_t),
        ("seconds", c_double),
    ]


# --- schedule.h ---------------------------------------------------------------------------------------------------
class Step(Structure):
    _fields_ = [
        ("plan", c_void_p),
        ("offset", c_size_t),
        ("workspace", c_size_t),
        ("choice", c_int32),
    ]


class Schedule(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("steps", POINTER(Step)),
        ("step_count", c_size_t),
        ("buffers", POINTER(Lifetime)),
        ("buffer_count", c_size_t),
        ("budget", c_size_t),
        ("effort", c_double),
    ]


class ScheduleInfo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("total", c_size_t),
        ("lower_bound", c_size_t),
        ("preferred", c_size_t),
        ("smallest", c_size_t),
        ("smallest_lower_bound", c_size_t),
        ("seconds", c_double),
        ("seconds_preferred", c_double),
    ]


# --- gemm.h -------------------------------------------------------------------------------------------------------
class GemmDesc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("a", Tensor),
        ("b", Tensor),
        ("c", Tensor),
        ("alpha", POINTER(c_double)),
        ("beta", c_double),
        ("bias", Tensor),
        ("residual", Tensor),
        ("activation", c_int),
        ("gated", c_int),
        ("clamp_low", c_double),
        ("clamp_high", c_double),
        ("a_scale", Tensor),
        ("a_zero", Tensor),
        ("b_scale", Tensor),
        ("b_zero", Tensor),
        ("c_scale", Tensor),
        ("c_zero", Tensor),
        ("group_offsets", Tensor),
        ("a_array", c_void_p),
        ("b_array", c_void_p),
        ("c_array", c_void_p),
        ("array_count", c_int64),
        ("b_packed", c_void_p),
        ("b_packed_bytes", c_size_t),
        ("compute", c_int),
        ("workspace", Workspace),
    ]


# --- softmax.h ----------------------------------------------------------------------------------------------------
class Window(Structure):
    _fields_ = [("enabled", c_int32), ("reserved", c_int32), ("left", c_int64), ("right", c_int64)]


class SoftmaxDesc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("x", Tensor),
        ("y", Tensor),
        ("axis", POINTER(c_int32)),
        ("scale", POINTER(c_double)),
        ("bias", Tensor),
        ("mask", Tensor),
        ("causal", c_int),
        ("window", Window),
        ("alibi", Tensor),
        ("softcap", c_double),
        ("sinks", Tensor),
        ("log", c_int32),
        ("reserved", c_int32),
        ("lse", Tensor),
        ("workspace", Workspace),
    ]


# --- attention.h --------------------------------------------------------------------------------------------------
class AttentionDesc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("q", Tensor),
        ("k", Tensor),
        ("v", Tensor),
        ("o", Tensor),
        ("scale", POINTER(c_double)),
        ("causal", c_int),
        ("reserved", c_int32),
        ("window", Window),
        ("bias", Tensor),
        ("mask", Tensor),
        ("alibi", Tensor),
        ("softcap", c_double),
        ("sinks", Tensor),
        ("key_lengths", Tensor),
        ("query_offsets", Tensor),
        ("cu_seqlens_q", Tensor),
        ("cu_seqlens_k", Tensor),
        ("block_table", Tensor),
        ("k_scale", Tensor),
        ("v_scale", Tensor),
        ("lse", Tensor),
        ("compute", c_int),
        ("reserved2", c_int32),
        ("workspace", Workspace),
    ]


class AttentionMergeDesc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("o_parts", POINTER(Tensor)),
        ("lse_parts", POINTER(Tensor)),
        ("count", c_int64),
        ("o", Tensor),
        ("lse", Tensor),
        ("workspace", Workspace),
    ]


class KvAppendDesc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("k", Tensor),
        ("v", Tensor),
        ("k_cache", Tensor),
        ("v_cache", Tensor),
        ("positions", Tensor),
        ("cu_seqlens", Tensor),
        ("block_table", Tensor),
        ("k_scale", Tensor),
        ("v_scale", Tensor),
        ("workspace", Workspace),
    ]


# --- quantize.h ---------------------------------------------------------------------------------------------------
class QuantizeDesc(Structure):
    _fields_ = [("struct_size", c_size_t), ("x", Tensor), ("y", Tensor), ("workspace", Workspace)]


class GroupsDesc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("layout", c_int),
        ("bits", c_int32),
        ("qweight", Tensor),
        ("qzeros", Tensor),
        ("scales", Tensor),
        ("group_index", Tensor),
        ("y", Tensor),
        ("order", Tensor),
    ]


STRUCTS: dict[str, type[Structure]] = {
    "tenon_allocator": Allocator,
    "tenon_parallel": Parallel,
    "tenon_logger": Logger,
    "tenon_ladder_stats": LadderStats,
    "tenon_memory_info": MemoryInfo,
    "tenon_lifetime": Lifetime,
    "tenon_step": Step,
    "tenon_schedule": Schedule,
    "tenon_schedule_info": ScheduleInfo,
    "tenon_device_info": DeviceInfo,
    "tenon_context_desc": ContextDesc,
    "tenon_tensor": Tensor,
    "tenon_workspace": Workspace,
    "tenon_plan_info": PlanInfo,
    "tenon_plan_choice": PlanChoice,
    "tenon_gemm_desc": GemmDesc,
    "tenon_window": Window,
    "tenon_softmax_desc": SoftmaxDesc,
    "tenon_attention_desc": AttentionDesc,
    "tenon_attention_merge_desc": AttentionMergeDesc,
    "tenon_kv_append_desc": KvAppendDesc,
    "tenon_quantize_desc": QuantizeDesc,
    "tenon_groups_desc": GroupsDesc,
}

# Name: (result, arguments). Handles (context, plan, pool) are plain addresses.
PROTOTYPES: dict[str, tuple[object, list[object]]] = {
    "tenon_status_name": (c_char_p, [c_int]),
    "tenon_error_message": (c_char_p, [c_void_p]),
    "tenon_version": (c_int, []),
    "tenon_device_count": (c_int, []),
    "tenon_device_get": (c_int, [c_int, POINTER(DeviceInfo)]),
    "tenon_context_create": (c_int, [POINTER(ContextDesc), POINTER(c_void_p)]),
    "tenon_context_destroy": (None, [c_void_p]),
    "tenon_sync": (c_int, [c_void_p]),
    "tenon_context_save_kernels": (c_int, [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)]),
    "tenon_context_load_kernels": (c_int, [c_void_p, c_char_p, c_size_t, POINTER(c_int32)]),
    "tenon_context_device": (c_char_p, [c_void_p, c_int]),
    "tenon_context_threads": (c_int, [c_void_p]),
    "tenon_context_pool": (c_void_p, [c_void_p, c_int]),
    "tenon_memory_stats": (c_int, [c_void_p, POINTER(MemoryInfo)]),
    "tenon_memory_trim": (c_size_t, [c_void_p, c_size_t]),
    "tenon_plan_query": (c_int, [c_void_p, POINTER(PlanInfo)]),
    "tenon_plan_choice_get": (c_int, [c_void_p, c_int, POINTER(PlanChoice)]),
    "tenon_plan_choose": (c_int, [c_void_p, c_int]),
    "tenon_schedule_layout": (c_int, [c_void_p, POINTER(Schedule), POINTER(ScheduleInfo)]),
    "tenon_plan_declined": (c_char_p, [c_void_p, c_int]),
    "tenon_plan_budget": (c_int, [POINTER(c_void_p), c_size_t, POINTER(c_size_t), POINTER(c_size_t)]),
    "tenon_plan_destroy": (None, [c_void_p]),
    "tenon_gemm": (c_int, [c_void_p, POINTER(GemmDesc)]),
    "tenon_gemm_plan": (c_int, [c_void_p, POINTER(GemmDesc), POINTER(c_void_p)]),
    "tenon_gemm_run": (c_int, [c_void_p, c_void_p, POINTER(GemmDesc)]),
    "tenon_gemm_pack_size": (c_int, [c_void_p, POINTER(GemmDesc), POINTER(c_size_t)]),
    "tenon_gemm_pack": (c_int, [c_void_p, POINTER(GemmDesc), c_void_p, c_size_t]),
    "tenon_softmax": (c_int, [c_void_p, POINTER(SoftmaxDesc)]),
    "tenon_softmax_plan": (c_int, [c_void_p, POINTER(SoftmaxDesc), POINTER(c_void_p)]),
    "tenon_softmax_run": (c_int, [c_void_p, c_void_p, POINTER(SoftmaxDesc)]),
    "tenon_attention": (c_int, [c_void_p, POINTER(AttentionDesc)]),
    "tenon_attention_plan": (c_int, [c_void_p, POINTER(AttentionDesc), POINTER(c_void_p)]),
    "tenon_attention_run": (c_int, [c_void_p, c_void_p, POINTER(AttentionDesc)]),
    "tenon_attention_merge": (c_int, [c_void_p, POINTER(AttentionMergeDesc)]),
    "tenon_kv_append": (c_int, [c_void_p, POINTER(KvAppendDesc)]),
    "tenon_quantize": (c_int, [c_void_p, POINTER(QuantizeDesc)]),
    "tenon_dequantize": (c_int, [c_void_p, POINTER(QuantizeDesc)]),
    "tenon_blocks_from_groups": (c_int, [c_void_p, POINTER(GroupsDesc)]),
    "tenon_blocks_check": (c_int, [c_void_p, POINTER(Tensor), POINTER(c_int64)]),
}


def declare(library: ctypes.CDLL) -> None:
    """Gives every function of the library its argument and result types; AttributeError names one that is missing."""
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
