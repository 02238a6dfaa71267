/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c: see gguf.h. */
#include "gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ggml's number of each type that tenon has too. */
static const struct {
    uint32_t ggml_type;
    tenon_dtype dtype;
} types[] = {
    {0, TENON_F32},     {1, TENON_F16},  {2, TENON_Q4_0},  {3, TENON_Q4_1},   {6, TENON_Q5_0},
    {7, TENON_Q5_1},    {8, TENON_Q8_0}, {12, TENON_Q4_K}, {13, TENON_Q5_K},  {14, TENON_Q6_K},
    {20, TENON_IQ4_NL}, {28, TENON_F64}, {30, TENON_BF16}, {39, TENON_MXFP4}, {40, TENON_NVFP4},
};

static tenon_dtype dtype_of(uint32_t ggml_type) {
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i)
        if (types[i].ggml_type == ggml_type)
            return types[i].dtype;
    return TENON_DTYPE_NONE;
}

static uint32_t ggml_type_of(tenon_dtype dtype) {
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i)
        if (types[i].dtype == dtype)
            return types[i].ggml_type;
    return UINT32_MAX;
}

uint64_t gguf_bytes_of(tenon_dtype dtype, const int64_t extent[4]) {
    int64_t elements;
    size_t bytes;
    if (tenon_dtype_block(dtype, &elements, &bytes) != TENON_OK || extent[0] % elements != 0)
        return 0;
    uint64_t total = (uint64_t)(extent[0] / elements) * bytes;
    for (int d = 1; d < 4; ++d)
        if (__builtin_mul_overflow(total, (uint64_t)extent[d], &total))
            return 0;
    return total >> 48 ? 0 : total;
}

/* ---------------------------------------------------------------- reading */

typedef struct reader {
    gguf_file *file;
    uint64_t at;
    bool failed;
} reader;

static bool fail(gguf_file *file, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(file->error, sizeof file->error, format, args);
    va_end(args);
    return false;
}

