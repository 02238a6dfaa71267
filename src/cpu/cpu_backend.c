/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_backend.c: the host's processor as a device: which level of kernels it runs, and which driver
 * serves which operation.
 *
 * One device, "cpu". Its level is decided when it is opened, from the processor and TENON_CPU.
 */
#include "core/backend.h"
#include "core/os.h"
#include "cpu/cpu_features.h"
#include "cpu/cpu_gemm.h"
#include "cpu/cpu_ops.h"

#include <stdio.h>

/* Devices are constant: for each level one without the processor's further instructions, one with
 * them but for AMX, and one with all, so that opening needs no memory and contexts may differ in
 * level (tests). */
typedef enum further { NONE, VECTORS, TILES, FURTHERS } further;

struct tn_device {
    tn_cpu_level level;
    further further;
};

#define DEVICES(level)                                                                             \
    {                                                                                              \
        {level, NONE}, {level, VECTORS}, {                                                         \
            level, TILES                                                                           \
        }                                                                                          \
    }
static tn_device devices[TN_CPU_LEVELS][FURTHERS] = {DEVICES(TN_CPU_SCALAR), DEVICES(TN_CPU_AVX2),
                                                     DEVICES(TN_CPU_AVX512)};

static tn_cpu_isa isa_of(const tn_device *device) {
    const uint32_t all = tn_cpu_isa_choose(NULL, NULL).features;
    const uint32_t features[FURTHERS] = {0, all & ~(uint32_t)TN_CPU_HAS_AMX, all};
    return (tn_cpu_isa){device->level, features[device->further]};
}

/* AMX has to be allowed, for all threads of the process; if not, it is as if it were not there. */
static bool may_use_tiles(tn_cpu_isa isa) {
    if (isa.level < TN_CPU_AVX512 || !(isa.features & TN_CPU_HAS_AMX_TILE))
        return false;
#ifdef TN_EMULATE_AVX512
    return true;
#else
    return tn_os_allow_tiles();
#endif
}

static int count(void) {
    return 1;
}

static void info(int index, tenon_device_info *out) {
    const tn_cpu_caches caches = tn_cpu_cache_sizes();
    const tn_cpu_level level = tn_cpu_isa_choose(tn_os_env("TENON_CPU"), NULL).level;
    const uint32_t features = tn_cpu_isa_choose(NULL, NULL).features;
    /* The level in use comes first, so it is not told again among the features. */
    static const uint32_t told[TN_CPU_LEVELS] = {
        [TN_CPU_AVX2] = TN_CPU_HAS_AVX2, [TN_CPU_AVX512] = TN_CPU_HAS_AVX512};
    char text[192];
    (void)index;
    out->usable = 1;
    out->cores = tn_os_cores();
    out->memory_total = tn_os_memory_total();
    const size_t available = tn_os_memory_available();
    out->memory_free = available != SIZE_MAX ? available : 0;
    (void)snprintf(out->id, sizeof out->id, "cpu");
    (void)snprintf(out->backend, sizeof out->backend, "cpu");
    tn_cpu_brand(out->name, sizeof out->name);
    tn_cpu_vendor(out->vendor, sizeof out->vendor);
    (void)snprintf(out->instruction_sets, sizeof out->instruction_sets, "%s %s",
                   tn_cpu_level_name(level),
                   tn_cpu_features_text(features & ~told[level], text, sizeof text));
    out->cache_l1 = caches.l1d;
    out->cache_l2 = caches.l2;
    out->cache_l3 = caches.l3;
}

static tenon_status open_device(const tn_open *how, tn_device **out, tn_message *why) {
    const char *mask = tn_os_env("TENON_CPU");
    bool known;
    *out = NULL;
    if (how->index != 0)
        return tn_fail(why, TENON_ERROR_NO_DEVICE, "cpu:%d: there is one, cpu:0", how->index);
    const tn_cpu_isa isa = tn_cpu_isa_choose(mask, &known);
    if (!known)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "TENON_CPU is \"%.32s\", expected scalar, avx2, avx512 or amx", mask);
    *out = &devices[isa.level][isa.features == 0 ? NONE : may_use_tiles(isa) ? TILES : VECTORS];
    return TENON_OK;
}

static void close_device(tn_device *device) {
    (void)device;
}

static tenon_status sync_device(tn_device *device, tn_message *why) {
    (void)device;
    (void)why;
    return TENON_OK;
}

static tenon_status plan(tn_device *device, tn_op op, const void *problem, int threads,
                         tn_choices *out, tn_message *why) {
    out->count = 0;
    switch (op) {
    case TN_OP_GEMM:
        return tn_cpu_gemm_plan(isa_of(device), problem, threads, out, why);
    case TN_OP_SOFTMAX:
        return tn_cpu_softmax_plan(problem, threads, device->level, out, why);
    case TN_OP_ATTENTION:
        return tn_cpu_attention_plan(problem, threads, device->level, out, why);
    case TN_OP_MERGE:
        return tn_cpu_merge_plan(problem, threads, device->level, out, why);
    case TN_OP_APPEND:
        return tn_cpu_append_plan(problem, threads, device->level, out, why);
    case TN_OP_QUANTIZE:
        return tn_cpu_quantize_plan(problem, threads, device->level, out);
    case TN_OP_DEQUANTIZE:
        return tn_cpu_dequantize_plan(problem, threads, device->level, out);
    case TN_OP_GEMM_PACK:
        break; /* is not planned */
    }
    return tn_fail(why, TENON_ERROR_INTERNAL, "operation %d reached the cpu", (int)op);
}

TN_HOT static tenon_status run(tn_device *device, const tn_run *r, tn_message *why) {
    switch (r->op) {
    case TN_OP_GEMM:
        tn_cpu_gemm_run(r);
        return TENON_OK;
    case TN_OP_GEMM_PACK:
        tn_cpu_gemm_pack_run(isa_of(device), r);
        return TENON_OK;
    case TN_OP_SOFTMAX:
        tn_cpu_softmax_run(r);
        return TENON_OK;
    case TN_OP_ATTENTION:
        tn_cpu_attention_run(r);
        return TENON_OK;
    case TN_OP_MERGE:
        tn_cpu_merge_run(r);
        return TENON_OK;
    case TN_OP_APPEND:
        tn_cpu_append_run(r);
        return TENON_OK;
    case TN_OP_QUANTIZE:
        tn_cpu_quantize_run(r);
        return TENON_OK;
    case TN_OP_DEQUANTIZE:
        tn_cpu_dequantize_run(r);
        return TENON_OK;
    }
    return tn_fail(why, TENON_ERROR_INTERNAL, "operation %d reached the cpu", (int)r->op);
}

static tenon_status pack_size(tn_device *device, const tn_gemm_problem *p, size_t *bytes,
                              tn_message *why) {
    return tn_cpu_gemm_pack_size(isa_of(device), p, bytes, why);
}

static tenon_status pack_check(tn_device *device, const tn_gemm_problem *p, const void *packed,
                               size_t bytes, tn_message *why) {
    return tn_cpu_gemm_pack_check(isa_of(device), p, packed, bytes, why);
}

const tn_backend tn_backend_cpu = {
    .name = "cpu",
    .host = 1,
    .count = count,
    .info = info,
    .open = open_device,
    .close = close_device,
    .sync = sync_device,
    .plan = plan,
    .run = run,
    .pack_size = pack_size,
    .pack_check = pack_check,
};
