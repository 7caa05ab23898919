/*
 * notify_*: what happened lately. The newest NOTIFY_MAX events are kept; each has a number, so that
 * who polls sees a gap when it was too slow.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "mgmt/tables.h"

#define NOTIFY_MAX	 1024
#define NOTIFY_CTX_BYTES 128 /* SPDK's; longer ones are cut */

static const char *const notify_types[] = {
	"bdev_register", "bdev_unregister", "bdev_resize", "vhost_connect", "vhost_disconnect",
	"vhost_error",	 "vhost_migration", "job_begin",   "job_end",
};

struct notify_event {
	const char *type; /* one of notify_types */
	char ctx[NOTIFY_CTX_BYTES];
};

static struct notify_event *notify_ring; /* NOTIFY_MAX; NULL until the first */
static uint64_t notify_count;		 /* of all there were: the next one's id */

void rpc_notify(const char *type, const char *ctx)
{
	struct notify_event *event;
	size_t i = 0;

	while (i < ARRAY_SIZE(notify_types) && strcmp(notify_types[i], type))
		i++;
	ASSERT(i < ARRAY_SIZE(notify_types));
	if (!notify_ring)
		notify_ring = calloc(NOTIFY_MAX, sizeof(*notify_ring));
	if (!notify_ring)
		return;
	event = &notify_ring[notify_count++ % NOTIFY_MAX];
	event->type = notify_types[i];
	i = strnlen(ctx, sizeof(event->ctx) - 1);
	while (ctx[i] && i && ((unsigned char)ctx[i] & 0xc0) == 0x80)
		i--; /* not in the middle of a character */
	memcpy(event->ctx, ctx, i);
	event->ctx[i] = '\0';
}

struct notify_params {
	uint64_t id, max;
};

static const struct opts_row notify_rows[] = {
	{ "id", OPTS_U64, offsetof(struct notify_params, id), .def = "0",
	  .help = "the first to be told" },
	{ "max", OPTS_U64, offsetof(struct notify_params, max), .def = "18446744073709551615",
	  .help = "at most so many" },
};
static const struct opts_table notify_get_notifications_params = { "notify_get_notifications",
								   notify_rows,
								   ARRAY_SIZE(notify_rows) };

static void get_types(struct rpc_call *call, void *params)
{
	json_t *types = json_array();

	for (size_t i = 0; types && i < ARRAY_SIZE(notify_types); i++)
		json_array_append_new(types, json_string(notify_types[i]));
	rpc_result(call, types);
}

static void get_notifications(struct rpc_call *call, void *params)
{
	const struct notify_params *p = params;
	const uint64_t oldest = notify_count > NOTIFY_MAX ? notify_count - NOTIFY_MAX : 0;
	json_t *events = json_array();

	for (uint64_t id = MAX(p->id, oldest), n = 0; events && id < notify_count && n < p->max;
	     id++, n++) {
		const struct notify_event *event = &notify_ring[id % NOTIFY_MAX];

		json_array_append_new(events, json_pack("{s:s, s:s, s:I}", "type", event->type,
							"ctx", event->ctx, "id", (json_int_t)id));
	}
	rpc_result(call, events);
}

const struct rpc_method m_notify[] = {
	{ "notify_get_types", "get_notification_types", .flags = RPC_READS, .run = get_types,
	  .help = "types of events", .result = "[type, ...]" },
	{ "notify_get_notifications", "get_notifications", &notify_get_notifications_params,
	  sizeof(struct notify_params), RPC_READS, RPC_INVALID_PARAMS, get_notifications,
	  "events, oldest first; the last 1024 are kept", "[{type, ctx, id}, ...]" },
	{ NULL },
};
