/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device strings and the public device list. The only place that enumerates backends.
 */
#include "core/devices.h"

#include "core/read_desc.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct tn_backend_row {
    const char *name;
    const tn_backend *backend; /* NULL: absent */
    const char *reason;
} tn_backend_row;

#define TN_BACKEND(name) extern const tn_backend tn_backend_##name;
#define TN_BACKEND_ABSENT(name, reason)
#include "core/backends.def"
#undef TN_BACKEND
#undef TN_BACKEND_ABSENT

static const tn_backend_row rows[] = {
#define TN_BACKEND(name) {#name, &tn_backend_##name, NULL},
#define TN_BACKEND_ABSENT(name, reason) {#name, NULL, reason},
#include "core/backends.def"
#undef TN_BACKEND
#undef TN_BACKEND_ABSENT
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static int entries_of(const tn_backend_row *row) {
    const int count = row->backend ? row->backend->count() : 0;
    return count > 0 ? count : 1;
}

int tenon_device_count(void) {
    int count = 0;
    for (int r = 0; r < ROWS; ++r)
        count += entries_of(&rows[r]);
    return count;
}

static void absent_info(const tn_backend_row *row, tenon_device_info *info) {
    snprintf(info->id, sizeof info->id, "%s", row->name);
    snprintf(info->backend, sizeof info->backend, "%s", row->name);
    snprintf(info->reason, sizeof info->reason, "%s", row->reason);
}

tenon_status tenon_device_get(int index, tenon_device_info *info) {
    if (!info)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_device_get: info is NULL, expected an address");
    int left = index;
    for (int r = 0; r < ROWS && left >= 0; ++r) {
        const int entries = entries_of(&rows[r]);
        if (left < entries) {
            tenon_device_info full;
            memset(&full, 0, sizeof full);
            if (rows[r].backend)
                rows[r].backend->info(left, &full);
            else
                absent_info(&rows[r], &full);
            return tn_write_info("tenon_device_get", info, &full, sizeof full);
        }
        left -= entries;
    }
    return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                          "tenon_device_get: index is %d, expected 0 to %d", index,
                          tenon_device_count() - 1);
}

/* ---------------------------------------------------------------- device strings */

/* Parses "name" or "name:n" of `length` bytes; -1 if the index is no small number. */
static int parse_element(const char *text, size_t length, char *name, size_t capacity) {
    const char *colon = memchr(text, ':', length);
    const size_t name_length = colon ? (size_t)(colon - text) : length;
    int index = 0;

    if (name_length == 0 || name_length >= capacity)
        return -1;
    memcpy(name, text, name_length);
    name[name_length] = 0;
    if (!colon)
        return 0;
    if (colon + 1 == text + length || length - name_length > 4)
        return -1;
    for (const char *c = colon + 1; c < text + length; ++c) {
        if (*c < '0' || *c > '9')
            return -1;
        index = index * 10 + (*c - '0');
    }
    return index;
}

/* Appends "; reason" to a sentence that grows. */
static void add_reason(tn_message *why, const char *id, const char *reason) {
    const size_t used = strlen(why->text);
    if (used + 1 < sizeof why->text)
        snprintf(why->text + used, sizeof why->text - used, "%s%s: %s", used ? "; " : "", id,
                 reason);
}

/* Finds a usable device, or adds why it is not to `reasons`. */
static bool find_device(const tn_backend_row *row, int index, tn_device_name *name,
                        tn_message *reasons) {
    if (index > 0)
        snprintf(name->id, sizeof name->id, "%s:%d", row->name, index);
    else
        snprintf(name->id, sizeof name->id, "%s", row->name);
    name->backend = row->backend;
    name->index = index;
    if (!row->backend) {
        add_reason(reasons, name->id, row->reason);
        return false;
    }
    const int devices = row->backend->count();
    if (index >= devices) {
        tenon_device_info info;
        memset(&info, 0, sizeof info);
        if (devices == 0)
            row->backend->info(0, &info);
        else
            snprintf(info.reason, sizeof info.reason, "there %s only %d",
                     devices == 1 ? "is" : "are", devices);
        add_reason(reasons, name->id, info.reason);
        return false;
    }
    return true;
}

