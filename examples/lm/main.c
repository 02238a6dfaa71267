/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lm: runs a decoder of the Llama family from a GGUF file on tenon alone: every product, softmax and attention is tenon's, there is one
 * copy of the weights, and the memory for all is known before it is taken. See README.md beside this file.
 */
#include "model.h"
#include "synthetic.h"
#include "tokenizer.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct options {
    const char *file, *synthetic, *prompt, *ids, *device, *kv, *logits, *weights;
    int64_t tokens, generate, context, rows, threads, repeat;
    uint64_t budget, seed;
    double temperature;
    int exact, dry_run, tokenize;
} options;

static const char usage[] =
    "lm FILE.gguf [options]          runs a model of the Llama family\n"
    "lm --synthetic SHAPE:TYPE [FILE] the same with random weights, written to FILE (none: a "
    "temporary one)\n"
    "  --prompt TEXT | --ids 1,2,… | --tokens N   what to begin with: text, tokens, or N made-up "
    "tokens (default: --tokens 128)\n"
    "  --generate N        tokens to generate (default 32)\n"
    "  --temperature T     0: the likeliest token (default)        --seed N\n"
    "  --budget BYTES      most memory for weights, cache and all else; K, M, G are powers of "
    "1024\n"
    "  --dry-run           says what it would take, and stops\n"
    "  --weights WHERE     packed: for the kernels, when they are loaded; mapped: in the file "
    "(default: "
    "packed, if the budget allows)\n"
    "  --context N         positions of the cache (default: what this run needs)\n"
    "  --kv TYPE           type of the cache: f32, f16 (default), bf16, f8_e4m3, f8_e5m2, or of "
    "blocks:\n"
    "                      q8_0, q5_1, q5_0, q4_1, q4_0, mxfp4, iq4_nl (slow to write)\n"
    "  --rows N            tokens of the prompt at once (default 512)\n"
    "  --exact             quantised weights are decoded; the default also rounds what they are "
    "multiplied with to 8 bits\n"
    "  --threads N  --device NAME  --repeat N (the run, for its times)\n"
    "  --tokenize          prints the prompt's tokens, and stops\n"
    "  --logits FILE       writes the logits of every position of the prompt as floats, and "
    "stops\n";

/* ---------------------------------------------------------------- options */

static uint64_t size_of(const char *text) {
    char *end;
    const double number = strtod(text, &end);
    int shift = 0;
    if (*end != '\0') {
        const char unit = (char)toupper((unsigned char)*end);
        shift = unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : -1;
        if (shift < 0 || end[1] != '\0')
            return 0;
    }
    const double bytes = number * (double)(1ull << shift);
    return end > text && bytes >= 1 && bytes < 0x1p60 ? (uint64_t)bytes : 0;
}

typedef struct option {
    const char *name;
    const char **text;
    int64_t *number;
    int *flag;
} option;

static bool is_cache_type(tenon_dtype kv) {
    static const tenon_dtype types[] = {TENON_F32,     TENON_F16,  TENON_BF16,  TENON_F8_E4M3,
                                        TENON_F8_E5M2, TENON_Q8_0, TENON_Q5_1,  TENON_Q5_0,
                                        TENON_Q4_1,    TENON_Q4_0, TENON_MXFP4, TENON_IQ4_NL};
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i)
        if (types[i] == kv)
            return true;
    return false;
}