/* The next `bytes` bytes, or NULL once the file's end has been passed. */
static const uint8_t *take(reader *r, uint64_t bytes) {
    if (r->failed || bytes > r->file->bytes - r->at) {
        if (!r->failed)
            fail(r->file, "the file ends at byte %llu, within what byte %llu announces",
                 (unsigned long long)r->file->bytes, (unsigned long long)r->at);
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->file->map + r->at;
    r->at += bytes;
    return p;
}

static uint64_t take_number(reader *r, unsigned bytes) {
    uint64_t value = 0;
    const uint8_t *p = take(r, bytes);
    if (p)
        memcpy(&value, p, bytes);
    return value;
}

static gguf_string take_string(reader *r) {
    gguf_string s = {.length = take_number(r, 8)};
    s.text = (const char *)take(r, s.length);
    if (!s.text)
        s.length = 0;
    return s;
}

static unsigned width_of(gguf_type type) {
    static const uint8_t width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return (unsigned)type < sizeof width ? width[type] : 0;
}

static bool take_value(reader *r, gguf_value *value) {
    value->key = take_string(r);
    value->type = (gguf_type)take_number(r, 4);
    value->count = 1;
    if (value->type == GGUF_ARRAY) {
        value->array = true;
        value->type = (gguf_type)take_number(r, 4);
        value->count = take_number(r, 8);
    }
    const uint64_t begin = r->at;
    value->data = r->file->map + begin;
    if (value->type == GGUF_STRING) {
        for (uint64_t i = 0; i < value->count && !r->failed; ++i)
            (void)take_string(r);
    } else if (width_of(value->type) == 0 || value->count > r->file->bytes) {
        r->failed = true;
        return fail(r->file, "value %.*s: type %u or length %llu is none of the format",
                    (int)(value->key.length & 0xff), value->key.text, (unsigned)value->type,
                    (unsigned long long)value->count);
    } else {
        (void)take(r, value->count * width_of(value->type));
    }
    value->bytes = r->at - begin;
    return !r->failed;
}

static bool take_tensor(reader *r, gguf_tensor *tensor) {
    tensor->name = take_string(r);
    const uint64_t rank = take_number(r, 4);
    if (r->failed)
        return false;
    if (rank > 4)
        return fail(r->file, "tensor %.*s has %llu dimensions, expected at most 4",
                    (int)(tensor->name.length & 0xff), tensor->name.text, (unsigned long long)rank);
    tensor->rank = (int)rank;
    for (int d = 0; d < 4; ++d) {
        const uint64_t extent = d < tensor->rank ? take_number(r, 8) : 1;
        if (extent >> 48)
            return fail(r->file, "tensor %.*s has an extent of %llu",
                        (int)(tensor->name.length & 0xff), tensor->name.text,
                        (unsigned long long)extent);
        tensor->extent[d] = (int64_t)extent;
    }
    tensor->ggml_type = (uint32_t)take_number(r, 4);
    tensor->dtype = dtype_of(tensor->ggml_type);
    tensor->bytes = take_number(r, 8); /* its offset, until place_tensors */
    return !r->failed;
}

static bool place_tensors(reader *r) {
    gguf_file *file = r->file;
    const double given = gguf_number(file, "general.alignment", 32);
    const uint64_t alignment = given >= 8 && given <= 1 << 20 ? (uint64_t)given : 0;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
        return fail(file, "general.alignment is %g, expected a power of two from 8 on", given);
    const uint64_t start = (r->at + alignment - 1) / alignment * alignment;
    for (uint64_t i = 0; i < file->tensor_count; ++i) {
        gguf_tensor *tensor = &file->tensors[i];
        const uint64_t offset = tensor->bytes;
        tensor->bytes = 0;
        if (tensor->dtype == TENON_DTYPE_NONE)
            continue; /* an error only for who wants it */
        tensor->bytes = gguf_bytes_of(tensor->dtype, tensor->extent);
        if (tensor->bytes == 0 || offset % alignment != 0 || start > file->bytes ||
            offset > file->bytes - start || tensor->bytes > file->bytes - start - offset)
            return fail(file, "tensor %.*s of %llu bytes at %llu does not lie in the file",
                        (int)(tensor->name.length & 0xff), tensor->name.text,
                        (unsigned long long)tensor->bytes, (unsigned long long)offset);
        tensor->data = file->map + start + offset;
    }
    return true;
}

static bool read_all(gguf_file *file) {
    reader r = {.file = file};
    const uint8_t *magic = take(&r, 4);
    const uint64_t version = take_number(&r, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0 || (version != 2 && version != 3))
        return fail(file, "not a GGUF file of version 2 or 3");
    file->tensor_count = take_number(&r, 8);
    file->value_count = take_number(&r, 8);
    /* Each takes more than 12 bytes of the file. */
    if (file->tensor_count > file->bytes / 12 || file->value_count > file->bytes / 12) {
        file->tensor_count = file->value_count = 0;
        return fail(file, "it announces more tensors or values than it has bytes");
    }
    file->values = calloc(file->value_count + 1, sizeof *file->values);
    file->tensors = calloc(file->tensor_count + 1, sizeof *file->tensors);
    if (!file->values || !file->tensors)
        return fail(file, "no memory for the table of its %llu tensors",
                    (unsigned long long)file->tensor_count);
    for (uint64_t i = 0; i < file->value_count; ++i)
        if (!take_value(&r, &file->values[i]))
            return false;
    for (uint64_t i = 0; i < file->tensor_count; ++i)
        if (!take_tensor(&r, &file->tensors[i]))
            return false;
    return place_tensors(&r);
}

bool gguf_open(gguf_file *file, const char *path) {
    *file = (gguf_file){0};
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(file, "%s", strerror(errno));
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 24) {
        close(fd);
        return fail(file, "not a GGUF file: too short, or no file");
    }
    void *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return fail(file, "it can't be mapped: %s", strerror(errno));
    file->map = map;
    file->bytes = (uint64_t)status.st_size;
    return read_all(file);
}

/* Whole pages, and those that the system maps along with one that is touched (Linux: up to 64 KiB). */
void gguf_release(const gguf_file *file, const uint8_t *data, uint64_t bytes) {
    const uint64_t along = 65536, at = (uint64_t)(data - file->map);
    const uint64_t first = at / along * along, end = (at + bytes + along - 1) / along * along;
    (void)madvise(file->map + first, (end < file->bytes ? end : file->bytes) - first,
                  MADV_DONTNEED);
}

void gguf_close(gguf_file *file) {
    if (file->map)
        munmap(file->map, file->bytes);
    free(file->values);
    free(file->tensors);
    file->map = NULL;
    file->values = NULL;
    file->tensors = NULL;
}

static bool same(gguf_string s, const char *text) {
    return s.length == strlen(text) && memcmp(s.text, text, s.length) == 0;
}

const gguf_value *gguf_find(const gguf_file *file, const char *key) {
    for (uint64_t i = 0; i < file->value_count; ++i)
        if (same(file->values[i].key, key))
            return &file->values[i];
    return NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name) {
    for (uint64_t i = 0; i < file->tensor_count; ++i)
        if (same(file->tensors[i].name, name))
            return &file->tensors[i];
    return NULL;
}

