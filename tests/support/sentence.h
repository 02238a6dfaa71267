/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sentence.h: the rule for what a failed call says, as include/tenon/status.h gives it: "call: field is value, expected …". Tests of
 * bad input hold every sentence to it.
 */
#ifndef TEST_SENTENCE_H
#define TEST_SENTENCE_H

#include <tenon/status.h>

#include <ctype.h>
#include <string.h>

/* The end of a path like "q.shape[3]", "block_table[0, 2]" or "ctx". */
static inline const char *sentence_path_end(const char *at) {
    while (isalnum((unsigned char)*at) || *at == '_' || *at == '.' || *at == '[') {
        if (*at == '[')
            at += strcspn(at, "]");
        at += *at != 0;
    }
    return at;
}

/* What breaks the rule in a sentence of `call`; NULL if nothing does. */
static inline const char *sentence_fault(const char *said, const char *call, tenon_status status) {
    const size_t length = strlen(call);
    if (strncmp(said, call, length) != 0 || strncmp(said + length, ": ", 2) != 0)
        return "does not begin with the call's name and a colon";
    const char *rest = said + length + 2;
    if (strstr(rest, call) == rest)
        return "begins with the call's name twice";
    if (status != TENON_ERROR_INVALID_ARGUMENT)
        return *rest ? NULL : "says nothing";
    if (!isalpha((unsigned char)*rest) || *sentence_path_end(rest) != ' ')
        return "does not go on with a field";
    return strstr(rest, "expected ") ? NULL : "does not say what was expected";
}

#endif
