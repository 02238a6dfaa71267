/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces_input.c: see traces_input.h.
 */
#include "traces_input.h"

#include "shapes.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
    TOKEN_BYTES = 16384
}; /* 32 layers, 8 heads of 128 in 16 bits come to 8 times that: Azure's
                                 hour then fits into a small machine */

bool traces_input_file(traces_input *input, const char *command, int *argc, char ***argv) {
    for (int i = 0; i < *argc; ++i)
        if (strcmp((*argv)[i], "--help") == 0 || strcmp((*argv)[i], "-h") == 0)
            return true;
    if (*argc < 1 || ((*argv)[0][0] == '-' && (*argv)[0][1] != '\0')) {
        complain("%s needs a FILE first (%s --help tells more)", command, command);
        return false;
    }
    input->file = (*argv)[0];
    --*argc;
    ++*argv;
    return true;
}

static bool factor(const char *option, const char *text, double *out) {
    *out = 1;
    if (text == NULL)
        return true;
    if (!shapes_parse_seconds(option, text, out))
        return false;
    if (*out > 0 && *out <= 1e6)
        return true;
    complain("%s is %s; expected a number above 0, up to 1000000", option, text);
    return false;
}

/* Multiplies all sizes. False: a block would be too large. */
static bool scale_sizes(traces *t, double scale) {
    for (size_t i = 0; i < t->blocks_count; ++i) {
        double bytes = (double)t->blocks[i].bytes * scale;
        if (bytes > (double)TRACES_MOST_BYTES)
            return false;
        t->blocks[i].bytes = bytes < 1 ? 1 : (size_t)bytes;
    }
    t->live = t->peak_live = 0;
    t->used = (size_t)((double)t->used * scale);
    for (size_t i = 0; i < t->events_count; ++i) {
        size_t bytes = t->blocks[t->events[i].block].bytes;
        t->live += t->events[i].free ? (size_t)0 - bytes : bytes;
        if (t->live > t->peak_live)
            t->peak_live = t->live;
    }
    return true;
}

int traces_input_read(const traces_input *input, traces *t) {
    static const char *const formats[] = {"tenon", "azure", "somas", "minimalloc"};
    static const traces_format meant[] = {TRACES_TENON, TRACES_AZURE, TRACES_LIFETIMES,
                                          TRACES_LIFETIMES};
    int format;
    int64_t page = 0, token_bytes = TOKEN_BYTES;
    double speed, scale;
    if ((input->format && !shapes_parse_words("--format", input->format, formats, 4, &format, 1)) ||
        (input->page && !shapes_parse_int("--page", input->page, 1, 1 << 20, &page)) ||
        (input->token_bytes &&
         !shapes_parse_int("--token-bytes", input->token_bytes, 1, 1 << 24, &token_bytes)) ||
        !factor("--speed", input->speed, &speed) || !factor("--scale", input->scale, &scale))
        return EXIT_USAGE;

    const bool standard = strcmp(input->file, "-") == 0;
    FILE *file = standard ? stdin : fopen(input->file, "r");
    if (!file) {
        complain("%s can't be opened: %s", input->file, strerror(errno));
        return EXIT_FAILED;
    }
    const traces_model model = {"kv cache", (size_t)token_bytes};
    const traces_server server = {.models = &model,
                                  .page_tokens = (int)page,
                                  .speed = speed,
                                  .seconds_per_token = TRACES_SECONDS_PER_TOKEN,
                                  .seconds_per_prompt_token = TRACES_SECONDS_PER_PROMPT_TOKEN};
    traces_error error;
    bool fine = traces_read(t, file, standard ? "standard input" : input->file,
                            input->format ? meant[format] : TRACES_AUTO, &server, &error);
    if (!standard)
        fclose(file);
    if (fine && scale != 1 && !scale_sizes(t, scale)) {
        snprintf(error.text, sizeof error.text, "--scale makes a block larger than %zu bytes",
                 TRACES_MOST_BYTES);
        traces_free(t);
        fine = false;
    }
    if (!fine) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    if (t->dropped != 0)
        complain(
            "%s: %zu lines were left out (the last one cut off, or frees of blocks from before)",
            input->file, t->dropped);
    return EXIT_FINE;
}
