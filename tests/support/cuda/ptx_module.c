/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptx_module.c: PTX text to variables and kernels.
 *
 * Called when a module is loaded; bodies are only found here and decoded when a kernel is first
 * used (ptx_decode.c). Grammar: PTX ISA, "Syntax" and "State spaces, types and variables". Device
 * functions other than kernels are skipped: a kernel that calls one can't be decoded.
 */
#include "ptx.h"

#include <ctype.h>
#include <cuda.h>
#include <stdlib.h>
#include <string.h>

const char *ptx_skip(const char *s, const char *end) {
    while (s < end && isspace((unsigned char)*s))
        ++s;
    return s;
}

u32 ptx_identifier(const char *s, const char *end) {
    const char *t = s;
    while (t < end && (isalnum((unsigned char)*t) || *t == '_' || *t == '$' || *t == '%'))
        ++t;
    return (u32)(t - s);
}

bool ptx_word_is(const char *s, const char *end, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(end - s) < n || memcmp(s, word, n) != 0)
        return false;
    return s + n == end || !(isalnum((unsigned char)s[n]) || s[n] == '_');
}

bool ptx_number(const char **s, const char *end, u64 *value, bool *is_float) {
    const char *t = *s;
    bool minus = t < end && *t == '-';
    if (minus)
        ++t;
    if (t == end || !isdigit((unsigned char)*t))
        return false;
    *is_float = false;
    if (t + 1 < end && t[0] == '0' && strchr("fFdD", t[1]) && t + 2 < end &&
        isxdigit((unsigned char)t[2])) {
        bool wide = tolower((unsigned char)t[1]) == 'd';
        char *stop;
        char digits[17] = {0};
        memcpy(digits, t + 2, (size_t)(end - t - 2) < 16 ? (size_t)(end - t - 2) : 16);
        if (!wide)
            digits[8] = 0;
        u64 bits = strtoull(digits, &stop, 16);
        t += 2 + (stop - digits);
        double x;
        if (wide)
            memcpy(&x, &bits, 8);
        else {
            u32 low = (u32)bits;
            float f;
            memcpy(&f, &low, 4);
            x = f;
        }
        x = minus ? -x : x;
        memcpy(value, &x, 8);
        *is_float = true;
    } else {
        char *stop;
        u64 bits = strtoull(t, &stop, 0); /* hex, octal, decimal; text is never at its very end */
        if (t[0] == '0' && t + 1 < end && (t[1] == 'b' || t[1] == 'B'))
            bits = strtoull(t + 2, &stop, 2);
        if (stop < end && (*stop == '.' || *stop == 'e' || *stop == 'E')) {
            double x = strtod(t, &stop);
            x = minus ? -x : x;
            memcpy(value, &x, 8);
            *is_float = true;
        } else {
            *value = minus ? 0 - bits : bits;
            while (stop < end && (*stop == 'U' || *stop == 'u'))
                ++stop;
        }
        t = stop;
    }
    *s = t;
    return true;
}

