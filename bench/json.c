/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c: the writer behind --json (see json.h). Ends each outermost object with a newline and a
 * flush, so that a reader at the other end of a pipe gets rows as they are measured.
 */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static void quoted(const char *text) {
    putchar('"');
    for (; *text; ++text) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void begin(json_writer *json, const char *name) {
    if (json->some[json->depth])
        fputs(", ", stdout);
    json->some[json->depth] = json->depth > 0;
    if (name) {
        quoted(name);
        fputs(": ", stdout);
    }
}

static void open_with(json_writer *json, const char *name, char bracket) {
    begin(json, name);
    putchar(bracket);
    json->some[++json->depth] = false;
}

static void end_with(json_writer *json, char bracket) {
    putchar(bracket);
    if (--json->depth == 0) {
        putchar('\n');
        fflush(stdout);
    }
}

void json_object(json_writer *json, const char *name) {
    open_with(json, name, '{');
}

void json_object_end(json_writer *json) {
    end_with(json, '}');
}

void json_list(json_writer *json, const char *name) {
    open_with(json, name, '[');
}

void json_list_end(json_writer *json) {
    end_with(json, ']');
}

void json_text(json_writer *json, const char *name, const char *value) {
    begin(json, name);
    if (value)
        quoted(value);
    else
        fputs("null", stdout);
}

void json_int(json_writer *json, const char *name, int64_t value) {
    begin(json, name);
    printf("%" PRId64, value);
}

void json_number(json_writer *json, const char *name, double value) {
    begin(json, name);
    if (isfinite(value))
        printf("%.6g", value);
    else
        fputs("null", stdout);
}

void json_bool(json_writer *json, const char *name, bool value) {
    begin(json, name);
    fputs(value ? "true" : "false", stdout);
}
