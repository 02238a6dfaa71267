/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory_picture.c: `tenon memory picture FILE`: where a pool puts a trace's blocks, as SVG:
 * events to the right, addresses upwards, one rectangle for each block, and below it what was alive
 * and what was held.
 *
 * A recording has no addresses, so it is replayed against a pool; addresses that nobody ever used
 * are left out of the axis.
 */
#include "commands.h"

#include "options.h"
#include "shapes.h"
#include "table.h"
#include "traces_input.h"

#include <tenon/tenon.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 960,
    LEFT = 76,
    RIGHT = 200,
    TOP = 44,
    MAP = 400, /* height of the map of blocks */
    GAP = 34,
    CURVES = 110, /* and of the curves below */
    PLOT = WIDTH - LEFT - RIGHT,
    MOST_BLOCKS = 50000, /* more would be less than a pixel each and a file of many megabytes */
    COLOURS = 10
};

/* clang-format off */
static const char *const notes =
    TRACES_INPUT_NOTES "\n\n"
    "The picture goes to stdout. Up to 50000 blocks are drawn; --from and --to take a part of a longer\n"
    "trace.";

/* Distinct on light and dark pages (Tableau 10). */
static const char *const colours[COLOURS] = {"#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2",
                                             "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac"};
/* clang-format on */

/* A block's place in the picture. */
typedef struct tile {
    uintptr_t address;
    size_t bytes, first, last; /* events */
    uint32_t owner;
    size_t y; /* bytes from the axis, when addresses nobody used are left out */
} tile;

typedef struct sample {
    size_t live, reserved;
} sample;

typedef struct picture {
    const traces *t;
    size_t from, to;
    tile *tiles;
    size_t count;
    sample samples[PLOT]; /* the most in each column */
    size_t height;        /* bytes */
} picture;

/* The column of an event. */
static size_t column(const picture *p, size_t event) {
    return (event - p->from) * PLOT / (p->to - p->from);
}

static double x_of(const picture *p, size_t event) {
    return LEFT + (double)(event - p->from) * PLOT / (double)(p->to - p->from);
}

static void take_sample(picture *p, tenon_pool *pool, size_t event) {
    tenon_memory_info info = {.struct_size = sizeof info};
    if (event < p->from || event >= p->to || tenon_memory_stats(pool, &info) != TENON_OK)
        return;
    sample *s = &p->samples[column(p, event)];
    s->live = info.in_use > s->live ? info.in_use : s->live;
    s->reserved = info.reserved > s->reserved ? info.reserved : s->reserved;
}

/* Plays the trace and fills the tiles of the window. False after a sentence. */
static bool play(picture *p, tenon_pool *pool) {
    const traces *t = p->t;
    tenon_buffer **buffers = calloc(t->blocks_count, sizeof *buffers);
    size_t *tile_of = malloc(t->blocks_count * sizeof *tile_of);
    bool fine = buffers != NULL && tile_of != NULL;
    if (!fine)
        complain("no memory for %zu blocks", t->blocks_count);
    for (size_t i = 0; i < p->to && fine; ++i) {
        const uint32_t block = t->events[i].block;
        const traces_block *b = &t->blocks[block];
        if (t->events[i].free) {
            tile *closed = &p->tiles[tile_of[block]];
            closed->last = i;
            if (i <= p->from) { /* gone before the window: its tile is used again */
                *closed = p->tiles[--p->count];
                tile_of[closed->y] = tile_of[block];
            }
            tenon_buffer_free(buffers[block]);
            buffers[block] = NULL;
        } else if (tenon_buffer_alloc_aligned(pool, b->bytes, b->alignment, t->owners[b->owner],
                                              &buffers[block]) != TENON_OK) {
            complain("%s", tenon_error_message(NULL));
            fine = false;
        } else if (p->count == MOST_BLOCKS) {
            complain("more than %d blocks; --from EVENT and --to EVENT take a part of the %zu "
                     "events",
                     MOST_BLOCKS, t->events_count);
            fine = false;
        } else {
            tile_of[block] = p->count;
            p->tiles[p->count++] = (tile){.address = (uintptr_t)tenon_buffer_host(buffers[block]),
                                          .bytes = b->bytes != 0 ? b->bytes : 1,
                                          .first = i > p->from ? i : p->from,
                                          .last = p->to,
                                          .owner = b->owner,
                                          .y = block}; /* until placed: which block it is */
        }
        if (fine)
            take_sample(p, pool, i);
    }
    for (size_t i = 0; buffers != NULL && i < t->blocks_count; ++i)
        tenon_buffer_free(buffers[i]);
    free(buffers);
    free(tile_of);
    return fine;
}

