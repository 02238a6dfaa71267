/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.cuh: block types (src/ops/blocks.h, docs/NUMERICS.md, section 9) on the device: runs of
 * blocks on their way to shared memory, and units of 32 elements from there.
 *
 * A block lies at any address. A run of them is copied as the 4-byte words that have its bytes, so
 * that it keeps its place in a word; a decoder puts words together from two. Lanes take neighbouring
 * runs, an odd number of words apart: no two of them meet in a bank.
 */
#ifndef TN_BLOCKS_CUH
#define TN_BLOCKS_CUH

#include "number.cuh"

/* tenon_dtype */
enum {
    Q8_0 = 64,
    Q4_0 = 65,
    Q4_1 = 66,
    Q5_0 = 67,
    Q5_1 = 68,
    Q4_K = 69,
    Q5_K = 70,
    Q6_K = 71,
    IQ4_NL = 72,
    MXFP4 = 73,
    NVFP4 = 74
};

/* What a unit has beside a scale: nothing; an addend; another scale for its second half. */
enum { PLAIN, MINIMUM, HALVED };

TN_DEVICE int block_kind(int type) {
    return type == Q6_K || type == NVFP4                                  ? HALVED
           : type == Q4_1 || type == Q5_1 || type == Q4_K || type == Q5_K ? MINIMUM
                                                                          : PLAIN;
}

/* What is to be taken away from the bytes of a unit. */
TN_DEVICE int block_bias(int type) {
    switch (type) {
    case Q8_0:
    case IQ4_NL:
        return 128;
    case Q4_0:
        return 8;
    case Q5_0:
        return 16;
    case Q6_K:
        return 32;
    case MXFP4:
    case NVFP4:
        return 12;
    default:
        return 0;
    }
}

/* Units of a block, bytes of a block. */
TN_DEVICE int block_units(int type) {
    return type >= Q4_K && type <= Q6_K ? 8 : type == NVFP4 ? 2 : 1;
}
TN_DEVICE int block_bytes(int type) {
    switch (type) {
    case Q8_0:
        return 34;
    case Q4_1:
        return 20;
    case Q5_0:
        return 22;
    case Q5_1:
        return 24;
    case Q4_K:
        return 144;
    case Q5_K:
        return 176;
    case Q6_K:
        return 210;
    case MXFP4:
        return 17;
    case NVFP4:
        return 36;
    default:
        return 18;
    }
}

/* Bytes of `units` units, whole blocks of them. */
TN_DEVICE int64_t bytes_of_units(int type, int64_t units) {
    return units / block_units(type) * block_bytes(type);
}

/* ---- runs of blocks */

/* Where a run begins in its first word. */
TN_DEVICE uint32_t head_of(const char *from) {
    return (uint32_t)(uint64_t)from & 3;
}

/* Word w of a run that has not all of its bytes: zeros where there are none. */
TN_DEVICE void put_edge(uint32_t *to, const char *from, int bytes, int w) {
    const int first = 4 * w - (int)head_of(from); /* of its bytes, in the run */
    uint32_t word = 0;
#pragma unroll 1
    for (int b = 0; b < 4; b++)
        if (first + b >= 0 && first + b < bytes)
            word |= (uint32_t) * (const uint8_t *)(from + first + b) << 8 * b;
    to[w] = word;
}

/* A run of `bytes` bytes at `from` by a warp: `words` words from shared memory's `to` on, zeros
 * behind its end. */
TN_DEVICE void copy_run(uint32_t *to, const char *from, int bytes, int words) {
    const int lane = threadIdx.x % 32, head = (int)head_of(from);
    const int begin = head > 0, end = (head + bytes) / 4;
    const char *base = from - head;
#pragma unroll 4
    for (int w = begin + lane; w < end; w += 32) {
#if __CUDA_ARCH__ >= 800
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(
                         (uint32_t)__cvta_generic_to_shared(to + w)),
                     "l"(base + 4 * w)
                     : "memory");
#else
        to[w] = *(const uint32_t *)(base + 4 * w);
#endif
    }
    for (int w = (end > begin ? end : begin) + lane; w < words; w += 32)
        put_edge(to, from, bytes, w);
    if (begin && lane == 31)
        put_edge(to, from, bytes, 0);
}

TN_DEVICE void end_of_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/* Waits until no more than N of this thread's groups of copies are on their way. */
template <int N> TN_DEVICE void await_runs() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/* ---- fields, by the byte in shared memory */

