/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of backends and the meaning of device strings. Knows backends only as rows of
 * backends.def.
 */
#ifndef TN_DEVICES_H
#define TN_DEVICES_H

#include "core/backend.h"

#define TN_MAX_CHAIN 4
#define TN_DEVICE_ID_BYTES 32

/* One element of a device string. */
typedef struct tn_device_name {
    const tn_backend *backend;
    int index;
    char id[TN_DEVICE_ID_BYTES]; /* normalised: "cpu", "cuda:0" */
} tn_device_name;

/*
 * Resolves "auto", "cpu", "cuda:0,cpu" … ("auto" through TENON_DEVICE if `environment` is not
 * NULL). Elements that name a backend without a usable device are left out with their reason in
 * `why`; INVALID_ARGUMENT if the string makes no sense, NO_DEVICE if nothing is left.
 */
tenon_status tn_devices_resolve(const char *text, const char *environment,
                                tn_device_name names[TN_MAX_CHAIN], int *count, tn_message *why);

/*
 * The memory of the one device that `text` names (NULL: "cpu"), retained; NULL is the host's.
 * INVALID_ARGUMENT or NO_DEVICE with a sentence about the field `device`.
 */
tenon_status tn_devices_space(const char *text, tn_space **out, tn_message *why);

#endif
