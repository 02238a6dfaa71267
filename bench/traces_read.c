/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces_read.c: files of allocations: tenon's own recordings, Azure's requests, lifetimes of
 * tensors. See traces.h.
 *
 * A file may be anything at all: cut off, of another kind, endless. Every line is checked, and what
 * is wrong is told with its number.
 */
#include "traces.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 1024, MOST_TOKENS = 1 << 28 };

typedef struct reader {
    FILE *file;
    const char *name;
    uint64_t number; /* of the line */
    char line[LINE]; /* without its end */
    bool cut;        /* the last line had no end */
    traces_error *error;
} reader;

static bool wrong(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(reader *r, const char *format, ...) {
    char why[160];
    va_list values;
    va_start(values, format);
    vsnprintf(why, sizeof why, format, values);
    va_end(values);
    for (char *at = why; *at != '\0'; ++at) /* a piece of the file may be in it */
        if (*at < 0x20 || *at > 0x7e)
            *at = '?';
    snprintf(r->error->text, sizeof r->error->text, "%.80s, line %llu: %s", r->name,
             (unsigned long long)r->number, why);
    return false;
}

static bool no_memory(reader *r, const traces *t) {
    return wrong(r, "no memory after %zu events", t->events_count);
}

/* 1: a line; 0: the end; -1: what is there is no line of text. */
static int next_line(reader *r) {
    size_t length = 0;
    int c;
    while ((c = getc(r->file)) != EOF && c != '\n') {
        if (c == 0 || length == LINE - 1) {
            ++r->number;
            wrong(r, c == 0 ? "a zero byte; not a text" : "longer than %d bytes", LINE - 1);
            return -1;
        }
        r->line[length++] = (char)c;
    }
    if (c == EOF && ferror(r->file)) {
        wrong(r, "can't be read further");
        return -1;
    }
    if (c == EOF && length == 0)
        return 0;
    if (length != 0 && r->line[length - 1] == '\r')
        --length;
    r->line[length] = '\0';
    r->cut = c == EOF;
    ++r->number;
    return 1;
}

/* A whole number from 0 up at *at, which moves behind it and the character `end` ('\0': the line's
 * end). */
static bool number(const char **at, char end, uint64_t *out) {
    const char *digit = *at;
    uint64_t value = 0;
    for (; *digit >= '0' && *digit <= '9'; ++digit) {
        unsigned units = (unsigned)(*digit - '0');
        if (value > (UINT64_MAX - units) / 10)
            return false;
        value = 10 * value + units;
    }
    if (digit == *at || *digit != end)
        return false;
    *at = digit + (end != '\0');
    *out = value;
    return true;
}

static bool word(const char **at, const char *expected) {
    size_t length = strlen(expected);
    if (strncmp(*at, expected, length) != 0)
        return false;
    *at += length;
    return true;
}

/* ---- recordings ---- */

/* Which block an identity names: open addressing, a power of two of places. */
typedef struct name_place {
    uint64_t id;
    uint32_t block;
    enum { EMPTY, LIVE, GONE } state;
} name_place;

typedef struct names {
    name_place *places;
    size_t count, capacity; /* places in use, GONE ones included */
} names;

static name_place *name_find(const names *n, uint64_t id) {
    size_t at = (size_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (n->capacity - 1);
    while (n->places[at].state != EMPTY && n->places[at].id != id)
        at = (at + 1) & (n->capacity - 1);
    return &n->places[at];
}

/* Room for one more. Places of blocks that are gone are left behind. */
static bool name_room(names *n) {
    if (2 * (n->count + 1) <= n->capacity)
        return true;
    names more = {.capacity = n->capacity != 0 ? 2 * n->capacity : 1024};
    more.places = calloc(more.capacity, sizeof *more.places);
    if (more.places == NULL)
        return false;
    for (size_t i = 0; i < n->capacity; ++i)
        if (n->places[i].state == LIVE) {
            *name_find(&more, n->places[i].id) = n->places[i];
            ++more.count;
        }
    free(n->places);
    *n = more;
    return true;
}

static bool read_alloc(reader *r, traces *t, names *n, const char *at) {
    uint64_t id, bytes, alignment;
    if (!number(&at, ' ', &id) || !number(&at, ' ', &bytes) || !number(&at, ' ', &alignment))
        return wrong(r, "expected `alloc ID BYTES ALIGNMENT OWNER`, not \"%.40s\"", r->line);
    if (bytes > TRACES_MOST_BYTES)
        return wrong(r, "a block of %" PRIu64 " bytes; expected at most %zu", bytes,
                     TRACES_MOST_BYTES);
    if (alignment == 0 || alignment > 4096 || (alignment & (alignment - 1)) != 0)
        return wrong(r, "alignment %" PRIu64 "; expected a power of two up to 4096", alignment);
    if (!name_room(n))
        return no_memory(r, t);
    name_place *place = name_find(n, id);
    if (place->state == LIVE)
        return wrong(r, "block %" PRIu64 " is allocated again without a free", id);
    uint32_t block;
    if (!traces_alloc(t, (size_t)bytes, (uint32_t)alignment, at, &block))
        return no_memory(r, t);
    n->count += place->state == EMPTY;
    *place = (name_place){.id = id, .block = block, .state = LIVE};
    return true;
}

static bool read_free(reader *r, traces *t, names *n, const char *at) {
    uint64_t id;
    if (!number(&at, '\0', &id))
        return wrong(r, "expected `free ID`, not \"%.40s\"", r->line);
    name_place *place = n->capacity != 0 ? name_find(n, id) : NULL;
    if (place == NULL || place->state != LIVE) {
        ++t->dropped; /* allocated before the recording began */
        return true;
    }
    place->state = GONE;
    return traces_release(t, place->block) || no_memory(r, t);
}

static bool read_tenon_line(reader *r, traces *t, names *n) {
    const char *at = r->line;
    uint64_t bytes;
    if (word(&at, "alloc "))
        return read_alloc(r, t, n, at);
    if (word(&at, "free "))
        return read_free(r, t, n, at);
    if (word(&at, "segment+ ") || word(&at, "segment- ") || word(&at, "fail "))
        return number(&at, '\0', &bytes) || wrong(r, "expected a number of bytes");
    return wrong(r, "expected alloc, free, segment+, segment- or fail, not \"%.40s\"", r->line);
}

static bool read_tenon(reader *r, traces *t) {
    names n = {0};
    bool fine = true;
    int got = 1;
    do {
        if (r->cut) { /* the program ended in the middle of it; its numbers may be cut too */
            ++t->dropped;
            break;
        }
        fine = read_tenon_line(r, t, &n);
    } while (fine && (got = next_line(r)) > 0);
    free(n.places);
    return fine && got >= 0;
}

/* ---- requests ---- */

/* Days since some day, of a date of the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level
 * Date Algorithms"). */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t century = year / 400, of_century = year - 400 * century;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return century * 146097 + of_century * 365 + of_century / 4 - of_century / 100 + of_year;
}

static bool read_request(reader *r, traces_request *request) {
    unsigned year, month, day, hour, minute;
    double second;
    uint64_t prompt, output;
    int read = 0;
    if (sscanf(r->line, "%4u-%2u-%2u %2u:%2u:%lf%n", &year, &month, &day, &hour, &minute, &second,
               &read) != 6 ||
        month < 1 || month > 12 || !(second >= 0 && second < 61) || r->line[read] != ',')
        return wrong(r, "expected a time, tokens, tokens, not \"%.60s\"", r->line);
    const char *at = r->line + read + 1;
    if (!number(&at, ',', &prompt) || !number(&at, '\0', &output))
        return wrong(r, "expected two numbers of tokens, not \"%.60s\"", r->line);
    if (prompt > MOST_TOKENS || output > MOST_TOKENS)
        return wrong(r, "more than %d tokens", MOST_TOKENS);
    *request = (traces_request){
        .arrival = (double)(days_of(year, month, day) * 86400 + hour * 3600 + minute * 60) + second,
        .prompt = (int64_t)prompt,
        .output = (int64_t)output};
    return true;
}

static bool read_azure(reader *r, traces *t, const traces_server *server) {
    traces_request *requests = NULL;
    size_t count = 0, capacity = 0;
    bool fine = true;
    int got;
    while (fine && (got = next_line(r)) > 0) {
        if (count == capacity) {
            size_t more = capacity != 0 ? 2 * capacity : 4096;
            traces_request *larger = realloc(requests, more * sizeof *larger);
            if (larger == NULL) {
                fine = no_memory(r, t);
                break;
            }
            requests = larger;
            capacity = more;
        }
        fine = read_request(r, &requests[count]);
        if (fine && count != 0 && requests[count].arrival < requests[count - 1].arrival)
            fine = wrong(r, "earlier than the line before");
        ++count;
    }
    fine = fine && got >= 0 && traces_serve(t, requests, count, server, r->error);
    free(requests);
    return fine;
}

/* ---- lifetimes ---- */

typedef struct moment {
    uint64_t step;
    uint32_t object;
    bool end;
} moment;

/* What ends at a step makes room for what begins there. */
static int by_time(const void *left, const void *right) {
    const moment *a = left, *b = right;
    if (a->step != b->step)
        return a->step < b->step ? -1 : 1;
    if (a->end != b->end)
        return a->end ? -1 : 1;
    return a->object < b->object ? -1 : a->object > b->object;
}

typedef struct objects {
    moment *moments; /* two for each */
    size_t *bytes;
    size_t count, capacity;
} objects;

static bool read_object(reader *r, objects *o) {
    if (o->count == o->capacity) {
        size_t more = o->capacity != 0 ? 2 * o->capacity : 1024;
        moment *moments = realloc(o->moments, 2 * more * sizeof *moments);
        if (moments != NULL)
            o->moments = moments;
        size_t *bytes = realloc(o->bytes, more * sizeof *bytes);
        if (bytes != NULL)
            o->bytes = bytes;
        if (moments == NULL || bytes == NULL || more > UINT32_MAX)
            return wrong(r, "no memory after %zu objects", o->count);
        o->capacity = more;
    }
    const char *at = r->line;
    uint64_t id, lower, upper, bytes;
    if (!number(&at, ',', &id) || !number(&at, ',', &lower) || !number(&at, ',', &upper) ||
        !number(&at, '\0', &bytes))
        return wrong(r, "expected id,lower,upper,size, not \"%.60s\"", r->line);
    if (lower >= upper)
        return wrong(r, "object %" PRIu64 " ends before it begins", id);
    if (bytes > TRACES_MOST_BYTES)
        return wrong(r, "an object of %" PRIu64 " bytes; expected at most %zu", bytes,
                     TRACES_MOST_BYTES);
    uint32_t object = (uint32_t)o->count++;
    o->bytes[object] = (size_t)bytes;
    o->moments[2 * object] = (moment){.step = lower, .object = object};
    o->moments[2 * object + 1] = (moment){.step = upper, .object = object, .end = true};
    return true;
}

static bool read_lifetimes(reader *r, traces *t) {
    objects o = {0};
    bool fine = true;
    int got;
    while (fine && (got = next_line(r)) > 0)
        fine = read_object(r, &o);
    fine = fine && got >= 0;
    uint32_t *blocks = fine && o.count != 0 ? malloc(o.count * sizeof *blocks) : NULL;
    if (fine && o.count != 0 && blocks == NULL)
        fine = no_memory(r, t);
    if (fine && o.count != 0)
        qsort(o.moments, 2 * o.count, sizeof *o.moments, by_time);
    for (size_t i = 0; i < 2 * o.count && fine; ++i) {
        uint32_t object = o.moments[i].object;
        fine = o.moments[i].end ? traces_release(t, blocks[object])
                                : traces_alloc(t, o.bytes[object], 64, "tensor", &blocks[object]);
        if (!fine)
            no_memory(r, t);
    }
    free(blocks);
    free(o.moments);
    free(o.bytes);
    return fine;
}

/* ---- */

static const char azure_title[] = "TIMESTAMP,ContextTokens,GeneratedTokens";
static const char lifetimes_title[] = "id,lower,upper,size";

static traces_format guess(const char *line) {
    if (strcmp(line, azure_title) == 0)
        return TRACES_AZURE;
    if (strcmp(line, lifetimes_title) == 0)
        return TRACES_LIFETIMES;
    static const char *const first[] = {"alloc ", "free ", "segment", "fail "};
    for (size_t i = 0; i < sizeof first / sizeof *first; ++i)
        if (strncmp(line, first[i], strlen(first[i])) == 0)
            return TRACES_TENON;
    return TRACES_AUTO;
}

bool traces_read(traces *t, FILE *file, const char *name, traces_format format,
                 const traces_server *server, traces_error *error) {
    reader r = {.file = file, .name = name, .error = error};
    *t = (traces){0};
    int got = next_line(&r);
    if (got == 0) {
        ++r.number;
        wrong(&r, "the file is empty");
    }
    if (got <= 0)
        return false;
    traces_format seen = guess(r.line);
    if (format == TRACES_AUTO)
        format = seen;
    bool fine = false;
    if (format == TRACES_AUTO)
        wrong(&r, "neither a recording nor a trace that is known: \"%.40s\"", r.line);
    else if (format != TRACES_TENON && seen != format)
        wrong(&r, "expected the title \"%s\", not \"%.40s\"",
              format == TRACES_AZURE ? azure_title : lifetimes_title, r.line);
    else if (format == TRACES_TENON)
        fine = read_tenon(&r, t);
    else if (format == TRACES_AZURE)
        fine = read_azure(&r, t, server);
    else
        fine = read_lifetimes(&r, t);
    if (fine && t->events_count == 0)
        fine = wrong(&r, "there is no allocation in it");
    if (!fine)
        traces_free(t);
    return fine;
}
