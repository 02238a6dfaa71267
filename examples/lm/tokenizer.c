/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.c: see tokenizer.h. */
#include "tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

/* From strings to numbers; open addressing. */
typedef struct table {
    struct {
        gguf_string key;
        int32_t value;
    } * slots;
    uint64_t mask;
} table;

struct tokenizer {
    gguf_string *tokens;
    uint64_t count;
    table ids, ranks;  /* of tokens, of merges "left right" */
    int32_t *controls; /* tokens that stand for themselves */
    uint64_t control_count;
    int32_t begin, ends[3]; /* -1: none */
    uint16_t byte_of[512];  /* of the code points that stand for bytes, + 1 */
    uint16_t code_of[256];
};

/* ---------------------------------------------------------------- tables */

/* FNV-1a */
static uint64_t hash(const char *a, size_t a_length, const char *b, size_t b_length) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < a_length; ++i)
        h = (h ^ (uint8_t)a[i]) * 1099511628211u;
    if (b)
        h = (h ^ ' ') * 1099511628211u;
    for (size_t i = 0; i < b_length; ++i)
        h = (h ^ (uint8_t)b[i]) * 1099511628211u;
    return h;
}

/* The slot of "a", or of "a b". */
static uint64_t slot_of(const table *t, const char *a, size_t a_length, const char *b,
                        size_t b_length) {
    const size_t length = a_length + (b ? 1 + b_length : 0);
    uint64_t i = hash(a, a_length, b, b_length) & t->mask;
    for (; t->slots[i].key.text; i = (i + 1) & t->mask) {
        const gguf_string *key = &t->slots[i].key;
        if (key->length == length && memcmp(key->text, a, a_length) == 0 &&
            (!b ||
             (key->text[a_length] == ' ' && memcmp(key->text + a_length + 1, b, b_length) == 0)))
            break;
    }
    return i;
}

static int32_t look_up(const table *t, const char *a, size_t a_length, const char *b,
                       size_t b_length) {
    const uint64_t i = slot_of(t, a, a_length, b, b_length);
    return t->slots[i].key.text ? t->slots[i].value : -1;
}

static bool fill_table(table *t, const gguf_value *strings) {
    uint64_t size = 16, cursor = 0;
    while (size < 2 * strings->count)
        size *= 2;
    t->slots = calloc(size, sizeof *t->slots);
    t->mask = size - 1;
    for (uint64_t i = 0; t->slots && i < strings->count; ++i) {
        const gguf_string s = gguf_string_at(strings, &cursor);
        const uint64_t slot = slot_of(t, s.text, s.length, NULL, 0);
        if (!t->slots[slot].key.text) { /* the first of equal ones counts */
            t->slots[slot].key = s;
            t->slots[slot].value = (int32_t)i;
        }
    }
    return t->slots != NULL;
}

/* ---------------------------------------------------------------- UTF-8 */

/* The code point at text[*at], which moves on; a byte that begins none stands for itself. */
static uint32_t code_point(const char *text, size_t length, size_t *at) {
    const uint8_t first = (uint8_t)text[*at];
    const int more = first >= 0xf0 && first < 0xf8 ? 3 : first >= 0xe0 ? 2 : first >= 0xc2 ? 1 : 0;
    uint32_t code = more == 3   ? first & 7u
                    : more == 2 ? first & 15u
                    : more == 1 ? first & 31u
                                : first;
    if (first >= 0xf8 || *at + (size_t)more >= length) {
        ++*at;
        return first;
    }
    for (int i = 1; i <= more; ++i) {
        if (((uint8_t)text[*at + (size_t)i] & 0xc0) != 0x80) {
            ++*at;
            return first;
        }
        code = code << 6 | ((uint8_t)text[*at + (size_t)i] & 63u);
    }
    *at += (size_t)more + 1;
    return code;
}

static size_t put_code_point(uint32_t code, char out[2]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6); /* bytes' stand-ins end at U+0143 */
    out[1] = (char)(0x80 | (code & 63));
    return 2;
}

/* GPT-2's letters for bytes: printable ones of Latin-1 for themselves, the others from U+0100 on. */
static void name_bytes(tokenizer *t) {
    uint16_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
        const bool itself = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        t->code_of[b] = itself ? (uint16_t)b : next++;
        t->byte_of[t->code_of[b]] = (uint16_t)(b + 1);
    }
}

/* ---------------------------------------------------------------- words */

typedef enum kind { LETTER, NUMBER, BREAK, SPACE, OTHER } kind;

/* Numbers outside of ASCII that texts have: digits of the larger scripts, superscripts, fractions,
 * Roman and circled ones; the C library knows none of them. */
