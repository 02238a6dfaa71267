/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_features.c: cpuid and xgetbv read into one word, and the kernel level chosen from it.
 *
 * The only global state of the CPU backend is that word: it is written with the same value by
 * whoever comes first, so the race is harmless. Bits from Intel's SDM, volume 2, CPUID, and AMD's
 * APM, volume 3, appendix E. With TN_EMULATE_AVX512 (tests only) the avx512 kernels of this library
 * are emulated on AVX2.
 */
#include "cpu_features.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#define TN_CPU_X86 1
#include <cpuid.h>
#endif

static atomic_uint feature_word;
static atomic_size_t cache_bytes[3]; /* L1d (0: not yet asked), L2, L3 */

static const struct {
    uint32_t bit;
    const char *name;
} feature_names[] = {
    {TN_CPU_HAS_AVX2, "avx2"},
    {TN_CPU_HAS_FMA, "fma"},
    {TN_CPU_HAS_F16C, "f16c"},
    {TN_CPU_HAS_AVX_VNNI, "avx_vnni"},
    {TN_CPU_HAS_AVX512, "avx512"},
    {TN_CPU_HAS_AVX512_VNNI, "avx512_vnni"},
    {TN_CPU_HAS_AVX512_BF16, "avx512_bf16"},
    {TN_CPU_HAS_AVX512_FP16, "avx512_fp16"},
    {TN_CPU_HAS_AMX_TILE, "amx_tile"},
    {TN_CPU_HAS_AMX_INT8, "amx_int8"},
    {TN_CPU_HAS_AMX_BF16, "amx_bf16"},
};

#ifdef TN_CPU_X86

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static uint32_t detect(void) {
    uint32_t word = TN_CPU_DETECTED;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) /* OSXSAVE: xgetbv may be used */
        return word;
    const unsigned leaf1c = c;
    const uint64_t xcr0 = read_xcr0();
    const bool ymm = (xcr0 & 0x06) == 0x06;         /* XMM and YMM */
    const bool zmm = ymm && (xcr0 & 0xe0) == 0xe0;  /* opmask, ZMM high halves, ZMM16 to 31 */
    const bool tiles = (xcr0 & 0x60000) == 0x60000; /* TILECFG, TILEDATA */
    if (ymm && (leaf1c & (1u << 12)))
        word |= TN_CPU_HAS_FMA;
    if (ymm && (leaf1c & (1u << 29)))
        word |= TN_CPU_HAS_F16C;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return word;
    const unsigned subleaves = a, leaf7b = b, leaf7c = c, leaf7d = d;
    if (ymm && (leaf7b & (1u << 5)))
        word |= TN_CPU_HAS_AVX2;
    const unsigned avx512 = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31); /* F, DQ, BW, VL */
    if (zmm && (leaf7b & avx512) == avx512) {
        word |= TN_CPU_HAS_AVX512;
        if (leaf7c & (1u << 11))
            word |= TN_CPU_HAS_AVX512_VNNI;
        if (leaf7d & (1u << 23))
            word |= TN_CPU_HAS_AVX512_FP16;
    }
    if (tiles && (leaf7d & (1u << 24))) {
        word |= TN_CPU_HAS_AMX_TILE;
        if (leaf7d & (1u << 25))
            word |= TN_CPU_HAS_AMX_INT8;
        if (leaf7d & (1u << 22))
            word |= TN_CPU_HAS_AMX_BF16;
    }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        if (ymm && (a & (1u << 4)))
            word |= TN_CPU_HAS_AVX_VNNI;
        if ((word & TN_CPU_HAS_AVX512) && (a & (1u << 5)))
            word |= TN_CPU_HAS_AVX512_BF16;
    }
    return word;
}

/* Reads the deterministic cache parameters: leaf 4 (Intel), or 0x8000001D (AMD), which share one
 * layout. */
static void detect_caches(unsigned leaf, tn_cpu_caches *caches) {
    for (unsigned i = 0; i < 16; i++) {
        unsigned a, b, c, d;
        if (!__get_cpuid_count(leaf, i, &a, &b, &c, &d) || (a & 31) == 0)
            return;
        if ((a & 31) == 2) /* instructions only */
            continue;
        const size_t ways = (b >> 22) + 1, partitions = ((b >> 12) & 1023) + 1,
                     line = (b & 4095) + 1;
        const size_t bytes = ways * partitions * line * ((size_t)c + 1);
        switch ((a >> 5) & 7) {
        case 1:
            caches->l1d = bytes;
            break;
        case 2:
            caches->l2 = bytes;
            break;
        case 3:
            caches->l3 = bytes;
            break;
        default:
            break;
        }
    }
}

#else

static uint32_t detect(void) {
    return TN_CPU_DETECTED;
}

#endif

uint32_t tn_cpu_features(void) {
    uint32_t word = atomic_load_explicit(&feature_word, memory_order_relaxed);
    if (!word) {
        word = detect();
        atomic_store_explicit(&feature_word, word, memory_order_relaxed);
    }
    return word;
}

static tn_cpu_caches detect_cache_sizes(void) {
    tn_cpu_caches caches = {0, 0, 0};
#ifdef TN_CPU_X86
    detect_caches(4, &caches);
    if (!caches.l1d)
        detect_caches(0x8000001Du, &caches);
#endif
    /* A hypervisor may report nothing, or nonsense: keep what the blocking can work with. */
    if (caches.l1d < 16u << 10 || caches.l1d > 1u << 20)
        caches.l1d = 32u << 10;
    if (caches.l2 < 128u << 10 || caches.l2 > 64u << 20)
        caches.l2 = 256u << 10;
    if (caches.l3 < caches.l2)
        caches.l3 = 0;
    return caches;
}

