/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c: table-driven command lines, complaints and the progress line (see options.h). Every
 * command calls it before anything else; it knows no command.
 */
#include "options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool progress_shown;

void progress_clear(void) {
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

void progress(const char *format, ...) {
    if (!isatty(STDERR_FILENO))
        return;
    progress_clear();
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fflush(stderr);
    progress_shown = true;
}

void complain(const char *format, ...) {
    progress_clear();
    fflush(stdout);
    fputs("tenon: ", stderr);
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
}

static void print_help(const options_command *command) {
    enum { COLUMN = 24 };
    printf("usage: %s [options]\n\n%s\n\noptions:\n", command->name, command->summary);
    for (const options_row *row = command->rows; row->name; ++row) {
        char left[64];
        snprintf(left, sizeof left, "  %s%s%s", row->name, row->operand ? " " : "",
                 row->operand ? row->operand : "");
        printf("%-*s", COLUMN, left);
        if (strlen(left) >= COLUMN)
            printf("\n%*s", COLUMN, "");
        for (const char *line = row->help; *line;) {
            const size_t length = strcspn(line, "\n");
            printf("%.*s\n", (int)length, line);
            line += length + (line[length] == '\n');
            if (*line)
                printf("%*s", COLUMN, "");
        }
    }
    printf("%-*s%s\n", COLUMN, "  --help", "this text");
    if (command->notes)
        printf("\n%s\n", command->notes);
}

static const options_row *find(const options_row *rows, const char *argument, size_t length) {
    for (; rows->name; ++rows)
        if (strlen(rows->name) == length && strncmp(rows->name, argument, length) == 0)
            return rows;
    return NULL;
}

/* Appends the items of a list with commas. */
static bool append(const options_row *row, const char *list) {
    options_values *values = row->other;
    for (const char *at = list;; ++at) {
        const size_t length = strcspn(at, ",");
        if (length == 0) {
            complain("%s: '%s' has an empty item", row->name, list);
            return false;
        }
        if (values->count == OPTIONS_MOST_VALUES) {
            complain("%s: more than %d values", row->name, OPTIONS_MOST_VALUES);
            return false;
        }
        values->items[values->count++] = (options_value){at, length};
        at += length;
        if (*at == '\0')
            return true;
    }
}

options_outcome options_parse(const options_command *command, int argc, char **argv) {
    for (int i = 0; i < argc; ++i)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(command);
            return OPTIONS_HELP;
        }
    for (int i = 0; i < argc; ++i) {
        const size_t length = strcspn(argv[i], "=");
        const options_row *row = find(command->rows, argv[i], length);
        const char *value = argv[i][length] == '=' ? argv[i] + length + 1 : NULL;
        if (!row) {
            complain("unknown %s '%s' (%s --help lists them)",
                     argv[i][0] == '-' ? "option" : "argument", argv[i], command->name);
            return OPTIONS_WRONG;
        }
        if (!row->operand) {
            if (value) {
                complain("%s takes no value", row->name);
                return OPTIONS_WRONG;
            }
            *(bool *)row->other = true;
            continue;
        }
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value || !*value) {
            complain("%s needs a value: %s", row->name, row->operand);
            return OPTIONS_WRONG;
        }
        if (row->text)
            *row->text = value;
        else if (!append(row, value))
            return OPTIONS_WRONG;
    }
    return OPTIONS_RUN;
}
