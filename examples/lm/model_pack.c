/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_pack.c: weights packed for the kernels (tenon_gemm_pack), where that takes no more memory than they have in the file: block
 * types, and plain types that are computed with as they are. The file's pages of a tensor are given back when it is packed, the largest
 * tensor first, while little else is held: the most that is held on the way (model_memory.loading) is then mostly less than in the end.
 */
#include "model_parts.h"

#include <stdlib.h>

enum { ALIGNMENT = 64, PAGE = 4096 };

/* ---------------------------------------------------------------- a product's weights */

void describe_weights(const model *m, const matrix *weights, bool gated, const char *block,
                      tenon_gemm_desc *out) {
    *out = (tenon_gemm_desc){.struct_size = sizeof *out, .compute = m->options.compute};
    out->b = tenon_transposed(tenon_matrix(weights->data, weights->dtype,
                                           gated ? 2 * weights->rows : weights->rows, weights->k));
    out->gated = gated ? TENON_GATED_HALVES : TENON_GATED_NONE;
    out->b_packed_bytes = (size_t)weights->packed_bytes;
    if (block && weights->packed_bytes > 0)
        out->b_packed = block + m->memory.work + m->memory.cache + weights->packed;
}

static uint64_t mapped_bytes(const packing *p) {
    const matrix *w = p->weights;
    const int64_t extent[4] = {w->k, p->gated ? 2 * w->rows : w->rows, 1, 1};
    return gguf_bytes_of(w->dtype, extent);
}

/* ---------------------------------------------------------------- planning */

/* Takes a product's weights into the list, if packed they are hardly larger: by the padding of their last columns. */
static void consider(model *m, matrix *weights, bool gated) {
    packing *p = &m->packings[m->packing_count];
    *p = (packing){.weights = weights, .gated = gated};
    tenon_gemm_desc desc;
    describe_weights(m, weights, gated, NULL, &desc);
    desc.a.dtype = TENON_F32;
    size_t bytes;
    if (tenon_gemm_pack_size(m->ctx, &desc, &bytes) != TENON_OK) /* not on this device */
        return;
    const uint64_t mapped = mapped_bytes(p);
    if (bytes > mapped + mapped / 64 + PAGE)
        return;
    weights->packed_bytes = bytes;
    m->memory.mapped -= mapped;
    ++m->packing_count;
}

static int larger_first(const void *a_, const void *b_) {
    const matrix *a = ((const packing *)a_)->weights, *b = ((const packing *)b_)->weights;
    return a->packed_bytes < b->packed_bytes ? 1 : a->packed_bytes > b->packed_bytes ? -1 : 0;
}

bool embedding_is_released(const model *m) {
    return m->head.packed_bytes > 0;
}

bool pack_plan(model *m, char error[512]) {
    const model_shape *s = &m->shape;
    m->packings = calloc((size_t)(s->layers * PHASES + 1), sizeof *m->packings);
    if (!m->packings)
        return say(error, "no memory for the list of packed weights");
    consider(m, &m->head, false);
    if (embedding_is_released(m) && m->head.data != m->embedding.data) {
        const packing table = {.weights = &m->embedding};
        m->memory.mapped -= mapped_bytes(&table);
    }
    for (int64_t i = 0; i < s->layers; ++i)
        for (int phase = 0; phase < PHASE_HEAD; ++phase) {
            model_layer *l = &m->layers[i];
            if (phase != PHASE_ATTEND && !(l->gated && phase == PHASE_UP))
                consider(m, &l->product[phase], l->gated && phase == PHASE_GATE);
        }
    qsort(m->packings, (size_t)m->packing_count, sizeof *m->packings, larger_first);
    uint64_t at = 0;
    for (int64_t i = 0; i < m->packing_count; ++i) {
        m->packings[i].weights->packed = at;
        at += (m->packings[i].weights->packed_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        const uint64_t both = at + mapped_bytes(&m->packings[i]);
        m->memory.loading = both > m->memory.loading ? both : m->memory.loading;
    }
    m->memory.packed = (at + PAGE - 1) / PAGE * PAGE;
    return true;
}

/* ---------------------------------------------------------------- packing */

bool pack_weights(model *m, char error[512]) {
    char *block = tenon_buffer_host(m->block);
    for (int64_t i = 0; i < m->packing_count; ++i) {
        const packing *p = &m->packings[i];
        tenon_gemm_desc desc;
        describe_weights(m, p->weights, p->gated, NULL, &desc);
        desc.b_packed_bytes = 0; /* of B as it is mapped */
        desc.a.dtype = TENON_F32;
        if (tenon_gemm_pack(m->ctx, &desc,
                            block + m->memory.work + m->memory.cache + p->weights->packed,
                            (size_t)p->weights->packed_bytes) != TENON_OK)
            return say(error, "%s", tenon_error_message(m->ctx));
        gguf_release(m->file, p->weights->data, mapped_bytes(p));
    }
    return true;
}