static int parse(int argc, char **argv, options *o) {
    const char *budget = NULL, *temperature = NULL;
    int64_t seed = 1;
    const option list[] = {
        {"--synthetic", &o->synthetic, 0, 0},
        {"--prompt", &o->prompt, 0, 0},
        {"--ids", &o->ids, 0, 0},
        {"--device", &o->device, 0, 0},
        {"--kv", &o->kv, 0, 0},
        {"--logits", &o->logits, 0, 0},
        {"--weights", &o->weights, 0, 0},
        {"--budget", &budget, 0, 0},
        {"--temperature", &temperature, 0, 0},
        {"--tokens", 0, &o->tokens, 0},
        {"--generate", 0, &o->generate, 0},
        {"--context", 0, &o->context, 0},
        {"--rows", 0, &o->rows, 0},
        {"--threads", 0, &o->threads, 0},
        {"--repeat", 0, &o->repeat, 0},
        {"--seed", 0, &seed, 0},
        {"--exact", 0, 0, &o->exact},
        {"--dry-run", 0, 0, &o->dry_run},
        {"--tokenize", 0, 0, &o->tokenize},
    };
    for (int i = 1; i < argc; ++i) {
        const option *found = NULL;
        for (size_t k = 0; k < sizeof list / sizeof *list; ++k)
            if (strcmp(argv[i], list[k].name) == 0)
                found = &list[k];
        if (!found && (argv[i][0] == '-' || o->file)) {
            fprintf(stderr, "lm: %s is no option\n%s", argv[i], usage);
            return 0;
        }
        if (!found) {
            o->file = argv[i];
        } else if (found->flag) {
            *found->flag = 1;
        } else if (++i == argc) {
            fprintf(stderr, "lm: %s needs a value\n", argv[i - 1]);
            return 0;
        } else if (found->text) {
            *found->text = argv[i];
        } else {
            char *end;
            *found->number = strtoll(argv[i], &end, 10);
            if (*end || end == argv[i] || *found->number < 0 || *found->number > 1 << 30) {
                fprintf(stderr, "lm: %s is %s, expected a number from 0 to 2^30\n", argv[i - 1],
                        argv[i]);
                return 0;
            }
        }
    }
    o->seed = (uint64_t)seed;
    o->budget = budget ? size_of(budget) : 0;
    char *end = NULL;
    o->temperature = temperature ? strtod(temperature, &end) : 0;
    if (temperature && (*end || end == temperature || !(o->temperature >= 0))) {
        fprintf(stderr, "lm: --temperature is %s, expected a number from 0 on\n", temperature);
        return 0;
    }
    if (o->rows < 1) {
        fprintf(stderr, "lm: --rows is 0, expected at least 1\n");
        return 0;
    }
    if (!is_cache_type(tenon_dtype_from_name(o->kv))) {
        fprintf(stderr,
                "lm: --kv is %s, expected f32, f16, bf16, f8_e4m3, f8_e5m2, q8_0, q5_1, q5_0, "
                "q4_1, q4_0, mxfp4 or iq4_nl\n",
                o->kv);
        return 0;
    }
    if (o->weights && strcmp(o->weights, "packed") != 0 && strcmp(o->weights, "mapped") != 0) {
        fprintf(stderr, "lm: --weights is %s, expected packed or mapped\n", o->weights);
        return 0;
    }
    if (budget && !o->budget) {
        fprintf(stderr, "lm: --budget is %s, expected a size such as 6G\n", budget);
        return 0;
    }
    if (!o->file && !o->synthetic) {
        fputs(usage, stderr);
        return 0;
    }
    return 1;
}

static int failed(const char *what, const char *error) {
    fprintf(stderr, "lm: %s: %s\n", what, error);
    return 1;
}

/* ---------------------------------------------------------------- tokens */

/* Whole numbers with single commas between; -1: it is something else. */
static int64_t read_ids(const char *text, int32_t *tokens, int64_t capacity) {
    int64_t count = 0;
    for (;;) {
        char *end;
        const long long id = strtoll(text, &end, 10);
        if (end == text || id < 0 || id > INT32_MAX || (*end != ',' && *end != '\0'))
            return -1;
        if (count < capacity)
            tokens[count] = (int32_t)id;
        ++count;
        if (*end == '\0')
            return count;
        text = end + 1;
    }
}

/* The prompt's tokens; the caller frees them. NULL with a sentence. */
static int32_t *prompt_tokens(const options *o, const tokenizer *t, int64_t vocabulary,
                              int64_t *count, char error[512]) {
    const int64_t most = o->prompt ? (int64_t)strlen(o->prompt) + 2
                         : o->ids  ? (int64_t)strlen(o->ids) + 1
                                   : o->tokens;
    int32_t *tokens = malloc(sizeof *tokens * (size_t)(most + 1));
    if (!tokens) {
        snprintf(error, 512, "no memory for %lld tokens", (long long)most);
        return NULL;
    }
    if (o->prompt)
        *count = tokenizer_encode(t, o->prompt, strlen(o->prompt), tokens, most);
    else if (o->ids)
        *count = read_ids(o->ids, tokens, most);
    else
        for (*count = 0; *count < o->tokens; ++*count)
            tokens[*count] = (int32_t)((uint64_t)(*count + 1) * 2654435761u % (uint64_t)vocabulary);
    if (*count > 0)
        return tokens;
    snprintf(error, 512, "%s",
             *count == 0 ? "there are no tokens to begin with"
             : o->ids    ? "--ids is not a list of numbers such as 1,2,3"
                         : "no memory to cut the text into tokens");
    free(tokens);
    return NULL;
}

static double uniform(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)(*state * 2685821657736338717u >> 11) / 9007199254740992.0;
}

static int32_t choose(const float *logits, int64_t count, double temperature, uint64_t *state) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; ++i)
        if (logits[i] > logits[best])
            best = i;
    if (temperature <= 0)
        return (int32_t)best;
    double sum = 0;
    for (int64_t i = 0; i < count; ++i)
        sum += exp((logits[i] - logits[best]) / temperature);
    double left = sum * uniform(state);
    for (int64_t i = 0; i < count; ++i)
        if ((left -= exp((logits[i] - logits[best]) / temperature)) < 0)
            return (int32_t)i;
    return (int32_t)best;
}