template <int N> TN_DEVICE void words_at(const uint32_t *raw, uint32_t at, uint32_t *out) {
    const uint32_t *from = raw + at / 4;
    const uint32_t shift = at % 4 * 8;
    uint32_t next = from[0];
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t low = next;
        next = from[i + 1];
        out[i] = __funnelshift_r(low, next, shift);
    }
}
TN_DEVICE uint32_t word_at(const uint32_t *raw, uint32_t at) {
    uint32_t word;
    words_at<1>(raw, at, &word);
    return word;
}
TN_DEVICE uint32_t byte_at(const uint32_t *raw, uint32_t at) {
    return raw[at / 4] >> at % 4 * 8 & 0xff;
}
TN_DEVICE float half_at(const uint32_t *raw, uint32_t at) {
    return from_f16((uint16_t)word_at(raw, at));
}

/* ---- units */

/*
 * 32 elements: bytes, four to a word. Element i is byte i less block_bias, times s (times `second`
 * for the second half of HALVED), plus `second` of MINIMUM.
 */
struct unit {
    uint32_t q[8];
    float s, second;
};

TN_DEVICE void nibbles(const uint32_t *w, uint32_t *q) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        q[i] = w[i] & 0x0f0f0f0f;
        q[4 + i] = w[i] >> 4 & 0x0f0f0f0f;
    }
}

/* Bits 4 g to 4 g + 3, each as the fifth bit of a byte. */
TN_DEVICE uint32_t fifth_bits(uint32_t bits, int g) {
    return (bits >> 4 * g & 15) * 0x02040810u & 0x10101010u;
}

/* The bytes of a table of 16 that eight nibbles name: of the low ones, of the high ones. */
TN_DEVICE void look_up(uint32_t t0, uint32_t t1, uint32_t t2, uint32_t t3, uint32_t names,
                       uint32_t &low, uint32_t &high) {
    const uint32_t among = names & 0x77777777u, which = 0x32103210u | (names & 0x88888888u) >> 1;
    const uint32_t first = __byte_perm(__byte_perm(t0, t1, among & 0xffff),
                                       __byte_perm(t2, t3, among & 0xffff), which & 0xffff),
                   rest = __byte_perm(__byte_perm(t0, t1, among >> 16),
                                      __byte_perm(t2, t3, among >> 16), which >> 16);
    low = __byte_perm(first, rest, 0x6420);
    high = __byte_perm(first, rest, 0x7531);
}
/* Twice E2M1 plus 12; IQ4_NL's plus 128. */
TN_DEVICE void look_up_fp4(uint32_t names, uint32_t &low, uint32_t &high) {
    look_up(0x0f0e0d0cu, 0x18141210u, 0x090a0b0cu, 0x00040608u, names, low, high);
}
TN_DEVICE void look_up_iq4_nl(uint32_t names, uint32_t &low, uint32_t &high) {
    look_up(0x3f2d1801u, 0x766a5d4fu, 0xa6998d81u, 0xf1d9c5b5u, names, low, high);
}

/* Scale and minimum number r of the eight in 12 bytes of Q4_K and Q5_K. */
TN_DEVICE void scales_of_k(const uint32_t *w, int r, uint32_t &scale, uint32_t &minimum) {
    const int at = r % 4 * 8;
    if (r < 4) {
        scale = w[0] >> at & 63;
        minimum = w[1] >> at & 63;
    } else {
        scale = (w[2] >> at & 15) | (w[0] >> at >> 6 & 3) << 4;
        minimum = (w[2] >> at >> 4 & 15) | (w[1] >> at >> 6 & 3) << 4;
    }
}

/* Halves of scales: E8M0, and unsigned E4M3, of which 0x7f is 0. */
TN_DEVICE float e8m0_half(uint32_t e) {
    return __int_as_float((int)(e < 2 ? 0x00200000u << e : (e - 1) << 23));
}
TN_DEVICE float ue4m3_half(uint32_t d) {
    return d == 0x7f ? 0.0f : __int_as_float((int)((d & 0x7f) << 20)) * 0x1p119f;
}