u32 ptx_type_bytes(const char *type) {
    static const struct {
        const char *name;
        u32 bytes;
    } types[] = {{"b8", 1},     {"u8", 1},    {"s8", 1},    {"b16", 2},    {"u16", 2},
                 {"s16", 2},    {"f16", 2},   {"bf16", 2},  {"e4m3x2", 2}, {"e5m2x2", 2},
                 {"b32", 4},    {"u32", 4},   {"s32", 4},   {"f32", 4},    {"f16x2", 4},
                 {"bf16x2", 4}, {"tf32", 4},  {"b64", 8},   {"u64", 8},    {"s64", 8},
                 {"f64", 8},    {"b128", 16}, {"u16x2", 4}, {"s16x2", 4},  {"f32x2", 8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i)
        if (strcmp(types[i].name, type) == 0)
            return types[i].bytes;
    return 0;
}

/* Values of an initialiser, dense, in the type's width; names of variables are not taken. */
static bool initialise(sim_variable *v, u32 element, bool floats, const char *s, const char *end) {
    v->initial = sim_alloc(v->bytes ? v->bytes : 1);
    size_t at = 0;
    while ((s = ptx_skip(s, end)) < end) {
        if (*s == '{' || *s == '}' || *s == ',') {
            ++s;
            continue;
        }
        u64 value;
        bool is_float;
        if (!ptx_number(&s, end, &value, &is_float) || at + element > v->bytes)
            return false;
        if (floats && is_float && element == 4) {
            double x;
            memcpy(&x, &value, 8);
            float f = (float)x;
            memcpy(v->initial + at, &f, 4);
        } else
            memcpy(v->initial + at, &value, element < 8 ? element : 8);
        at += element;
    }
    return true;
}

/* ".shared .align 16 .b8 name[1024]", ".param .u64 .ptr .align 1 name", ".global .u32 n = 3" */
bool ptx_parse_variable(const char *s, const char *end, sim_variable *v) {
    memset(v, 0, sizeof *v);
    u32 element = 0, vector = 1;
    bool floats = false;
    while ((s = ptx_skip(s, end)) < end && *s == '.') {
        const char *word = s + 1;
        u32 n = ptx_identifier(word, end);
        char name[24] = {0};
        memcpy(name, word, n < sizeof name - 1 ? n : sizeof name - 1);
        s = word + n;
        if (strcmp(name, "extern") == 0)
            v->external = true;
        else if (strcmp(name, "shared") == 0)
            v->space = SPACE_SHARED;
        else if (strcmp(name, "global") == 0)
            v->space = SPACE_GLOBAL;
        else if (strcmp(name, "const") == 0)
            v->space = SPACE_CONST;
        else if (strcmp(name, "local") == 0)
            v->space = SPACE_LOCAL;
        else if (strcmp(name, "param") == 0)
            v->space = SPACE_PARAM;
        else if (strcmp(name, "v2") == 0 || strcmp(name, "v4") == 0)
            vector = (u32)(name[1] - '0');
        else if (strcmp(name, "align") == 0) {
            u64 value;
            bool f;
            s = ptx_skip(s, end);
            if (!ptx_number(&s, end, &value, &f))
                return false;
            if (element == 0) /* behind .ptr it speaks of what the pointer points to */
                v->align = value;
        } else if (strcmp(name, "ptr") == 0 || strcmp(name, "visible") == 0 ||
                   strcmp(name, "weak") == 0 || strcmp(name, "managed") == 0 ||
                   strcmp(name, "attribute") == 0) {
        } else if (ptx_type_bytes(name) != 0) {
            element = ptx_type_bytes(name) * vector;
            floats = name[0] == 'f';
        }
    }
    u32 n = ptx_identifier(s, end);
    if (n == 0 || element == 0)
        return false;
    v->name = sim_alloc(n + 1u);
    memcpy(v->name, s, n);
    s += n;
    size_t elements = 1;
    while ((s = ptx_skip(s, end)) < end && *s == '[') {
        s = ptx_skip(s + 1, end);
        u64 value = 0;
        bool f;
        if (*s != ']' && !ptx_number(&s, end, &value, &f))
            return false;
        elements *= value;
        s = ptx_skip(s, end);
        if (s == end || *s != ']')
            return false;
        ++s;
    }
    v->bytes = elements * element;
    if (v->align == 0)
        v->align = element;
    s = ptx_skip(s, end);
    return s == end || *s != '=' || initialise(v, element / vector, floats, s + 1, end);
}

/* Comments become blanks, so that lines keep their numbers. */
static void blank_comments(char *s) {
    while (*s) {
        if (s[0] == '/' && s[1] == '/')
            while (*s && *s != '\n')
                *s++ = ' ';
        else if (s[0] == '/' && s[1] == '*') {
            while (*s && !(s[0] == '*' && s[1] == '/')) {
                if (*s != '\n')
                    *s = ' ';
                ++s;
            }
            if (*s)
                s[0] = s[1] = ' ';
        } else
            ++s;
    }
}

static const char *closing(const char *s, char open, char close) {
    for (int depth = 0; *s; ++s) {
        if (*s == open)
            ++depth;
        else if (*s == close && --depth == 0)
            return s;
    }
    return NULL;
}

static bool parse_parameters(sim_kernel *k, const char *s, const char *end) {
    u32 room = 0;
    while ((s = ptx_skip(s, end)) < end) {
        const char *stop = memchr(s, ',', (size_t)(end - s));
        stop = stop ? stop : end;
        k->parameter = sim_grow(k->parameter, &room, k->parameters + 1, sizeof *k->parameter);
        sim_variable *v = &k->parameter[k->parameters];
        if (!ptx_parse_variable(s, stop, v))
            return false;
        ++k->parameters;
        k->parameter_bytes = (k->parameter_bytes + v->align - 1) / v->align * v->align;
        v->address = k->parameter_bytes;
        k->parameter_bytes += v->bytes;
        s = stop < end ? stop + 1 : end;
    }
    return true;
}

/* .maxntid 128, 1, 1 and its like, between the parameters and the body */
static void parse_limits(sim_kernel *k, const char *s, const char *end) {
    for (; s < end; ++s) {
        if (*s != '.')
            continue;
        const char *word = s + 1;
        u64 value[3] = {1, 1, 1};
        bool f;
        const char *t = word + ptx_identifier(word, end);
        for (int i = 0; i < 3; ++i) {
            t = ptx_skip(t, end);
            if (!ptx_number(&t, end, &value[i], &f))
                break;
            t = ptx_skip(t, end);
            if (t == end || *t != ',')
                break;
            ++t;
        }
        if (ptx_word_is(word, end, "maxntid"))
            k->max_threads = (u32)(value[0] * value[1] * value[2]);
        else if (ptx_word_is(word, end, "reqntid"))
            k->required_threads = k->max_threads = (u32)(value[0] * value[1] * value[2]);
        else if (ptx_word_is(word, end, "reqnctapercluster"))
            for (int i = 0; i < 3; ++i)
                k->cluster[i] = (u32)value[i];
    }
}

/* "name(parameters) .maxntid … { body }"; `s` behind .entry. Returns what follows, or NULL. */
static const char *parse_entry(sim_module *m, const char *s, const char *end) {
    s = ptx_skip(s, end);
    u32 n = ptx_identifier(s, end);
    sim_kernel *k = sim_alloc(sizeof *k);
    k->next = m->kernel;
    m->kernel = k;
    k->module = m;
    k->text = m->text;
    k->name = sim_alloc(n + 1u);
    memcpy(k->name, s, n);
    s = ptx_skip(s + n, end);
    if (s < end && *s == '(') {
        const char *close = closing(s, '(', ')');
        if (!close || !parse_parameters(k, s + 1, close))
            return NULL;
        s = close + 1;
    }
    const char *open = memchr(s, '{', (size_t)(end - s));
    const char *close = open ? closing(open, '{', '}') : NULL;
    if (!close)
        return NULL;
    parse_limits(k, s, open);
    k->begin = open + 1;
    k->end = close;
    k->shared_limit = 48 << 10;
    return close + 1;
}

/* Module variables get device memory in one piece; shared ones are kept for every kernel. */
static bool place_variables(sim_module *m) {
    size_t bytes = 0;
    for (u32 i = 0; i < m->variables; ++i) {
        sim_variable *v = &m->variable[i];
        if (v->space != SPACE_GLOBAL && v->space != SPACE_CONST)
            continue;
        bytes = (bytes + v->align - 1) / v->align * v->align;
        v->address = bytes;
        bytes += v->bytes;
    }
    if (bytes == 0)
        return true;
    m->globals = sim_space_reserve(bytes, 256);
    m->globals_bytes = bytes;
    if (m->globals == 0 || !sim_space_back(m->globals, bytes, -1, 0))
        return false;
    for (u32 i = 0; i < m->variables; ++i) {
        sim_variable *v = &m->variable[i];
        if (v->space != SPACE_GLOBAL && v->space != SPACE_CONST)
            continue;
        v->address += m->globals;
        u8 *at = sim_space_at(v->address, v->bytes);
        if (at && v->initial)
            memcpy(at, v->initial, v->bytes);
    }
    return true;
}

static const char *parse_item(sim_module *m, const char *s, const char *end, u32 *room) {
    if (ptx_word_is(s, end, ".version") || ptx_word_is(s, end, ".target") ||
        ptx_word_is(s, end, ".address_size") || ptx_word_is(s, end, ".file")) {
        const char *line = memchr(s, '\n', (size_t)(end - s));
        line = line ? line : end;
        const char *sm = ptx_word_is(s, end, ".target") ? strstr(s, "sm_") : NULL;
        if (sm && sm < line)
            m->arch = (u32)strtoul(sm + 3, NULL, 10);
        return line;
    }
    if (ptx_word_is(s, end, ".section")) {
        const char *open = memchr(s, '{', (size_t)(end - s));
        const char *close = open ? closing(open, '{', '}') : NULL;
        return close ? close + 1 : NULL;
    }
    /* Up to .entry, .func or the end of a variable's declaration. */
    const char *t = s;
    while (t < end && *t != ';') {
        if (ptx_word_is(t, end, ".entry"))
            return parse_entry(m, t + 6, end);
        if (ptx_word_is(t, end, ".func")) {
            const char *open = memchr(t, '{', (size_t)(end - t));
            const char *semicolon = memchr(t, ';', (size_t)(end - t));
            if (semicolon && (!open || semicolon < open))
                return semicolon + 1; /* a declaration */
            const char *close = open ? closing(open, '{', '}') : NULL;
            return close ? close + 1 : NULL;
        }
        ++t;
    }
    m->variable = sim_grow(m->variable, room, m->variables + 1, sizeof *m->variable);
    if (t == end || !ptx_parse_variable(s, t, &m->variable[m->variables]))
        return NULL;
    ++m->variables;
    return t + 1;
}

sim_module *sim_module_parse(const char *text, size_t length, int *result) {
    sim_module *m = sim_alloc(sizeof *m);
    m->text = sim_alloc(length + 2); /* a zero behind the end: strtoull stops there */
    memcpy(m->text, text, length);
    blank_comments(m->text);
    const char *s = m->text, *end = m->text + strlen(m->text);
    u32 room = 0;
    while (s && (s = ptx_skip(s, end)) < end) {
        const char *at = s;
        s = parse_item(m, s, end, &room);
        if (!s) {
            u32 line = 1;
            for (const char *c = m->text; c < at; ++c)
                line += *c == '\n';
            sim_find_ptx(STANDIN_UNKNOWN, "", line, "PTX that can't be read: %.60s", at);
        }
    }
    *result = s && m->arch ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
    if (*result == CUDA_SUCCESS && !place_variables(m))
        *result = CUDA_ERROR_OUT_OF_MEMORY;
    if (*result != CUDA_SUCCESS) {
        sim_module_free(m);
        return NULL;
    }
    return m;
}

static void free_variables(sim_variable *v, u32 n) {
    for (u32 i = 0; i < n; ++i) {
        free(v[i].name);
        free(v[i].initial);
    }
    free(v);
}

void sim_module_free(sim_module *m) {
    if (!m)
        return;
    if (m->globals)
        sim_space_release(m->globals, m->globals_bytes);
    while (m->kernel) {
        sim_kernel *k = m->kernel;
        m->kernel = k->next;
        free_variables(k->parameter, k->parameters);
        free_variables(k->variable, k->variables);
        free(k->name);
        free(k->reached);
        free(k->code);
        free(k->list);
        free(k->constants);
        free(k);
    }
    free_variables(m->variable, m->variables);
    free(m->text);
    free(m);
}

sim_kernel *sim_module_kernel(sim_module *m, const char *name) {
    for (sim_kernel *k = m->kernel; k; k = k->next)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}
