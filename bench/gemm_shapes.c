/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_shapes.c: options and suites become one list of shapes (see gemm_shapes.h). A row of a suite
 * goes through the same parser as the options, so both understand the same lists.
 */
#include "gemm_shapes.h"

#include "json.h"
#include "options.h"
#include "shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_EXTENT (INT64_C(1) << 31)
/* Nobody waits for more; the list of them takes some 50 MB. */
#define MOST_SHAPES ((size_t)1 << 20)

static const char *const layout_words[] = {"nn", "nt", "tn", "tt"};

/* A suite's beginning (summary set) or one of its rows of shapes. */
static const struct row {
    const char *suite, *summary;
    const char *m, *n, *k, *batch, *layouts;
} rows[] = {
#define SUITE(name, summary) {name, summary, NULL, NULL, NULL, NULL, NULL},
#define SHAPES(m, n, k, batch, layouts) {NULL, NULL, m, n, k, batch, layouts},
#include "gemm_suites.def"
#undef SUITE
#undef SHAPES
};
#define ROWS (sizeof rows / sizeof *rows)

static bool append(gemm_shapes *shapes, const gemm_shape *shape) {
    if (shapes->count == MOST_SHAPES) {
        complain("more than %zu shapes", MOST_SHAPES);
        return false;
    }
    if (shapes->count == shapes->capacity) {
        const size_t capacity = shapes->capacity ? 2 * shapes->capacity : 64;
        gemm_shape *items = realloc(shapes->items, capacity * sizeof *items);
        if (!items) {
            complain("out of memory");
            return false;
        }
        shapes->items = items;
        shapes->capacity = capacity;
    }
    shapes->items[shapes->count++] = *shape;
    return true;
}

/* What is combined with each m, n, k. */
typedef struct variants {
    const char *suite;
    int layouts[4];
    size_t layout_count;
    shapes_list batch;
} variants;

static bool combine(const variants *v, int64_t m, int64_t n, int64_t k, gemm_shapes *shapes) {
    for (size_t l = 0; l < v->layout_count; ++l)
        for (size_t b = 0; b < v->batch.rows; ++b) {
            const gemm_shape shape = {
                v->suite, m, n, k, v->batch.values[b], layout_words[v->layouts[l]]};
            if (!append(shapes, &shape))
                return false;
        }
    return true;
}

static bool combine_lists(const variants *v, const shapes_list *m, const shapes_list *n,
                          const shapes_list *k, gemm_shapes *shapes) {
    for (size_t i = 0; i < m->rows; ++i)
        for (size_t j = 0; j < n->rows; ++j)
            for (size_t p = 0; p < k->rows; ++p)
                if (!combine(v, m->values[i], n->values[j], k->values[p], shapes))
                    return false;
    return true;
}

/* The shapes of one set of options, none of them of a suite unless `suite` says so. */
static bool read_options(const gemm_shapes_options *o, const char *suite, gemm_shapes *shapes) {
    const bool separate = o->m || o->n || o->k;
    if (separate && !(o->m && o->n && o->k)) {
        complain("--m, --n and --k are given together (%s is missing)", !o->m   ? "--m"
                                                                        : !o->n ? "--n"
                                                                                : "--k");
        return false;
    }
    const char *mnk_text = separate || o->mnk ? o->mnk : "1024,2048";
    shapes_list m = {0}, n = {0}, k = {0}, mnk = {0};
    variants v = {.suite = suite};
    bool ok = false;
    v.layout_count =
        shapes_parse_words("--layout", o->layout ? o->layout : "nn", layout_words, 4, v.layouts, 4);
    if (v.layout_count == 0 ||
        (separate && (!shapes_parse_list("--m", o->m, 1, MOST_EXTENT, &m) ||
                      !shapes_parse_list("--n", o->n, 1, MOST_EXTENT, &n) ||
                      !shapes_parse_list("--k", o->k, 1, MOST_EXTENT, &k))) ||
        (mnk_text && !shapes_parse_tuples("--mnk", mnk_text, 3, true, &mnk)) ||
        !shapes_parse_list("--batch", o->batch ? o->batch : "1", 1, MOST_EXTENT, &v.batch))
        goto out;
    ok = true;
    for (size_t i = 0; ok && i < mnk.rows; ++i)
        ok = combine(&v, mnk.values[3 * i], mnk.values[3 * i + 1], mnk.values[3 * i + 2], shapes);
    ok = ok && combine_lists(&v, &m, &n, &k, shapes);
out:
    shapes_free(&m);
    shapes_free(&n);
    shapes_free(&k);
    shapes_free(&mnk);
    shapes_free(&v.batch);
    return ok;
}

/* The shapes of the suite that begins at rows[at]. */
static bool read_suite(size_t at, gemm_shapes *shapes) {
    const char *suite = rows[at].suite;
    for (++at; at < ROWS && !rows[at].suite; ++at) {
        const struct row *row = &rows[at];
        const bool cubes = row->n[0] == '\0';
        const gemm_shapes_options options = {.m = cubes ? NULL : row->m,
                                             .n = cubes ? NULL : row->n,
                                             .k = cubes ? NULL : row->k,
                                             .mnk = cubes ? row->m : NULL,
                                             .batch = row->batch,
                                             .layout = row->layouts};
        if (!read_options(&options, suite, shapes))
            return false;
    }
    return true;
}