/* Unit r of the block at byte `at`. */
TN_DEVICE unit unit_at(const uint32_t *raw, uint32_t at, int type, int r) {
    unit u;
    uint32_t w[8], scale, minimum;
    u.second = 0;
    switch (type) {
    case Q8_0:
        u.s = half_at(raw, at);
        words_at<8>(raw, at + 2, u.q);
#pragma unroll
        for (int i = 0; i < 8; i++)
            u.q[i] ^= 0x80808080u;
        break;
    case Q4_0:
        u.s = half_at(raw, at);
        words_at<4>(raw, at + 2, w);
        nibbles(w, u.q);
        break;
    case Q4_1:
        u.s = half_at(raw, at);
        u.second = half_at(raw, at + 2);
        words_at<4>(raw, at + 4, w);
        nibbles(w, u.q);
        break;
    case Q5_0:
    case Q5_1: {
        const int fields = type == Q5_0 ? 2 : 4;
        u.s = half_at(raw, at);
        if (type == Q5_1)
            u.second = half_at(raw, at + 2);
        const uint32_t fifth = word_at(raw, at + fields);
        words_at<4>(raw, at + fields + 4, w);
        nibbles(w, u.q);
#pragma unroll
        for (int i = 0; i < 8; i++)
            u.q[i] |= fifth_bits(fifth, i);
        break;
    }
    case Q4_K:
    case Q5_K: {
        words_at<4>(raw, at, w);
        scales_of_k(w + 1, r, scale, minimum);
        u.s = from_f16((uint16_t)w[0]) * (float)(int)scale;
        u.second = -(from_f16((uint16_t)(w[0] >> 16)) * (float)(int)minimum);
        words_at<8>(raw, at + (type == Q4_K ? 16 : 48) + r / 2 * 32, u.q);
#pragma unroll
        for (int i = 0; i < 8; i++)
            u.q[i] = u.q[i] >> r % 2 * 4 & 0x0f0f0f0f;
        if (type == Q5_K) {
            words_at<8>(raw, at + 16, w);
#pragma unroll
            for (int i = 0; i < 8; i++)
                u.q[i] |= (w[i] >> r & 0x01010101) << 4;
        }
        break;
    }
    case Q6_K: {
        const int half = r / 4, quarter = r % 4;
        const float d = half_at(raw, at + 208);
        u.s = d * (float)(int8_t)byte_at(raw, at + 192 + 2 * r);
        u.second = d * (float)(int8_t)byte_at(raw, at + 193 + 2 * r);
        words_at<8>(raw, at + half * 64 + quarter % 2 * 32, u.q);
        words_at<8>(raw, at + 128 + half * 32, w);
#pragma unroll
        for (int i = 0; i < 8; i++)
            u.q[i] = (u.q[i] >> quarter / 2 * 4 & 0x0f0f0f0f) | (w[i] >> 2 * quarter & 0x03030303)
                                                                    << 4;
        break;
    }
    case IQ4_NL:
        u.s = half_at(raw, at);
        words_at<4>(raw, at + 2, w);
#pragma unroll
        for (int i = 0; i < 4; i++)
            look_up_iq4_nl(w[i], u.q[i], u.q[4 + i]);
        break;
    case MXFP4:
        u.s = e8m0_half(byte_at(raw, at));
        words_at<4>(raw, at + 1, w);
#pragma unroll
        for (int i = 0; i < 4; i++)
            look_up_fp4(w[i], u.q[i], u.q[4 + i]);
        break;
    default: /* NVFP4: eight elements in the low halves of two words, eight in the high */
        u.s = ue4m3_half(byte_at(raw, at + 2 * r));
        u.second = ue4m3_half(byte_at(raw, at + 2 * r + 1));
        words_at<4>(raw, at + 4 + 16 * r, w);
#pragma unroll
        for (int i = 0; i < 4; i++)
            look_up_fp4(w[i], u.q[i / 2 * 4 + i % 2], u.q[i / 2 * 4 + i % 2 + 2]);
        break;
    }
    return u;
}

/*
 * How elements follow from their bytes, the same way for all types: element i of the first half is
 * fl(byte * s0 + m) of the byte less the bias, of the second with s1; m is -0 where there is none,
 * which changes nothing. The product is exact.
 */
struct values {
    float s0, s1, m;
    float magic; /* 2^23 + bias */
};
TN_DEVICE values values_of(const unit &u, int type) {
    const int kind = block_kind(type);
    values v;
    v.s0 = u.s;
    v.s1 = kind == HALVED ? u.second : u.s;
    v.m = kind == MINIMUM ? u.second : -0.0f;
    v.magic = 0x1p23f + (float)block_bias(type);
    return v;
}
/* Element i of a unit whose word i / 4 is `word`. */
TN_DEVICE float value_of(const values &v, uint32_t word, int i) {
    const float byte = __int_as_float((int)__byte_perm(word, 0x4b000000u, 0x7650u | (i & 3)));
    return fmaf(i < 16 ? v.s0 : v.s1, byte - v.magic, v.m);
}

#endif