/* ---------------------------------------------------------------- running */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_bytes(const char *what, uint64_t bytes) {
    printf("%s %.1f MiB", what, (double)bytes / 1048576);
}

static bool write_logits(model *m, const options *o, const int32_t *tokens, int64_t count,
                         int64_t rows, char error[512]) {
    const size_t width = (size_t)model_shape_of(m)->vocabulary;
    FILE *out = fopen(o->logits, "wb");
    bool done = out != NULL;
    if (!done)
        snprintf(error, 512, "%s can't be written", o->logits);
    for (int64_t at = 0; done && at < count; at += rows) {
        const int64_t step = count - at < rows ? count - at : rows;
        const float *logits;
        done = model_step(m, tokens + at, step, &logits, error);
        if (done && fwrite(logits, sizeof *logits * width, (size_t)step, out) != (size_t)step) {
            snprintf(error, 512, "%s can't be written", o->logits);
            done = false;
        }
    }
    if (out && fclose(out) != 0 && done) {
        snprintf(error, 512, "%s can't be written", o->logits);
        done = false;
    }
    return done;
}

static bool run(model *m, const options *o, const tokenizer *t, const int32_t *tokens,
                int64_t count, int64_t rows, char error[512]) {
    const model_shape *s = model_shape_of(m);
    const float *logits = NULL;
    uint64_t state = o->seed * 2 + 1;
    double began = seconds();
    model_rewind(m, 0);
    for (int64_t at = 0; at < count; at += rows)
        if (!model_step(m, tokens + at, count - at < rows ? count - at : rows, &logits, error))
            return false;
    const double prompt_seconds = seconds() - began;
    int64_t made = 0;
    began = seconds();
    while (made < o->generate) {
        const int32_t token = choose(logits, s->vocabulary, o->temperature, &state);
        char bytes[256];
        if (t)
            fwrite(bytes, 1, tokenizer_decode(t, token, bytes, sizeof bytes), stdout);
        else
            printf("%s%d", made ? "," : "", token);
        fflush(stdout);
        ++made;
        if ((t && tokenizer_ends(t, token)) || made == o->generate)
            break;
        if (!model_step(m, &token, 1, &logits, error))
            return false;
    }
    const double generate_seconds = seconds() - began;
    printf("\nprompt %lld tokens, %.1f tokens/s", (long long)count, (double)count / prompt_seconds);
    if (made > 1) /* the first one came with the prompt */
        printf("; generated %lld, %.2f tokens/s", (long long)made,
               (double)(made - 1) / generate_seconds);
    printf("\n");
    return true;
}

/* A context whose pool holds exactly what the dry run said, taken at once. */
static bool open_exact(const options *o, uint64_t bytes, tenon_pool **pool, tenon_context **ctx,
                       char error[512]) {
    const tenon_pool_desc desc = {.struct_size = sizeof desc,
                                  .device = o->device,
                                  .budget = bytes,
                                  .segment_bytes = bytes,
                                  .flags = TENON_POOL_FIXED};
    if (tenon_pool_create(&desc, pool) == TENON_OK) {
        const tenon_context_desc running = {.struct_size = sizeof running,
                                            .device = o->device,
                                            .threads = (int32_t)o->threads,
                                            .pool = *pool};
        if (tenon_context_create(&running, ctx) == TENON_OK)
            return true;
    }
    snprintf(error, 512, "%s", tenon_error_message(NULL));
    return false;
}

static void print_memory(const model_memory *memory) {
    print_bytes("memory: weights", memory->packed);
    print_bytes(" (packed) and", memory->mapped);
    printf(" (mapped)");
    print_bytes(", cache", memory->cache);
    print_bytes(", activations and workspaces", memory->work);
    print_bytes("; in all", model_total(memory, memory->work));
    if (memory->work < memory->preferred) {
        print_bytes(" (without a budget", model_total(memory, memory->preferred));
        printf(")");
    }
    if (memory->loading == model_total(memory, memory->work))
        printf(", while weights are packed");
    printf("\n");
}