/* Asked for by every plan, and cpuid takes microseconds in a virtual machine. Whoever comes at once
 * finds the same. */
tn_cpu_caches tn_cpu_cache_sizes(void) {
    tn_cpu_caches caches = {.l1d = atomic_load_explicit(&cache_bytes[0], memory_order_acquire)};
    if (caches.l1d) {
        caches.l2 = atomic_load_explicit(&cache_bytes[1], memory_order_relaxed);
        caches.l3 = atomic_load_explicit(&cache_bytes[2], memory_order_relaxed);
        return caches;
    }
    caches = detect_cache_sizes();
    atomic_store_explicit(&cache_bytes[1], caches.l2, memory_order_relaxed);
    atomic_store_explicit(&cache_bytes[2], caches.l3, memory_order_relaxed);
    atomic_store_explicit(&cache_bytes[0], caches.l1d, memory_order_release);
    return caches;
}

tn_cpu_level tn_cpu_level_best(void) {
    const uint32_t word = tn_cpu_features();
    const uint32_t avx2 = TN_CPU_HAS_AVX2 | TN_CPU_HAS_FMA | TN_CPU_HAS_F16C;
    if ((word & avx2) != avx2)
        return TN_CPU_SCALAR;
#ifdef TN_EMULATE_AVX512
    return TN_CPU_AVX512;
#else
    return (word & TN_CPU_HAS_AVX512) ? TN_CPU_AVX512 : TN_CPU_AVX2;
#endif
}

tn_cpu_level tn_cpu_level_choose(const char *mask, bool *known) {
    const tn_cpu_level best = tn_cpu_level_best();
    tn_cpu_level level = best;
    bool found = true;
    if (!mask || !*mask)
        level = best;
    else if (!strcmp(mask, "scalar"))
        level = TN_CPU_SCALAR;
    else if (!strcmp(mask, "avx2"))
        level = TN_CPU_AVX2;
    else if (!strcmp(mask, "avx512"))
        level = TN_CPU_AVX512;
    else
        found = false;
    if (known)
        *known = found;
    return level < best ? level : best;
}

tn_cpu_isa tn_cpu_isa_choose(const char *mask, bool *known) {
    tn_cpu_isa isa = {TN_CPU_SCALAR, 0};
    if (mask && (!strcmp(mask, "avx2-plain") || !strcmp(mask, "avx512-plain"))) {
        isa.level = tn_cpu_level_choose(mask[3] == '2' ? "avx2" : "avx512", known);
        return isa;
    }
    isa.level = tn_cpu_level_choose(mask && !strcmp(mask, "amx") ? "avx512" : mask, known);
    isa.features = tn_cpu_features();
#ifdef TN_EMULATE_AVX512
    isa.features |=
        TN_CPU_HAS_AVX_VNNI | TN_CPU_HAS_AVX512_VNNI | TN_CPU_HAS_AVX512_BF16 | TN_CPU_HAS_AMX;
#endif
    if (mask && !strcmp(mask, "avx512"))
        isa.features &= ~(uint32_t)TN_CPU_HAS_AMX;
    return isa;
}

const char *tn_cpu_level_name(tn_cpu_level level) {
    switch (level) {
    case TN_CPU_AVX2:
        return "avx2";
    case TN_CPU_AVX512:
#ifdef TN_EMULATE_AVX512
        return "avx512-emulated";
#else
        return "avx512";
#endif
    default:
        return "scalar";
    }
}

static void copy_text(char *to, size_t bytes, const char *from) {
    size_t length = strlen(from);
    while (*from == ' ')
        from++, length--;
    if (!bytes)
        return;
    if (length > bytes - 1)
        length = bytes - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}

void tn_cpu_vendor(char *text, size_t bytes) {
    char vendor[13] = "";
#ifdef TN_CPU_X86
    unsigned a, b, c, d;
    if (__get_cpuid(0, &a, &b, &c, &d)) {
        memcpy(vendor, &b, 4);
        memcpy(vendor + 4, &d, 4);
        memcpy(vendor + 8, &c, 4);
    }
#endif
    copy_text(text, bytes, vendor);
}

void tn_cpu_brand(char *text, size_t bytes) {
    char brand[49] = "";
#ifdef TN_CPU_X86
    for (unsigned i = 0; i < 3; i++) {
        unsigned r[4];
        if (!__get_cpuid(0x80000002u + i, &r[0], &r[1], &r[2], &r[3]))
            break;
        memcpy(brand + 16 * i, r, sizeof r);
    }
#endif
    copy_text(text, bytes, brand);
}

const char *tn_cpu_features_text(uint32_t features, char *text, size_t bytes) {
    size_t used = 0;
    if (!bytes)
        return text;
    for (size_t i = 0; i < sizeof feature_names / sizeof *feature_names; i++) {
        const size_t length = strlen(feature_names[i].name);
        if (!(features & feature_names[i].bit))
            continue;
        if (used + length + 2 > bytes)
            break;
        if (used)
            text[used++] = ' ';
        memcpy(text + used, feature_names[i].name, length);
        used += length;
    }
    text[used] = '\0';
    return text;
}
