/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_memory_generate.c: `tenon memory generate KIND`: a trace from a seed, on stdout, in the
 * format of tenon_memory_record. What the kinds are is in traces_generate.c.
 */
#include "commands.h"

#include "options.h"
#include "shapes.h"
#include "traces.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
static const char *const notes =
    "KIND is one of\n"
    "  chat      key-value caches of conversations: prompts of 1020 tokens, answers of 129 (medians)\n"
    "  code      of code completion: 1500 and 13\n"
    "  mixed     both, over three models of 28, 128 and 320 KiB a token\n"
    "  training  steps of a transformer (GPT-2 small) with batches of different lengths\n"
    "The same seed gives the same trace. Lengths are log-normal with the medians of two services of\n"
    "Azure (Patel et al., \"Splitwise\", ISCA 2024); what a layer keeps for its backward pass is from\n"
    "Korthikanti et al. (MLSys 2023).";
/* clang-format on */

static bool positive(const char *option, const char *text, int64_t most, int64_t *out) {
    *out = 0;
    return text == NULL || shapes_parse_int(option, text, 1, most, out);
}

int command_memory_generate(int argc, char **argv) {
    const char *seed = NULL, *requests = NULL, *rate = NULL, *page = NULL, *steps = NULL,
               *layers = NULL;
    const options_row rows[] = {
        {"--seed", "S", "of the generator (default: 1)", &seed, NULL},
        {"--requests", "N", "serving: how many (default: 2000)", &requests, NULL},
        {"--rate", "X", "serving: requests a second (default: 5)", &rate, NULL},
        {"--page", "TOKENS", "serving: caches in pages (default: in one piece)", &page, NULL},
        {"--steps", "N", "training: how many (default: 4)", &steps, NULL},
        {"--layers", "N", "training: of the model (default: 12)", &layers, NULL},
        {0},
    };
    const options_command command = {
        "tenon memory generate KIND",
        "Writes a trace that looks like use, in the format of recordings.", notes, rows};
    const bool named = argc > 0 && argv[0][0] != '-';
    const options_outcome outcome = options_parse(&command, argc - named, argv + named);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;
    int kind = 0;
    while (named && kind < TRACES_KINDS && strcmp(argv[0], traces_kind_names[kind]) != 0)
        ++kind;
    if (!named || kind == TRACES_KINDS) {
        complain("KIND is '%s'; expected chat, code, mixed or training", named ? argv[0] : "");
        return EXIT_USAGE;
    }
    traces_recipe recipe = {.seed = 1};
    int64_t number = 1, page_tokens = 0;
    if ((seed && !shapes_parse_int("--seed", seed, 0, INT64_MAX, &number)) ||
        !positive("--requests", requests, 10000000, &recipe.requests) ||
        !positive("--page", page, 1 << 20, &page_tokens) ||
        !positive("--steps", steps, 100000, &recipe.steps) ||
        !positive("--layers", layers, 1024, &recipe.layers) ||
        (rate && !shapes_parse_seconds("--rate", rate, &recipe.rate)))
        return EXIT_USAGE;
    if (rate && !(recipe.rate > 0)) {
        complain("--rate is %s; expected a number above 0", rate);
        return EXIT_USAGE;
    }
    recipe.seed = (uint64_t)number;
    recipe.page_tokens = (int)page_tokens;
    traces t;
    traces_error error;
    if (!traces_generate(&t, (traces_kind)kind, &recipe, &error)) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    const bool written = traces_write(&t, stdout);
    traces_free(&t);
    if (!written)
        complain("the trace could not be written");
    return written ? EXIT_FINE : EXIT_FAILED;
}
