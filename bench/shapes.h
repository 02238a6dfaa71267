/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shapes.h: numbers from the command line: lists and ranges ("1,2,4..64:4", "1..1024*2"), tuples
 * ("1024x512x64") and single values. Every function names the option in what it says on stderr when
 * the text does not parse.
 */
#ifndef BENCH_SHAPES_H
#define BENCH_SHAPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHAPES_MOST_VALUES 4096
#define SHAPES_MOST_PARTS 5

/* A list of `rows` tuples of `parts` numbers each, row after row. */
typedef struct shapes_list {
    int64_t *values;
    size_t rows;
    size_t parts;
} shapes_list;

/*
 * Parses a comma list of numbers and ranges: A..B (step 1), A..B:S (adding S), A..B*F (multiplying
 * by F), both ends included. False, after a sentence on stderr, when the text is malformed or a
 * value is outside [low, high].
 */
bool shapes_parse_list(const char *option, const char *text, int64_t low, int64_t high,
                       shapes_list *out);

/*
 * Parses a comma list of tuples AxBxC of exactly `parts` numbers from 1 up. With `cubes`, an item
 * may also be a number or range as above, which stands for the tuple of `parts` times that number.
 */
bool shapes_parse_tuples(const char *option, const char *text, size_t parts, bool cubes,
                         shapes_list *out);

/* One whole number in [low, high]; one finite number of seconds from 0 up. */
bool shapes_parse_int(const char *option, const char *text, int64_t low, int64_t high,
                      int64_t *out);
bool shapes_parse_seconds(const char *option, const char *text, double *out);

/*
 * Parses a comma list of words, each one of `words` (`count` of them), into their indices. At most
 * `capacity` items; returns how many there are, 0 after a sentence on stderr.
 */
size_t shapes_parse_words(const char *option, const char *text, const char *const *words,
                          size_t count, int *out, size_t capacity);

void shapes_free(shapes_list *list);

#endif
