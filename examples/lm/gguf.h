/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gguf.h: reading and writing GGUF files (version 2 and 3, little-endian), as ggml's specification describes them: key-value
 * pairs, then tensors' names, shapes and offsets, then their data, aligned.
 *
 * A file is untrusted: every length is checked against the file's end before it is used, and a mistake is a sentence, not a crash.
 */
#ifndef LM_GGUF_H
#define LM_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/tenon.h>

/* Types of values, numbered as in files. */
typedef enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12
} gguf_type;

typedef struct gguf_string {
    const char *text; /* in the file, not terminated */
    uint64_t length;
} gguf_string;

typedef struct gguf_value {
    gguf_string key;
    gguf_type type; /* of an array: of its elements */
    bool array;
    uint64_t count;      /* 1, or the array's elements */
    const uint8_t *data; /* the first element */
    uint64_t bytes;      /* of all elements */
} gguf_value;

typedef struct gguf_tensor {
    gguf_string name;
    tenon_dtype dtype; /* TENON_DTYPE_NONE: a type that tenon does not have */
    uint32_t ggml_type;
    int rank;
    int64_t extent[4]; /* as in the file: the fastest first; 1 beyond the rank */
    uint8_t *data;
    uint64_t bytes;
} gguf_tensor;

typedef struct gguf_file {
    uint8_t *map;
    uint64_t bytes;
    uint64_t value_count, tensor_count;
    gguf_value *values;
    gguf_tensor *tensors;
    char error[256];
} gguf_file;

/* Maps a file; false with a sentence in error. Close it either way. */
bool gguf_open(gguf_file *file, const char *path);
void gguf_close(gguf_file *file);

/* Gives memory that holds these bytes of the map back; who reads there again has it read from the file again. */
void gguf_release(const gguf_file *file, const uint8_t *data, uint64_t bytes);

/* NULL if there is none of this name. */
const gguf_value *gguf_find(const gguf_file *file, const char *key);
const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name);

/* A number of any type, or `otherwise` if there is none. */
double gguf_number(const gguf_file *file, const char *key, double otherwise);
/* A whole number from `low` to `high`; `otherwise` if there is none, or another. */
int64_t gguf_integer(const gguf_file *file, const char *key, int64_t low, int64_t high,
                     int64_t otherwise);
/* Element `index` of an array of strings; empty if it is none. In order only: *cursor begins as 0. */
gguf_string gguf_string_at(const gguf_value *value, uint64_t *cursor);
bool gguf_string_is(const gguf_value *value, const char *text);

/* ---------------------------------------------------------------- writing */

typedef struct gguf_new_value {
    const char *key;
    gguf_type type; /* U32, F32, BOOL or STRING */
    double number;
    const char *text;
} gguf_new_value;

typedef struct gguf_new_tensor {
    char name[64];
    tenon_dtype dtype;
    int rank;
    int64_t extent[4]; /* the fastest first */
} gguf_new_tensor;

/* Writes the tensor's data, in any pieces, to `sink`. */
typedef bool gguf_fill(void *user, const gguf_new_tensor *tensor, void *sink);
bool gguf_put(void *sink, const void *data, size_t bytes);

/* Writes a file; false with a sentence in `error`. */
bool gguf_write(const char *path, const gguf_new_value *values, uint64_t value_count,
                const gguf_new_tensor *tensors, uint64_t tensor_count, gguf_fill *fill, void *user,
                char error[256]);

/* Bytes of a tensor of this type, or 0 if its rows are no whole blocks or it is too large. */
uint64_t gguf_bytes_of(tenon_dtype dtype, const int64_t extent[4]);

#endif