/* What of a suite is wanted: an empty list is all. */
typedef struct filter {
    shapes_list m, n, k, batch;
    int layouts[4];
    size_t layout_count;
} filter;

static bool read_filter(const gemm_shapes_options *o, filter *f) {
    if (o->mnk) {
        complain("--suite brings its own shapes: --m, --n, --k, --batch and --layout choose among "
                 "them, --mnk does not");
        return false;
    }
    f->layout_count =
        o->layout ? shapes_parse_words("--layout", o->layout, layout_words, 4, f->layouts, 4) : 0;
    return (!o->layout || f->layout_count > 0) &&
           (!o->m || shapes_parse_list("--m", o->m, 1, MOST_EXTENT, &f->m)) &&
           (!o->n || shapes_parse_list("--n", o->n, 1, MOST_EXTENT, &f->n)) &&
           (!o->k || shapes_parse_list("--k", o->k, 1, MOST_EXTENT, &f->k)) &&
           (!o->batch || shapes_parse_list("--batch", o->batch, 1, MOST_EXTENT, &f->batch));
}

static bool among(const shapes_list *list, int64_t value) {
    size_t i = 0;
    while (i < list->rows && list->values[i] != value)
        ++i;
    return list->rows == 0 || i < list->rows;
}

static bool passes(const filter *f, const gemm_shape *shape) {
    bool layout = f->layout_count == 0;
    for (size_t i = 0; i < f->layout_count; ++i)
        layout |= strcmp(layout_words[f->layouts[i]], shape->layout) == 0;
    return layout && among(&f->m, shape->m) && among(&f->n, shape->n) && among(&f->k, shape->k) &&
           among(&f->batch, shape->batch);
}

static bool read_suites(const gemm_shapes_options *o, gemm_shapes *shapes) {
    const char *names[ROWS];
    size_t at[ROWS], count = 0, kept = 0;
    int chosen[ROWS];
    filter wanted = {0};
    bool ok = false;
    for (size_t i = 0; i < ROWS; ++i)
        if (rows[i].suite) {
            names[count] = rows[i].suite;
            at[count++] = i;
        }
    const size_t suites = shapes_parse_words("--suite", o->suites, names, count, chosen,
                                             sizeof chosen / sizeof *chosen);
    if (suites == 0 || !read_filter(o, &wanted))
        goto out;
    for (size_t i = 0; i < suites; ++i)
        if (!read_suite(at[chosen[i]], shapes))
            goto out;
    for (size_t i = 0; i < shapes->count; ++i)
        if (passes(&wanted, &shapes->items[i]))
            shapes->items[kept++] = shapes->items[i];
    shapes->count = kept;
    ok = kept > 0;
    if (!ok)
        complain("--suite %s: none of its shapes is wanted by the other options", o->suites);
out:
    shapes_free(&wanted.m);
    shapes_free(&wanted.n);
    shapes_free(&wanted.k);
    shapes_free(&wanted.batch);
    return ok;
}

bool gemm_shapes_read(const gemm_shapes_options *o, gemm_shapes *shapes) {
    return o->suites ? read_suites(o, shapes) : read_options(o, NULL, shapes);
}

void gemm_shapes_print(const gemm_shapes *shapes, bool json) {
    for (size_t i = 0; i < shapes->count; ++i) {
        const gemm_shape *s = &shapes->items[i];
        if (!json) {
            printf("%s%sm=%lld n=%lld k=%lld batch=%lld layout=%s\n", s->suite ? s->suite : "",
                   s->suite ? " " : "", (long long)s->m, (long long)s->n, (long long)s->k,
                   (long long)s->batch, s->layout);
            continue;
        }
        json_writer writer = {0};
        json_object(&writer, NULL);
        json_text(&writer, "op", "gemm");
        json_int(&writer, "m", s->m);
        json_int(&writer, "n", s->n);
        json_int(&writer, "k", s->k);
        json_int(&writer, "batch", s->batch);
        json_text(&writer, "layout", s->layout);
        json_text(&writer, "suite", s->suite);
        json_object_end(&writer);
    }
}

void gemm_suites_print(bool json) {
    for (size_t i = 0; i < ROWS; ++i) {
        const struct row *row = &rows[i];
        if (json && row->suite) {
            json_writer writer = {0};
            json_object(&writer, NULL);
            json_text(&writer, "suite", row->suite);
            json_text(&writer, "summary", row->summary);
            json_object_end(&writer);
        } else if (row->suite) {
            printf("%s%-9s%s\n", i ? "\n" : "", row->suite, row->summary);
        } else if (!json) {
            printf("  %s%s%s%s%s, batch %s, %s\n", row->m, row->n[0] ? " x " : " cubed", row->n,
                   row->k[0] ? " x " : "", row->k, row->batch, row->layouts);
        }
    }
}

void gemm_shapes_free(gemm_shapes *shapes) {
    free(shapes->items);
    *shapes = (gemm_shapes){0};
}
