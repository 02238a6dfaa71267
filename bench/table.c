/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c: aligned columns on stdout (see table.h), flushed row by row because a row may take
 * seconds to measure.
 */
#include "table.h"

#include "options.h"

#include <stdarg.h>
#include <stdio.h>

void table_begin(table *t) {
    *t = (table){0};
}

static void put(table *t, const char *text) {
    if (t->at == 0)
        progress_clear();
    const int width = t->widths[t->at];
    printf("%s%*s", t->at ? "  " : "", width, text);
    ++t->at;
}

void table_column(table *t, const char *title, int width) {
    t->widths[t->at] = width;
    put(t, title);
}

void table_cell(table *t, const char *format, ...) {
    char text[128];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    put(t, text);
}

void table_end_row(table *t) {
    putchar('\n');
    fflush(stdout);
    t->at = 0;
}

const char *table_seconds(double seconds, char *text, size_t capacity) {
    const struct {
        double unit;
        const char *name;
    } units[] = {{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}};
    size_t i = 0;
    while (i < 3 && seconds < units[i].unit)
        ++i;
    const double value = seconds / units[i].unit;
    snprintf(text, capacity, "%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, units[i].name);
    return text;
}

const char *table_bytes(size_t bytes, char *text, size_t capacity) {
    const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t i = 0;
    while (i < 4 && value >= 1024) {
        value /= 1024;
        ++i;
    }
    const int digits = value < 100 && value != (double)(size_t)value ? 1 : 0;
    snprintf(text, capacity, "%.*f %s", digits, value, names[i]);
    return text;
}
