/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entering a context, for the rooms below the core that implement public calls on one (buffers).
 */
#ifndef TN_ENTER_H
#define TN_ENTER_H

#include "core/message.h"

#include <tenon/memory.h>

/*
 * Every public call on a context is wrapped in these: BUSY if another thread is inside. `call` is
 * the function's name, a literal; leaving with a failure puts it before the sentence.
 * tn_context_leave returns `status`.
 */
tenon_status tn_context_enter(tenon_context *ctx, const char *call);
tenon_status tn_context_leave(tenon_context *ctx, tenon_status status);

/* Where a call that is inside tells its failures, without its name. */
tn_message *tn_context_message(tenon_context *ctx);

#endif