static bool is_number(uint32_t code) {
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {'0', '9'},       {0xb2, 0xb3},     {0xb9, 0xb9},     {0xbc, 0xbe},     {0x660, 0x669},
        {0x6f0, 0x6f9},   {0x7c0, 0x7c9},   {0x966, 0x96f},   {0x9e6, 0x9ef},   {0xa66, 0xa6f},
        {0xae6, 0xaef},   {0xb66, 0xb6f},   {0xbe6, 0xbf2},   {0xc66, 0xc6f},   {0xce6, 0xcef},
        {0xd66, 0xd6f},   {0xe50, 0xe59},   {0xed0, 0xed9},   {0xf20, 0xf33},   {0x1040, 0x1049},
        {0x17e0, 0x17e9}, {0x1810, 0x1819}, {0x2070, 0x2070}, {0x2074, 0x2079}, {0x2080, 0x2089},
        {0x2150, 0x2189}, {0x2460, 0x249b}, {0x24ea, 0x24ff}, {0x2776, 0x2793}, {0x3007, 0x3007},
        {0x3021, 0x3029}, {0x3220, 0x3229}, {0x3280, 0x3289}, {0xff10, 0xff19}, {0x1d7ce, 0x1d7ff},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; ++i)
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    return false;
}

static kind kind_of(uint32_t code) {
    if (code == '\r' || code == '\n')
        return BREAK;
    if (is_number(code))
        return NUMBER;
    if (code == ' ' || (code >= '\t' && code <= '\f') || code == 0x85 || code == 0xa0 ||
        (code >= 0x80 && iswspace((wint_t)code)))
        return SPACE;
    if ((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') ||
        (code >= 0x80 && iswalpha((wint_t)code)))
        return LETTER;
    return OTHER;
}

typedef struct scan {
    const char *text;
    size_t length;
} scan;

static kind kind_at(const scan *s, size_t at, size_t *after) {
    *after = at;
    return kind_of(code_point(s->text, s->length, after));
}

/* The end of a run of one kind that begins at `at`, of at most `most` characters. */
static size_t run_end(const scan *s, size_t at, kind wanted, int most) {
    size_t after;
    for (; most > 0 && at < s->length && kind_at(s, at, &after) == wanted; --most)
        at = after;
    return at;
}

/* 's 't 're 've 'm 'll 'd, in either case: its length, or 0. */
static size_t contraction(const scan *s, size_t at) {
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (s->text[at] != '\'')
        return 0;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; ++i) {
        size_t n = 0;
        while (endings[i][n] && at + 1 + n < s->length &&
               (s->text[at + 1 + n] | 0x20) == endings[i][n])
            ++n;
        if (!endings[i][n])
            return n + 1;
    }
    return 0;
}

static size_t blanks_end(const scan *s, size_t at, size_t *last, size_t *after_break) {
    size_t after;
    *after_break = 0;
    *last = at;
    while (at < s->length) {
        const kind k = kind_at(s, at, &after);
        if (k != SPACE && k != BREAK)
            break;
        *last = at;
        at = after;
        if (k == BREAK)
            *after_break = at;
    }
    return at;
}

/*
 * The end of the word that begins at `at`, by Llama 3's pattern:
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 */
static size_t word_end(const scan *s, size_t at) {
    size_t after, last, after_break, end = at + contraction(s, at);
    if (end > at)
        return end;
    const kind first = kind_at(s, at, &after);
    if (first == LETTER)
        return run_end(s, at, LETTER, INT32_MAX);
    if ((first == SPACE || first == OTHER) && (end = run_end(s, after, LETTER, INT32_MAX)) > after)
        return end;
    if (first == NUMBER)
        return run_end(s, at, NUMBER, 3);
    const size_t from = s->text[at] == ' ' ? at + 1 : at;
    if ((end = run_end(s, from, OTHER, INT32_MAX)) > from)
        return run_end(s, end, BREAK, INT32_MAX);
    end = blanks_end(s, at, &last, &after_break);
    if (after_break > 0)
        return after_break;
    return end < s->length && last > at ? last
                                        : end; /* one blank stays with the word that follows */
}

/* ---------------------------------------------------------------- merging */

typedef struct list {
    int32_t *tokens;
    int64_t count, capacity;
} list;

static void put(list *l, int32_t token) {
    if (l->count < l->capacity)
        l->tokens[l->count] = token;
    ++l->count;
}

/* Of a word: bytes [at, at + length); next: the piece after it, or the number of all at the end. Joined to the one before: length is 0. */
typedef struct piece {
    size_t at, length, before, next;
} piece;