/* Runs a planned model in memory that is exactly what was planned. */
static bool run_planned(model *m, const options *o, const tokenizer *t, const int32_t *tokens,
                        int64_t count, int64_t rows, char error[512]) {
    const model_memory *memory = model_memory_of(m);
    const uint64_t planned = model_block(m);
    const double began = seconds();
    tenon_pool *pool = NULL;
    tenon_context *ctx = NULL;
    tenon_memory_info info = {.struct_size = sizeof info};
    bool done = open_exact(o, planned, &pool, &ctx, error) && model_load(m, ctx, error);
    const double loading = seconds() - began;
    if (o->logits)
        done = done && write_logits(m, o, tokens, count, rows, error);
    else
        for (int64_t i = 0; done && (i == 0 || i < o->repeat); ++i)
            done = run(m, o, t, tokens, count, rows, error);
    if (done && tenon_memory_stats(pool, &info) == TENON_OK) {
        print_bytes("memory: held at most", info.peak_reserved);
        print_bytes(", planned", planned);
        print_bytes("; mapped weights", memory->mapped);
        printf("; loaded in %.2f s\n", loading);
    }
    model_close(m); /* before its context */
    tenon_context_destroy(ctx);
    tenon_pool_destroy(pool);
    return done;
}

static bool plan_and_run(const options *o, tenon_context *planning, const gguf_file *file,
                         const tokenizer *t, const int32_t *tokens, int64_t count,
                         char error[512]) {
    const int64_t needed = count + o->generate;
    model_options wanted = {
        .capacity = o->context > needed ? o->context : needed,
        .rows = o->rows < count ? o->rows : count,
        .all_logits = o->logits != NULL,
        .kv = tenon_dtype_from_name(o->kv),
        .compute = o->exact ? TENON_COMPUTE_EXACT : TENON_COMPUTE_FAST,
        .packed = !o->weights || strcmp(o->weights, "packed") == 0,
        .budget = o->budget,
    };
    model *m = model_plan(planning, file, &wanted, error);
    if (!m && wanted.packed && !o->weights && o->budget > 0) {
        wanted.packed = false;
        m = model_plan(planning, file, &wanted, error);
    }
    if (!m)
        return false;
    print_memory(model_memory_of(m));
    if (!o->dry_run)
        return run_planned(m, o, t, tokens, count, wanted.rows, error);
    model_close(m);
    return true;
}

static int work(const options *o, tenon_context *planning, const gguf_file *file) {
    char error[512] = "";
    const gguf_value *names = gguf_find(file, "tokenizer.ggml.tokens");
    const int64_t vocabulary = gguf_integer(
        file, "llama.vocab_size", 1, 1 << 24,
        names && names->array && names->count > 0 ? (int64_t)names->count : 1); /* checked later */
    tokenizer *t = tokenizer_open(file, error);
    int64_t count = 0;
    int32_t *tokens = NULL;
    bool done = t || !(o->prompt || o->tokenize);
    if (done)
        done = (tokens = prompt_tokens(o, t, vocabulary, &count, error)) != NULL;
    if (done && o->tokenize) {
        for (int64_t i = 0; i < count; ++i)
            printf("%s%d", i ? "," : "", tokens[i]);
        printf("\n");
    } else if (done) {
        done = plan_and_run(o, planning, file, t, tokens, count, error);
    }
    free(tokens);
    tokenizer_close(t);
    return done ? 0 : failed(o->file ? o->file : o->synthetic, error);
}

/* Maps the file, written before if it is to be; one without a name is gone once it is mapped. */
static bool open_model(const options *o, tenon_context *planning, gguf_file *file,
                       char error[512]) {
    char temporary[] = "lm-XXXXXX.gguf"; /* mkstemps fills in the letters */
    const char *path = o->file ? o->file : temporary;
    *file = (gguf_file){0};
    if (!o->file) {
        const int made = mkstemps(temporary, 5);
        if (made < 0) {
            snprintf(error, 512, "a temporary file can't be made here");
            return false;
        }
        close(made);
    }
    bool done = !o->synthetic || synthetic_write(planning, o->synthetic, path, o->seed, error);
    if (done && !gguf_open(file, path)) {
        snprintf(error, 512, "%s", file->error);
        done = false;
    }
    if (!o->file)
        unlink(temporary);
    return done;
}

int main(int argc, char **argv) {
    options o = {.tokens = 128, .generate = 32, .rows = 512, .kv = "f16", .device = "cpu"};
    if (!parse(argc, argv, &o))
        return 2;
    setlocale(LC_CTYPE, "C.UTF-8"); /* for iswalpha */

    tenon_context *planning;
    const tenon_context_desc desc = {
        .struct_size = sizeof desc, .device = o.device, .threads = (int32_t)o.threads};
    if (tenon_context_create(&desc, &planning) != TENON_OK)
        return failed("context", tenon_error_message(NULL));

    char error[512];
    gguf_file file;
    const int result = open_model(&o, planning, &file, error)
                           ? work(&o, planning, &file)
                           : failed(o.synthetic ? o.synthetic : o.file, error);
    gguf_close(&file);
    tenon_context_destroy(planning);
    return fflush(stdout) == 0 && !ferror(stdout) ? result : failed("output", "can't be written");
}
