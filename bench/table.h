/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h: rows of aligned columns on stdout, printed as they come: widths are fixed by the
 * columns' own description, and a cell that is too wide pushes its line, not the table. Also the
 * formats of quantities.
 */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include <stddef.h>

#define TABLE_MOST_COLUMNS 32

typedef struct table {
    int widths[TABLE_MOST_COLUMNS]; /* negative: aligned to the left */
    int at;                         /* the next cell of the open row */
} table;

/* Starts a table: forgets the columns. */
void table_begin(table *t);

/* Declares a column and prints its title; the line of titles ends with table_end_row. */
void table_column(table *t, const char *title, int width);

/* Ends the line of titles or of cells. */
void table_end_row(table *t);

/* The next cell of a row. */
void table_cell(table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "12.3 us": seconds with the unit that suits; "48 KiB": bytes likewise. Written into `text` and
 * returned. */
const char *table_seconds(double seconds, char *text, size_t capacity);
const char *table_bytes(size_t bytes, char *text, size_t capacity);

#endif