static int by_address(const void *left, const void *right) {
    const tile *a = left, *b = right;
    return a->address < b->address ? -1 : a->address > b->address;
}

/* Moves the tiles down over addresses that nobody used. */
static void place(picture *p) {
    if (p->count == 0)
        return;
    qsort(p->tiles, p->count, sizeof *p->tiles, by_address);
    uintptr_t start = p->tiles[0].address, end = start; /* of the run of used addresses */
    size_t below = 0;
    for (size_t i = 0; i < p->count; ++i) {
        tile *one = &p->tiles[i];
        if (one->address > end) {
            below += end - start;
            start = end = one->address;
        }
        one->y = below + (one->address - start);
        if (one->address + one->bytes > end)
            end = one->address + one->bytes;
    }
    p->height = below + (end - start);
}

/* ---- drawing ---- */

static void draw_text(double x, double y, const char *anchor, const char *text) {
    printf("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    for (; *text != '\0'; ++text)
        switch (*text) {
        case '<':
            fputs("&lt;", stdout);
            break;
        case '>':
            fputs("&gt;", stdout);
            break;
        case '&':
            fputs("&amp;", stdout);
            break;
        default:
            putchar((unsigned char)*text < 0x20 ? ' ' : *text);
        }
    puts("</text>");
}

static void draw_scale(double top, double height, size_t most) {
    char text[32];
    for (int i = 0; i <= 4; ++i) {
        const double y = top + height - height * i / 4;
        printf("<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT,
               LEFT + PLOT, y, y);
        draw_text(LEFT - 8, y + 4, "end", table_bytes(most / 4 * (size_t)i, text, sizeof text));
    }
}

static void draw_tiles(const picture *p) {
    size_t held[TRACES_MOST_OWNERS] = {0};
    for (size_t i = 0; i < p->count; ++i) {
        const tile *one = &p->tiles[i];
        const double scale = (double)MAP / (double)p->height, x = x_of(p, one->first);
        const double high = (double)one->bytes * scale, y = TOP + MAP - (double)one->y * scale;
        printf("<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" class=\"c%u\"/>\n", x,
               y - high, x_of(p, one->last) - x, high, one->owner % COLOURS);
        held[one->owner] += one->bytes;
    }
    double y = TOP + 10;
    for (uint32_t owner = 0; owner < p->t->owners_count && y < TOP + MAP; ++owner) {
        if (held[owner] == 0)
            continue;
        printf("<rect x=\"%d\" y=\"%.1f\" width=\"12\" height=\"12\" class=\"c%u\"/>\n",
               LEFT + PLOT + 16, y - 10, owner % COLOURS);
        draw_text(LEFT + PLOT + 34, y, "start", p->t->owners[owner]);
        y += 18;
    }
}

static void draw_curve(const picture *p, double top, size_t most, bool live) {
    printf("<polyline class=\"%s\" points=\"", live ? "live" : "held");
    size_t value = 0;
    for (int x = 0; x < PLOT; ++x) {
        const sample *s = &p->samples[x];
        if (s->reserved != 0) /* a short trace leaves columns between its events */
            value = live ? s->live : s->reserved;
        printf("%d,%.1f ", LEFT + x, top + CURVES - (double)value / (double)most * CURVES);
    }
    puts("\"/>");
    draw_text(LEFT + PLOT + 16,
              top + CURVES - (double)value / (double)most * CURVES + (live ? 14 : -4), "start",
              live ? "in use" : "reserved");
}

static void draw(const picture *p, const char *title) {
    const double below = TOP + MAP + GAP;
    char text[160], live[32], reserved[32];
    size_t most = 1, most_live = 0;
    for (int x = 0; x < PLOT; ++x) {
        most = p->samples[x].reserved > most ? p->samples[x].reserved : most;
        most_live = p->samples[x].live > most_live ? p->samples[x].live : most_live;
    }
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
           "font-family=\"sans-serif\" font-size=\"13\">\n<style>text{fill:#333}"
           ".axis{stroke:#999;stroke-opacity:0.4}polyline{fill:none;stroke-width:1.5}"
           ".live{stroke:#4e79a7}.held{stroke:#e15759}rect{fill-opacity:0.85}",
           WIDTH, TOP + MAP + GAP + CURVES + 30);
    for (int i = 0; i < COLOURS; ++i)
        printf(".c%d{fill:%s}", i, colours[i]);
    puts("@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>");
    snprintf(text, sizeof text, "%.60s: %zu blocks by address over %zu events; %s in use, %s held",
             title, p->count, p->to - p->from, table_bytes(most_live, live, sizeof live),
             table_bytes(most, reserved, sizeof reserved));
    draw_text(LEFT, 22, "start", text);
    draw_scale(TOP, MAP, p->height);
    draw_tiles(p);
    draw_scale(below, CURVES, most);
    draw_curve(p, below, most, false);
    draw_curve(p, below, most, true);
    snprintf(text, sizeof text, "event %zu", p->from);
    draw_text(LEFT, below + CURVES + 20, "start", text);
    snprintf(text, sizeof text, "event %zu", p->to);
    draw_text(LEFT + PLOT, below + CURVES + 20, "end", text);
    puts("</svg>");
}