/* The best usable device: the first row with one; "reference" is last. */
static bool find_best(tn_device_name *name, tn_message *reasons) {
    for (int r = 0; r < ROWS; ++r) {
        if (rows[r].backend && rows[r].backend->by_name)
            continue;
        if (find_device(&rows[r], 0, name, reasons))
            return true;
    }
    return false;
}

/* A chain that grows. */
typedef struct chain {
    tn_device_name *name;
    int count;
    unsigned by_auto; /* bit i: name[i] is there because of "auto" alone */
} chain;

/* Adds a device. "auto" and a name may mean the same one, which then counts once; two names may
 * not. */
static tenon_status add_device(chain *c, const tn_device_name *name, bool by_auto,
                               const char *whole, tn_message *why) {
    for (int i = 0; i < c->count; ++i) {
        if (c->name[i].backend != name->backend || c->name[i].index != name->index)
            continue;
        if (!by_auto && !(c->by_auto & 1u << i))
            return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                           "device is \"%.100s\" with \"%s\" twice, expected each device once",
                           whole, name->id);
        if (!by_auto)
            c->by_auto &= ~(1u << i);
        return TENON_OK;
    }
    if (c->count == TN_MAX_CHAIN)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "device is \"%.100s\", expected at most %d devices", whole, TN_MAX_CHAIN);
    if (by_auto)
        c->by_auto |= 1u << c->count;
    c->name[c->count++] = *name;
    return TENON_OK;
}

tenon_status tn_devices_resolve(const char *text, const char *environment,
                                tn_device_name names[TN_MAX_CHAIN], int *count, tn_message *why) {
    tn_message reasons = {{0}};
    chain c = {.name = names};
    const char *whole;

    *count = 0;
    if (!text)
        text = "auto";
    if (strcmp(text, "auto") == 0 && environment && environment[0])
        text = environment;
    whole = text;
    for (;;) {
        const size_t length = strcspn(text, ",");
        char name[16];
        const int index = parse_element(text, length, name, sizeof name);
        const bool by_auto = index == 0 && strcmp(name, "auto") == 0;
        tn_device_name found;
        int row = -1;

        for (int r = 0; r < ROWS && index >= 0; ++r)
            if (strcmp(name, rows[r].name) == 0)
                row = r;
        if (row < 0 && !by_auto)
            return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                           "device is \"%.100s\", expected names like \"auto\", \"cpu\", "
                           "\"cuda:0\", \"opencl:1\", "
                           "\"reference\", separated by commas",
                           whole);
        if (by_auto ? find_best(&found, &reasons)
                    : find_device(&rows[row], index, &found, &reasons))
            TN_TRY(add_device(&c, &found, by_auto, whole, why));
        text += length;
        if (*text == 0)
            break;
        ++text;
    }
    if (c.count == 0)
        return tn_fail(why, TENON_ERROR_NO_DEVICE,
                       "device is \"%.100s\", expected one that is usable here: %.300s", whole,
                       reasons.text);
    *count = c.count;
    return TENON_OK;
}

tenon_status tn_devices_space(const char *text, tn_space **out, tn_message *why) {
    tn_message reasons = {{0}};
    const size_t length = strlen(text ? text : "");
    char name[16];

    *out = NULL;
    if (!text)
        return TENON_OK;
    const int index = parse_element(text, length, name, sizeof name);
    for (int r = 0; r < ROWS && index >= 0; ++r) {
        tn_device_name found;
        if (strcmp(name, rows[r].name) != 0)
            continue;
        if (!find_device(&rows[r], index, &found, &reasons))
            return tn_fail(why, TENON_ERROR_NO_DEVICE,
                           "device is \"%.64s\", expected one that is usable here: %.300s", text,
                           reasons.text);
        return found.backend->host ? TENON_OK : found.backend->open_space(index, out, why);
    }
    return tn_fail(why, TENON_ERROR_NO_DEVICE,
                   "device is \"%.64s\", expected one device like \"cpu\" or \"opencl:0\"", text);
}
