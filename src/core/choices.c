/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choices.c: the list of algorithms that a backend's plan offers, kept as a frontier: from one
 * entry to the next the workspace falls and the predicted time does not.
 *
 * Backends offer what they can do in any order; what another choice beats in both is left out, so
 * that "the first that fits" is "the fastest that fits". Allocates nothing.
 */
#include "core/backend.h"

#include <string.h>

static void insert(tn_choices *list, int at, int beaten, const tn_choice *choice) {
    const int behind = list->count - (at + beaten);
    memmove(&list->choice[at + 1], &list->choice[at + beaten],
            (size_t)behind * sizeof *list->choice);
    list->choice[at] = *choice;
    list->count = at + 1 + behind;
}

void tn_choices_offer(tn_choices *list, const tn_choice *choice) {
    int at = 0, beaten = 0;

    for (; at < list->count && list->choice[at].seconds <= choice->seconds; ++at) {
        if (list->choice[at].workspace <= choice->workspace)
            return;
        if (list->choice[at].seconds == choice->seconds)
            break; /* as fast with more workspace: beaten */
    }
    while (at + beaten < list->count && list->choice[at + beaten].workspace >= choice->workspace)
        ++beaten;
    if (list->count - beaten < TN_MAX_CHOICES)
        insert(list, at, beaten, choice);
    else if (at == list->count) /* full: what needs the least must stay reachable */
        insert(list, at - 1, 1, choice);
}
