/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patch.c: wrong kernels on purpose, for tests of what tests find (tests/cuda/kernel_mutants.py): a
 * module's PTX is changed in one line as it is loaded, and which statements have been executed can
 * be asked, as a change of any other is no test of anything.
 */
#include "drv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char kernel[96], text[2048]; /* a wgmma names up to 128 registers */
    u32 line;                    /* 0: nothing is to be changed */
} patch;

void standin_patch(const char *kernel, uint32_t line, const char *text) {
    memset(&patch, 0, sizeof patch);
    if (!kernel)
        return;
    snprintf(patch.kernel, sizeof patch.kernel, "%s", kernel);
    snprintf(patch.text, sizeof patch.text, "%s", text);
    patch.line = line;
}

/* Whether the text has a kernel of this name: ".entry name(". */
static bool has_kernel(const char *text, const char *name) {
    const size_t n = strlen(name);
    for (const char *s = text; (s = strstr(s, ".entry ")) != NULL;) {
        s += strlen(".entry ");
        if (strncmp(s, name, n) == 0 && (s[n] == '(' || s[n] == ' ' || s[n] == '\n'))
            return true;
    }
    return false;
}

char *sim_patched(char *text, size_t *length) {
    if (patch.line == 0 || !has_kernel(text, patch.kernel))
        return text;
    char *begin = text;
    for (u32 n = 1; n < patch.line && begin; ++n) {
        begin = strchr(begin, '\n');
        begin = begin ? begin + 1 : NULL;
    }
    if (!begin)
        return text;
    const size_t before = (size_t)(begin - text), old = strcspn(begin, "\n"),
                 with = strlen(patch.text), bytes = *length - old + with;
    char *changed = sim_alloc(bytes + 1);
    memcpy(changed, text, before);
    memcpy(changed + before, patch.text, with);
    memcpy(changed + before + with, begin + old, *length - before - old);
    free(text);
    *length = bytes;
    return changed;
}

static sim_kernel *loaded(const char *name) {
    for (CUmodule m = drv.modules; m; m = m->next)
        for (sim_kernel *k = m->sim->kernel; k; k = k->next)
            if (strcmp(k->name, name) == 0)
                return k;
    return NULL;
}

const char *standin_ptx(const char *kernel) {
    const sim_kernel *k = loaded(kernel);
    return k ? k->module->text : NULL;
}

bool standin_reached(const char *kernel, uint32_t line) {
    const sim_kernel *k = loaded(kernel);
    for (u32 i = 0; k && k->reached && i < k->length; ++i)
        if (k->code[i].line == line && k->reached[i])
            return true;
    return false;
}
