/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_tiles_emulated.h: the tile instructions of vec_tiles.h in plain C, for tests only.
 *
 * As Intel's SDM (volume 2, "Operation" of each) has them, faults included: what the processor
 * answers with #GP or #UD stops the program. Each thread has its tiles, as it has its registers.
 * Never part of the library.
 */
#ifndef TN_VEC_TILES_EMULATED_H
#define TN_VEC_TILES_EMULATED_H

static _Thread_local struct {
    tn_tile_config config; /* palette 0: not configured */
    uint8_t tile[8][TN_TILE_ROWS][TN_TILE_BYTES];
} tn_emu_tiles;

static inline void tn_emu_require(int legal) {
    if (!legal)
        __builtin_trap();
}

static inline void tn_tile_release(void) {
    memset(&tn_emu_tiles, 0, sizeof tn_emu_tiles);
}

static inline void tn_tile_configure(const tn_tile_config *config) {
    uint8_t nothing[sizeof config->reserved] = {0};
    tn_emu_require(config->palette == 1 && config->start_row == 0);
    tn_emu_require(memcmp(config->reserved, nothing, sizeof nothing) == 0);
    for (int t = 0; t < 16; t++) {
        const int most = t < 8 ? 1 : 0;
        tn_emu_require(config->bytes[t] <= TN_TILE_BYTES * most);
        tn_emu_require(config->rows[t] <= TN_TILE_ROWS * most);
        tn_emu_require((config->bytes[t] == 0) == (config->rows[t] == 0));
    }
    tn_tile_release();
    tn_emu_tiles.config = *config;
}

static inline int tn_emu_rows(int t) {
    tn_emu_require(t >= 0 && t < 8 && tn_emu_tiles.config.palette == 1);
    tn_emu_require(tn_emu_tiles.config.rows[t] > 0);
    return tn_emu_tiles.config.rows[t];
}

static inline int tn_emu_bytes(int t) {
    tn_emu_require(tn_emu_rows(t) > 0 && tn_emu_tiles.config.bytes[t] % 4 == 0);
    return tn_emu_tiles.config.bytes[t];
}

static inline void tn_tile_zero(int t) {
    tn_emu_require(tn_emu_rows(t) > 0);
    memset(tn_emu_tiles.tile[t], 0, sizeof tn_emu_tiles.tile[t]);
}

static inline void tn_tile_load(int t, const void *p, int64_t stride) {
    const int rows = tn_emu_rows(t), bytes = tn_emu_bytes(t);
    memset(tn_emu_tiles.tile[t], 0, sizeof tn_emu_tiles.tile[t]);
    for (int r = 0; r < rows; r++)
        memcpy(tn_emu_tiles.tile[t][r], (const uint8_t *)p + r * stride, (size_t)bytes);
}

static inline void tn_tile_store(int t, void *p, int64_t stride) {
    const int rows = tn_emu_rows(t), bytes = tn_emu_bytes(t);
    for (int r = 0; r < rows; r++)
        memcpy((uint8_t *)p + r * stride, tn_emu_tiles.tile[t][r], (size_t)bytes);
}

/* The shapes of a product: c is m x n, a is m x k, b is k x n, in units of 4 bytes across. */
static inline void tn_emu_shape(int c, int a, int b, int *m, int *n, int *k) {
    tn_emu_require(c != a && c != b && a != b);
    *m = tn_emu_rows(c);
    *n = tn_emu_bytes(c) / 4;
    *k = tn_emu_rows(b);
    tn_emu_require(tn_emu_rows(a) == *m && tn_emu_bytes(b) / 4 == *n && tn_emu_bytes(a) / 4 == *k);
}

/* What lies beyond c's rows and bytes becomes zero. */
static inline void tn_emu_write(int c, int m, int n, const uint32_t *sums) {
    memset(tn_emu_tiles.tile[c], 0, sizeof tn_emu_tiles.tile[c]);
    for (int i = 0; i < m; i++)
        memcpy(tn_emu_tiles.tile[c][i], sums + i * n, (size_t)n * sizeof *sums);
}

static inline void tn_tile_quads(int c, int a, int b) {
    uint32_t sums[TN_TILE_ROWS * TN_TILE_BYTES / 4];
    int m, n, k;
    tn_emu_shape(c, a, b, &m, &n, &k);
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            uint32_t sum;
            memcpy(&sum, &tn_emu_tiles.tile[c][i][4 * j], sizeof sum);
            for (int p = 0; p < k; p++)
                for (int u = 0; u < 4; u++)
                    sum += (uint32_t)((int32_t)tn_emu_tiles.tile[a][i][4 * p + u] *
                                      (int8_t)tn_emu_tiles.tile[b][p][4 * j + u]);
            sums[i * n + j] = sum; /* wraps, as the instruction does */
        }
    }
    tn_emu_write(c, m, n, sums);
}

static inline float tn_emu_bf16_at(int t, int row, int index) {
    uint16_t bits;
    memcpy(&bits, &tn_emu_tiles.tile[t][row][2 * index], sizeof bits);
    return tn_emu_flush(tn_f32_bits((uint32_t)bits << 16));
}

/* Even and odd steps in a chain each, from zero; then both, and what the tile held. */
static inline void tn_tile_pairs_bf16(int c, int a, int b) {
    uint32_t sums[TN_TILE_ROWS * TN_TILE_BYTES / 4];
    int m, n, k;
    tn_emu_shape(c, a, b, &m, &n, &k);
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            float chain[2] = {0, 0}, before;
            for (int p = 0; p < k; p++)
                for (int u = 0; u < 2; u++)
                    chain[u] = tn_emu_flush(fmaf(tn_emu_bf16_at(a, i, 2 * p + u),
                                                 tn_emu_bf16_at(b, p, 2 * j + u), chain[u]));
            memcpy(&before, &tn_emu_tiles.tile[c][i][4 * j], sizeof before);
            const float sum = tn_emu_flush(chain[0] + chain[1]);
            sums[i * n + j] = tn_bits_f32(tn_emu_flush(tn_emu_flush(before) + sum));
        }
    }
    tn_emu_write(c, m, n, sums);
}

#endif