int command_memory_picture(int argc, char **argv) {
    traces_input input = {.file = NULL};
    const char *from = NULL, *to = NULL, *title = NULL;
    const options_row rows[] = {
        TRACES_INPUT_ROWS(&input),
        {"--from", "EVENT", "the first event drawn (default: 0)", &from, NULL},
        {"--to", "EVENT", "the first one not drawn (default: the end)", &to, NULL},
        {"--title", "TEXT", "above the picture (default: the file)", &title, NULL},
        {0},
    };
    const options_command command = {"tenon memory picture FILE",
                                     "Draws where a pool puts a trace's blocks, as SVG.", notes,
                                     rows};
    if (!traces_input_file(&input, "tenon memory picture", &argc, &argv))
        return EXIT_USAGE;
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;
    traces t;
    int code = traces_input_read(&input, &t);
    if (code != EXIT_FINE)
        return code;

    tenon_pool_desc desc = {.struct_size = sizeof desc, .budget = TENON_NO_BUDGET};
    tenon_pool *pool = NULL;
    picture *p = NULL;
    const int64_t events = (int64_t)t.events_count;
    int64_t first = 0, last = events;
    code = EXIT_USAGE;
    if ((from && !shapes_parse_int("--from", from, 0, events - 1, &first)) ||
        (to && !shapes_parse_int("--to", to, first + 1, events, &last)))
        goto out;
    code = EXIT_FAILED;
    p = calloc(1, sizeof *p);
    if (p != NULL)
        p->tiles = malloc(MOST_BLOCKS * sizeof *p->tiles);
    if (p == NULL || p->tiles == NULL) {
        complain("no memory for a picture");
        goto out;
    }
    p->t = &t;
    p->from = (size_t)first;
    p->to = (size_t)last;
    if (tenon_pool_create(&desc, &pool) != TENON_OK) {
        complain("%s", tenon_error_message(NULL));
        goto out;
    }
    if (!play(p, pool))
        goto out;
    place(p);
    const char *slash = strrchr(input.file, '/');
    draw(p, title ? title : slash ? slash + 1 : input.file);
    code = EXIT_FINE;
out:
    tenon_pool_destroy(pool);
    if (p != NULL)
        free(p->tiles);
    free(p);
    traces_free(&t);
    return code;
}
