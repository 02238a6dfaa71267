/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer.h: byte-level BPE (Sennrich et al., 2016; Radford et al., 2019) with the tokens and merges of a GGUF file
 * (tokenizer.ggml.model "gpt2", as Llama 3 has it). Text is first cut into words as Llama 3 cuts it (tokenizer.ggml.pre "llama-bpe"); what is a letter outside of ASCII is what the
 * C library's iswalpha says in a UTF-8 locale, which also takes vowel signs of Indic scripts for letters: such words may be cut otherwise.
 */
#ifndef LM_TOKENIZER_H
#define LM_TOKENIZER_H

#include "gguf.h"

typedef struct tokenizer tokenizer;

/* NULL with a sentence if the file has no such tokenizer. */
tokenizer *tokenizer_open(const gguf_file *file, char error[512]);
void tokenizer_close(tokenizer *t);

/*
 * The tokens of a text, with the one that begins a text where the file says so; control tokens such as <|eot_id|> may be written out.
 * Returns their number, of which at most `capacity` are stored; -1 without memory.
 */
int64_t tokenizer_encode(const tokenizer *t, const char *text, size_t length, int32_t *tokens,
                         int64_t capacity);

/* The bytes of a token, at most `capacity`; returns their number. */
size_t tokenizer_decode(const tokenizer *t, int32_t token, char *bytes, size_t capacity);

/* Whether generation ends with this token. */
bool tokenizer_ends(const tokenizer *t, int32_t token);

#endif