/* Two neighbours that the file would merge: valid as long as they are of `length` bytes together. */
typedef struct pair {
    int32_t rank;
    size_t left, length;
} pair;

typedef struct merging {
    const tokenizer *t;
    const char *spelled;
    piece *pieces;
    pair *heap; /* the lowest rank first, of equal ones the leftmost */
    size_t count, pairs;
} merging;

static bool comes_first(const pair *a, const pair *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void push(merging *m, pair p) {
    size_t i = m->pairs++;
    for (; i > 0 && comes_first(&p, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = p;
}

static pair pop(merging *m) {
    const pair first = m->heap[0], last = m->heap[--m->pairs];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->pairs)
            break;
        if (child + 1 < m->pairs && comes_first(&m->heap[child + 1], &m->heap[child]))
            ++child;
        if (!comes_first(&m->heap[child], &last))
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return first;
}

/* Takes a piece and the one after it into the heap, if there is a merge of them. */
static void consider(merging *m, size_t left) {
    const piece *a = &m->pieces[left], *b = &m->pieces[a->next];
    if (a->next == m->count)
        return;
    const int32_t rank =
        look_up(&m->t->ranks, m->spelled + a->at, a->length, m->spelled + b->at, b->length);
    if (rank >= 0)
        push(m, (pair){rank, left, a->length + b->length});
}

/* Joins the pair of the lowest rank, again and again. */
static void merge_all(merging *m) {
    for (size_t i = 0; i < m->count; ++i)
        consider(m, i);
    while (m->pairs > 0) {
        const pair p = pop(m);
        piece *left = &m->pieces[p.left], *right = &m->pieces[left->next];
        if (left->length == 0 || left->next == m->count || left->length + right->length != p.length)
            continue;
        left->length = p.length;
        left->next = right->next;
        right->length = 0;
        if (left->next < m->count)
            m->pieces[left->next].before = p.left;
        consider(m, p.left);
        if (p.left > 0)
            consider(m, left->before);
    }
}

/* `spelled` is the word in stand-ins. */
static bool merge(const tokenizer *t, const char *spelled, size_t length, list *out) {
    /* Each join makes two pairs at most, and leaves one piece fewer. */
    merging m = {.t = t,
                 .spelled = spelled,
                 .pieces = malloc((length + 1) * sizeof *m.pieces),
                 .heap = malloc((3 * length + 1) * sizeof *m.heap)};
    const bool done = m.pieces && m.heap;
    for (size_t at = 0; done && at < length;) {
        const size_t begin = at;
        (void)code_point(spelled, length, &at);
        m.pieces[m.count] = (piece){begin, at - begin, m.count - 1, m.count + 1};
        ++m.count;
    }
    if (done)
        merge_all(&m);
    for (size_t i = 0; i < m.count; i = m.pieces[i].next) {
        const int32_t id = look_up(&t->ids, spelled + m.pieces[i].at, m.pieces[i].length, NULL, 0);
        if (id >= 0)
            put(out, id);
    }
    free(m.heap);
    free(m.pieces);
    return done;
}

static bool encode_plain(const tokenizer *t, const char *text, size_t length, list *out) {
    const scan s = {text, length};
    char *spelled = malloc(2 * length + 1);
    bool done = spelled != NULL;
    for (size_t at = 0; done && at < length;) {
        const size_t end = word_end(&s, at);
        size_t used = 0;
        for (; at < end; ++at)
            used += put_code_point(t->code_of[(uint8_t)text[at]], spelled + used);
        const int32_t whole = look_up(&t->ids, spelled, used, NULL, 0);
        if (whole >= 0)
            put(out, whole);
        else
            done = merge(t, spelled, used, out);
    }
    free(spelled);
    return done;
}

/* The longest control token that stands at text[at], or -1. */
static int32_t control_at(const tokenizer *t, const char *text, size_t length, size_t at) {
    int32_t found = -1;
    uint64_t longest = 0;
    for (uint64_t i = 0; i < t->control_count; ++i) {
        const gguf_string *s = &t->tokens[t->controls[i]];
        if (s->length > longest && s->length <= length - at &&
            memcmp(s->text, text + at, s->length) == 0) {
            found = t->controls[i];
            longest = s->length;
        }
    }
    return found;
}

int64_t tokenizer_encode(const tokenizer *t, const char *text, size_t length, int32_t *tokens,
                         int64_t capacity) {
    list out = {.tokens = tokens, .capacity = capacity};
    size_t begin = 0;
    if (t->begin >= 0)
        put(&out, t->begin);
    for (size_t at = 0; at <= length; ++at) {
        const int32_t control = at < length ? control_at(t, text, length, at) : -1;
        if (control < 0 && at < length)
            continue;
        if (!encode_plain(t, text + begin, at - begin, &out))
            return -1;
        if (control >= 0) {
            put(&out, control);
            begin = at + t->tokens[control].length;
            at = begin - 1;
        }
    }
    return out.count;
}

size_t tokenizer_decode(const tokenizer *t, int32_t token, char *bytes, size_t capacity) {
    if (token < 0 || (uint64_t)token >= t->count)
        return 0;
    const gguf_string s = t->tokens[token];
    size_t used = 0;
    for (size_t at = 0; at < s.length && used < capacity;) {
        const uint32_t code = code_point(s.text, s.length, &at);
        if (code < 512 && t->byte_of[code])
            bytes[used++] = (char)(t->byte_of[code] - 1);
    }
    return used;
}

bool tokenizer_ends(const tokenizer *t, int32_t token) {
    for (size_t i = 0; i < sizeof t->ends / sizeof *t->ends; ++i)
        if (token >= 0 && token == t->ends[i])
            return true;
    return false;
}

/* ---------------------------------------------------------------- opening */

static bool read_controls(tokenizer *t, const gguf_file *file) {
    enum { CONTROL = 3 };
    const gguf_value *types = gguf_find(file, "tokenizer.ggml.token_type");
    t->controls = malloc((t->count + 1) * sizeof *t->controls);
    if (!t->controls)
        return false;
    if (!types || !types->array || types->count != t->count || types->bytes != 4 * t->count)
        return true;
    for (uint64_t i = 0; i < t->count; ++i) {
        int32_t type;
        memcpy(&type, types->data + 4 * i, sizeof type);
        if (type == CONTROL && t->tokens[i].length > 0)
            t->controls[t->control_count++] = (int32_t)i;
    }
    return true;
}

static int32_t token_id(const gguf_file *file, const char *key, uint64_t count) {
    return (int32_t)gguf_integer(file, key, 0, (int64_t)count - 1, -1);
}

tokenizer *tokenizer_open(const gguf_file *file, char error[512]) {
    const gguf_value *tokens = gguf_find(file, "tokenizer.ggml.tokens"),
                     *merges = gguf_find(file, "tokenizer.ggml.merges");
    if (!gguf_string_is(gguf_find(file, "tokenizer.ggml.model"), "gpt2") || !tokens || !merges ||
        !tokens->array || !merges->array || tokens->type != GGUF_STRING ||
        merges->type != GGUF_STRING || tokens->count > INT32_MAX || merges->count > INT32_MAX) {
        snprintf(error, 512,
                 "the file has no byte-level BPE (tokenizer.ggml.model \"gpt2\" with tokens and "
                 "merges)");
        return NULL;
    }
    const gguf_value *pre = gguf_find(file, "tokenizer.ggml.pre");
    if (pre && !gguf_string_is(pre, "llama-bpe") && !gguf_string_is(pre, "llama3") &&
        !gguf_string_is(pre, "default")) {
        snprintf(error, 512,
                 "tokenizer.ggml.pre is not \"llama-bpe\": this program knows no other "
                 "way to cut text into words");
        return NULL;
    }
    tokenizer *t = calloc(1, sizeof *t);
    uint64_t cursor = 0;
    if (t) {
        t->count = tokens->count;
        t->tokens = calloc(t->count + 1, sizeof *t->tokens);
    }
    if (!t || !t->tokens || !fill_table(&t->ids, tokens) || !fill_table(&t->ranks, merges)) {
        snprintf(error, 512, "no memory for the tokenizer");
        tokenizer_close(t);
        return NULL;
    }
    for (uint64_t i = 0; i < t->count; ++i)
        t->tokens[i] = gguf_string_at(tokens, &cursor);
    name_bytes(t);
    const bool begins = gguf_number(file, "tokenizer.ggml.add_bos_token", 1) != 0;
    t->begin = begins ? token_id(file, "tokenizer.ggml.bos_token_id", t->count) : -1;
    t->ends[0] = token_id(file, "tokenizer.ggml.eos_token_id", t->count);
    t->ends[1] = token_id(file, "tokenizer.ggml.eot_token_id", t->count);
    t->ends[2] = look_up(&t->ids, "<|eot_id|>", 10, NULL, 0);
    if (!read_controls(t, file)) {
        snprintf(error, 512, "no memory for the tokenizer");
        tokenizer_close(t);
        return NULL;
    }
    return t;
}

void tokenizer_close(tokenizer *t) {
    if (!t)
        return;
    free(t->tokens);
    free(t->ids.slots);
    free(t->ranks.slots);
    free(t->controls);
    free(t);
}