double gguf_number(const gguf_file *file, const char *key, double otherwise) {
    const gguf_value *value = gguf_find(file, key);
    if (!value || value->array || value->type == GGUF_STRING)
        return otherwise;
    uint64_t bits = 0;
    memcpy(&bits, value->data, value->bytes);
    float f32;
    double f64;
    switch (value->type) {
    case GGUF_I8:
        return (int8_t)bits;
    case GGUF_I16:
        return (int16_t)bits;
    case GGUF_I32:
        return (int32_t)bits;
    case GGUF_I64:
        return (double)(int64_t)bits;
    case GGUF_F32:
        memcpy(&f32, &bits, sizeof f32);
        return f32;
    case GGUF_F64:
        memcpy(&f64, &bits, sizeof f64);
        return f64;
    default:
        return (double)bits;
    }
}

int64_t gguf_integer(const gguf_file *file, const char *key, int64_t low, int64_t high,
                     int64_t otherwise) {
    const double value = gguf_number(file, key, (double)otherwise);
    if (!(value >= (double)low && value <= (double)high))
        return otherwise;
    return value == (double)(int64_t)value ? (int64_t)value : otherwise;
}

gguf_string gguf_string_at(const gguf_value *value, uint64_t *cursor) {
    gguf_string s = {.text = ""};
    if (value->type != GGUF_STRING || *cursor >= value->bytes)
        return s;
    memcpy(&s.length, value->data + *cursor, sizeof s.length); /* checked by take_value */
    s.text = (const char *)value->data + *cursor + sizeof s.length;
    *cursor += sizeof s.length + s.length;
    return s;
}

bool gguf_string_is(const gguf_value *value, const char *text) {
    uint64_t cursor = 0;
    return value && !value->array && value->type == GGUF_STRING &&
           same(gguf_string_at(value, &cursor), text);
}

/* ---------------------------------------------------------------- writing */

enum { ALIGNMENT = 32 };

typedef struct writer {
    FILE *out;
    uint64_t at;
    bool failed;
} writer;

bool gguf_put(void *sink, const void *data, size_t bytes) {
    writer *w = sink;
    if (!w->failed && bytes > 0 && fwrite(data, 1, bytes, w->out) != bytes)
        w->failed = true;
    w->at += bytes;
    return !w->failed;
}

static void put_number(writer *w, uint64_t value, unsigned bytes) {
    gguf_put(w, &value, bytes);
}

static void put_string(writer *w, const char *text) {
    put_number(w, strlen(text), 8);
    gguf_put(w, text, strlen(text));
}

static void put_padding(writer *w) {
    static const char zeros[ALIGNMENT];
    gguf_put(w, zeros, (ALIGNMENT - w->at % ALIGNMENT) % ALIGNMENT);
}

static void put_value(writer *w, const gguf_new_value *value) {
    const float f32 = (float)value->number;
    put_string(w, value->key);
    put_number(w, (uint64_t)value->type, 4);
    if (value->type == GGUF_STRING)
        put_string(w, value->text);
    else if (value->type == GGUF_F32)
        gguf_put(w, &f32, sizeof f32);
    else
        put_number(w, (uint64_t)value->number, width_of(value->type));
}

bool gguf_write(const char *path, const gguf_new_value *values, uint64_t value_count,
                const gguf_new_tensor *tensors, uint64_t tensor_count, gguf_fill *fill, void *user,
                char error[256]) {
    writer w = {.out = fopen(path, "wb")};
    if (!w.out) {
        snprintf(error, 256, "%s", strerror(errno));
        return false;
    }
    gguf_put(&w, "GGUF", 4);
    put_number(&w, 3, 4);
    put_number(&w, tensor_count, 8);
    put_number(&w, value_count, 8);
    for (uint64_t i = 0; i < value_count; ++i)
        put_value(&w, &values[i]);
    uint64_t offset = 0;
    for (uint64_t i = 0; i < tensor_count; ++i) {
        const gguf_new_tensor *t = &tensors[i];
        put_string(&w, t->name);
        put_number(&w, (uint64_t)t->rank, 4);
        for (int d = 0; d < t->rank; ++d)
            put_number(&w, (uint64_t)t->extent[d], 8);
        put_number(&w, ggml_type_of(t->dtype), 4);
        put_number(&w, offset, 8);
        offset += (gguf_bytes_of(t->dtype, t->extent) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    put_padding(&w);
    for (uint64_t i = 0; i < tensor_count && !w.failed; ++i) {
        const uint64_t begin = w.at;
        if (!fill(user, &tensors[i], &w) ||
            w.at - begin != gguf_bytes_of(tensors[i].dtype, tensors[i].extent))
            w.failed = true;
        put_padding(&w);
    }
    if (fclose(w.out) != 0 || w.failed) {
        snprintf(error, 256, "writing stopped at byte %llu: %s", (unsigned long long)w.at,
                 strerror(errno));
        remove(path);
        return false;
    }
    return true;
}
