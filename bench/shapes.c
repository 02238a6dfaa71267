/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shapes.c: the parser behind --m 1,2,4..64:4 and its like (see shapes.h). It reads left to right,
 * keeps nothing but the list it builds, and says where it stopped.
 */
#include "shapes.h"

#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where the parser is and whom to blame. */
typedef struct cursor {
    const char *option;
    const char *text;
    const char *at;
    int64_t low;
    int64_t high;
} cursor;

static bool number(cursor *c, int64_t *out) {
    char *end = NULL;
    errno = 0;
    const long long value = *c->at >= '0' && *c->at <= '9' ? strtoll(c->at, &end, 10) : 0;
    if (!end) {
        complain("%s: '%s': a number was expected at '%s'", c->option, c->text, c->at);
        return false;
    }
    if (errno == ERANGE || value < c->low || value > c->high) {
        complain("%s: '%s': %.*s is outside %lld to %lld", c->option, c->text, (int)(end - c->at),
                 c->at, (long long)c->low, (long long)c->high);
        return false;
    }
    c->at = end;
    *out = value;
    return true;
}

static bool append(const cursor *c, shapes_list *list, const int64_t *row) {
    if (list->rows == SHAPES_MOST_VALUES) {
        complain("%s: '%s': more than %d values", c->option, c->text, SHAPES_MOST_VALUES);
        return false;
    }
    int64_t *values = realloc(list->values, (list->rows + 1) * list->parts * sizeof *values);
    if (!values) {
        complain("%s: out of memory", c->option);
        return false;
    }
    list->values = values;
    memcpy(values + list->rows++ * list->parts, row, list->parts * sizeof *row);
    return true;
}

static bool append_number(const cursor *c, shapes_list *list, int64_t value) {
    int64_t row[SHAPES_MOST_PARTS];
    for (size_t i = 0; i < list->parts; ++i)
        row[i] = value;
    return append(c, list, row);
}

/* The rest of A..B, A..B:S, A..B*F, after A has been read. */
static bool range(cursor *c, int64_t first, shapes_list *list) {
    int64_t last, step = 1;
    c->at += 2;
    if (!number(c, &last))
        return false;
    if (last < first) {
        complain("%s: '%s': a range runs upwards, not from %lld to %lld", c->option, c->text,
                 (long long)first, (long long)last);
        return false;
    }
    const char operation = *c->at == ':' || *c->at == '*' ? *c->at++ : 0;
    if (operation) {
        cursor step_cursor = *c;
        step_cursor.low = operation == '*' ? 2 : 1;
        step_cursor.high = INT64_MAX;
        if (!number(&step_cursor, &step))
            return false;
        c->at = step_cursor.at;
    }
    if (operation == '*' && first == 0) {
        complain("%s: '%s': a range that multiplies cannot start at 0", c->option, c->text);
        return false;
    }
    for (int64_t value = first;;) {
        if (!append_number(c, list, value))
            return false;
        if (operation == '*' ? value > last / step : step > last - value)
            return true;
        value = operation == '*' ? value * step : value + step;
    }
}

static bool item(cursor *c, bool tuples, bool plain, shapes_list *list) {
    int64_t row[SHAPES_MOST_PARTS];
    size_t read = 1;
    if (!number(c, &row[0]))
        return false;
    if (plain && c->at[0] == '.' && c->at[1] == '.')
        return range(c, row[0], list);
    if (plain && *c->at != 'x')
        return append_number(c, list, row[0]);
    while (tuples && read < list->parts && *c->at == 'x') {
        ++c->at;
        if (!number(c, &row[read++]))
            return false;
    }
    if (read != list->parts || *c->at == 'x') {
        complain("%s: '%s': %d numbers joined by x were expected", c->option, c->text,
                 (int)list->parts);
        return false;
    }
    return append(c, list, row);
}

static bool parse(cursor *c, bool tuples, bool plain, shapes_list *list) {
    for (;;) {
        if (!item(c, tuples, plain, list))
            break;
        if (*c->at == '\0')
            return true;
        if (*c->at != ',') {
            complain("%s: '%s': a comma was expected at '%s'", c->option, c->text, c->at);
            break;
        }
        ++c->at;
    }
    shapes_free(list);
    return false;
}

bool shapes_parse_list(const char *option, const char *text, int64_t low, int64_t high,
                       shapes_list *out) {
    cursor c = {.option = option, .text = text, .at = text, .low = low, .high = high};
    *out = (shapes_list){.parts = 1};
    return parse(&c, false, true, out);
}

bool shapes_parse_tuples(const char *option, const char *text, size_t parts, bool cubes,
                         shapes_list *out) {
    cursor c = {.option = option, .text = text, .at = text, .low = 1, .high = INT32_MAX};
    *out = (shapes_list){.parts = parts};
    return parse(&c, true, cubes, out);
}

bool shapes_parse_int(const char *option, const char *text, int64_t low, int64_t high,
                      int64_t *out) {
    cursor c = {.option = option, .text = text, .at = text, .low = low, .high = high};
    if (!number(&c, out))
        return false;
    if (*c.at != '\0') {
        complain("%s: '%s': one number was expected", option, text);
        return false;
    }
    return true;
}

bool shapes_parse_seconds(const char *option, const char *text, double *out) {
    char *end = NULL;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < 0) {
        complain("%s: '%s': a number of seconds was expected", option, text);
        return false;
    }
    *out = value;
    return true;
}

size_t shapes_parse_words(const char *option, const char *text, const char *const *words,
                          size_t count, int *out, size_t capacity) {
    size_t found = 0;
    for (const char *at = text;; ++at) {
        const size_t length = strcspn(at, ",");
        size_t word = 0;
        while (word < count &&
               (strlen(words[word]) != length || strncmp(words[word], at, length) != 0))
            ++word;
        if (word == count) {
            char known[256] = "";
            for (size_t i = 0; i < count; ++i) {
                strncat(known, i ? ", " : "", sizeof known - strlen(known) - 1);
                strncat(known, words[i], sizeof known - strlen(known) - 1);
            }
            complain("%s: '%.*s' is not one of %s", option, (int)length, at, known);
            return 0;
        }
        if (found == capacity) {
            complain("%s: '%s': more than %d items", option, text, (int)capacity);
            return 0;
        }
        out[found++] = (int)word;
        at += length;
        if (*at == '\0')
            return found;
    }
}

void shapes_free(shapes_list *list) {
    free(list->values);
    *list = (shapes_list){0};
}
