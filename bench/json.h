/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h: writes JSON objects, one per line, to stdout. Members go out in the order of the calls; a
 * number that is NaN or infinite, which JSON cannot say, is written as null.
 */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <stdbool.h>
#include <stdint.h>

/* Nesting is at most this deep. */
#define JSON_DEPTH 8

typedef struct json_writer {
    bool some[JSON_DEPTH]; /* whether the open object or list at this depth has a member yet */
    int depth;
} json_writer;

/* An object or list as a member (name set), as an item of a list or as a line of its own (name
 * NULL). */
void json_object(json_writer *json, const char *name);
void json_object_end(json_writer *json);
void json_list(json_writer *json, const char *name);
void json_list_end(json_writer *json);

void json_text(json_writer *json, const char *name, const char *value); /* NULL: null */
void json_int(json_writer *json, const char *name, int64_t value);
void json_number(json_writer *json, const char *name, double value);
void json_bool(json_writer *json, const char *name, bool value);

#endif
