#include "dev/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "loop/loop.h"

enum devices_state {
	DEVICES_OPEN,
	DEVICES_RUNNING,
	DEVICES_LEAVING,
	DEVICES_GONE
};

struct devices_entry {
	struct device dev; /* first */
	struct list node;
	enum devices_state state;
	void *owner;
	void (*owner_free)(void *owner);
	struct loop **loops; /* those of its mask; NULL: all */
	bool done;
	bool wanted; /* devices_start came while they were held */
	void (*removed)(void *arg);
	void *removed_arg;
	struct loop_msg msg; /* out of the caller's stack */
};

static struct list entries = { &entries, &entries };
static struct devices_params params;
static bool stopping, held;

static void devices_state_set(struct devices_entry *e, enum devices_state state)
{
	static const uint8_t legal[] = {
		[DEVICES_OPEN] = 1 << DEVICES_RUNNING | 1 << DEVICES_LEAVING,
		[DEVICES_RUNNING] = 1 << DEVICES_LEAVING,
		[DEVICES_LEAVING] = 1 << DEVICES_GONE,
		[DEVICES_GONE] = 0,
	};

	ASSERT(legal[e->state] & 1 << state);
	e->state = state;
}

static struct devices_entry *devices_entry(const struct device *dev)
{
	return container_of((struct device *)dev, struct devices_entry, dev);
}

void devices_init(const struct devices_params *p)
{
	params = *p;
	stopping = held = false;
}

/* ---- the list ---- */

static bool devices_here(const struct devices_entry *e)
{
	return e->state == DEVICES_OPEN || e->state == DEVICES_RUNNING;
}

struct device *devices_find(const char *name)
{
	struct devices_entry *e;

	list_for_each(e, &entries, node)
		if (devices_here(e) && !strcmp(e->dev.def->name, name))
			return &e->dev;
	return NULL;
}

struct device *devices_next(const struct device *prev)
{
	const struct list *at = prev ? devices_entry(prev)->node.next : entries.next;

	for (; at != &entries; at = at->next) {
		struct devices_entry *e = list_entry((struct list *)at, struct devices_entry, node);

		if (devices_here(e))
			return &e->dev;
	}
	return NULL;
}

void *devices_owner(const struct device *dev)
{
	return devices_entry(dev)->owner;
}

static int devices_check_unique(const struct device_def *def, struct err *reterr)
{
	const struct devices_entry *e;

	list_for_each(e, &entries, node) {
		const struct device_def *other = e->dev.def;
		const char *leaves = e->state == DEVICES_LEAVING ? ", which is being removed" : "";

		if (e->state == DEVICES_GONE)
			continue;
		if (!strcmp(def->name, other->name))
			return err_set(reterr, -EEXIST,
				       "name: '%.64s' is also that of another device%s", def->name,
				       leaves);
		if (def->socket && other->socket && !strcmp(def->socket, other->socket))
			return err_set(reterr, -EEXIST, "socket: '%.108s' is also that of %s%s",
				       def->socket, other->name, leaves);
	}
	return 0;
}

const char *devices_leaving(void)
{
	const struct devices_entry *e;

	list_for_each(e, &entries, node)
		if (e->state == DEVICES_LEAVING)
			return e->dev.def->name;
	return NULL;
}

/* ---- the end ---- */

static void devices_def_free(struct device_def *def)
{
	device_def_fini(def);
	free(def);
}

static void devices_entry_free(struct devices_entry *e)
{
	struct device_def *def = e->dev.def;

	list_remove(&e->node);
	def->running = NULL;
	if (e->owner) {
		e->owner_free(e->owner);
		devices_def_free(def);
	}
	free(e->loops);
	free(e);
}

/* Others may have had the subsystem of one that was kept for them. */
static void devices_sweep(void)
{
	struct devices_entry *e, *tmp;

	list_for_each_safe(e, tmp, &entries, node)
		if (e->state == DEVICES_GONE && !e->dev.members)
			devices_entry_free(e);
}

static void devices_check_drained(void)
{
	const struct devices_entry *e;

	if (!stopping)
		return;
	list_for_each(e, &entries, node)
		if (e->state != DEVICES_GONE)
			return;
	params.on_drained(params.arg);
}

static void devices_gone(struct devices_entry *e)
{
	void (*removed)(void *arg) = e->removed;
	void *arg = e->removed_arg;

	devices_state_set(e, DEVICES_GONE);
	device_close(&e->dev);
	devices_sweep();
	if (removed)
		removed(arg);
	devices_check_drained();
}

static void devices_on_stopped(struct device *dev)
{
	devices_gone(devices_entry(dev));
}

static void devices_on_released(struct loop_msg *msg)
{
	devices_gone(container_of(msg, struct devices_entry, msg));
}

void devices_remove(struct device *dev, void (*removed)(void *arg), void *arg)
{
	struct devices_entry *e = devices_entry(dev);
	bool started = e->state == DEVICES_RUNNING;

	e->removed = removed;
	e->removed_arg = arg;
	devices_state_set(e, DEVICES_LEAVING);
	if (started) {
		device_stop(dev);
		return;
	}
	device_release(dev);
	e->msg.fn = devices_on_released;
	loop_post(params.main_loop, &e->msg);
}

void devices_stop_all(void)
{
	struct device *dev;

	while ((dev = devices_next(NULL)) != NULL)
		devices_remove(dev, NULL, NULL);
	stopping = true;
	devices_check_drained();
}

void devices_unlink_all(void)
{
	const struct devices_entry *e;

	list_for_each(e, &entries, node) {
		const struct device_def *def = e->dev.def;

		if (e->dev.ep && !def->inherited && !def->client)
			unlink(def->socket);
	}
}

/* ---- the beginning ---- */

/* Not from within the device's own call: what on_done does comes a message later. */
static void devices_on_done(struct device *dev)
{
	const struct devices_entry *e;

	devices_entry(dev)->done = true;
	list_for_each(e, &entries, node)
		if (devices_here(e) && !e->done)
			return;
	params.on_done(params.arg);
}

static int devices_try_open(struct devices_entry *e, struct device_def *def, struct err *reterr)
{
	int rc = e->owner ? device_def_check(def, reterr) : 0;

	if (rc == 0)
		rc = devices_check_unique(def, reterr);
	return rc < 0 ? rc : device_open(&e->dev, def, reterr);
}

int devices_open(struct device_def *def, void *owner, void (*owner_free)(void *owner),
		 struct device **ret_dev, struct err *reterr)
{
	struct devices_entry *e = calloc(1, sizeof(*e));
	int rc = -ENOMEM;

	if (!e) {
		err_set(reterr, rc, "out of memory");
		goto fail;
	}
	e->owner = owner;
	e->owner_free = owner_free;
	e->dev.on_done = devices_on_done;
	e->dev.stopped = devices_on_stopped;
	rc = stopping ? err_set(reterr, -ESHUTDOWN, "the daemon is stopping")
		      : devices_try_open(e, def, reterr);
	if (rc < 0)
		goto fail;
	list_append(&entries, &e->node);
	*ret_dev = &e->dev;
	return 0;
fail:
	free(e);
	def->running = NULL;
	if (owner) {
		owner_free(owner);
		devices_def_free(def);
	}
	return rc;
}

static bool devices_mask_has(const uint64_t mask[DEVICE_MASK_WORDS], uint32_t idx)
{
	return mask[idx / 64] >> idx % 64 & 1;
}

static bool devices_mask_empty(const uint64_t mask[DEVICE_MASK_WORDS])
{
	for (uint32_t i = 0; i < DEVICE_MASK_WORDS; i++)
		if (mask[i])
			return false;
	return true;
}

/* The loops of its mask, in an array of its own. */
static int devices_loops(struct devices_entry *e, struct loop ***ret_loops, uint32_t *ret_count,
			 struct err *reterr)
{
	const uint64_t *mask = e->dev.def->loop_mask;

	*ret_loops = params.loops;
	*ret_count = *params.loop_count;
	if (devices_mask_empty(mask))
		return 0;
	if (!e->loops)
		e->loops = calloc(*params.loop_count, sizeof(struct loop *));
	if (!e->loops)
		return err_set(reterr, -ENOMEM, "out of memory");
	*ret_loops = e->loops;
	*ret_count = 0;
	for (uint32_t i = 0; i < *params.loop_count; i++)
		if (devices_mask_has(mask, i))
			e->loops[(*ret_count)++] = params.loops[i];
	return 0;
}

int devices_start(struct device *dev, struct err *reterr)
{
	struct devices_entry *e = devices_entry(dev);
	struct loop **loops;
	uint32_t count;
	int rc;

	ASSERT(e->state == DEVICES_OPEN);
	e->wanted = held;
	if (held)
		return 0;
	rc = devices_loops(e, &loops, &count, reterr);
	if (rc == 0)
		rc = device_start(dev, params.main_loop, loops, count, reterr);
	if (rc == 0)
		devices_state_set(e, DEVICES_RUNNING);
	return rc;
}

int devices_add(struct device_def *def, void *owner, void (*owner_free)(void *owner),
		struct device **ret_dev, struct err *reterr)
{
	int rc = devices_open(def, owner, owner_free, ret_dev, reterr);

	if (rc < 0)
		return rc;
	rc = devices_start(*ret_dev, reterr);
	if (rc < 0)
		devices_remove(*ret_dev, NULL, NULL);
	return rc;
}

void devices_hold(void)
{
	held = true;
}

bool devices_release(struct device *dev)
{
	const struct devices_entry *e = devices_entry(dev);

	held = false;
	return e->wanted && e->state == DEVICES_OPEN;
}

int devices_start_all(struct err *reterr)
{
	struct devices_entry *e;
	int rc = 0;

	held = false;
	list_for_each(e, &entries, node)
		if (rc == 0 && e->wanted && e->state == DEVICES_OPEN)
			rc = devices_start(&e->dev, reterr);
	return rc;
}

/* ---- masks ---- */

static const char mask_form[] = "a hexadecimal mask or a list in brackets";

static int devices_mask_set(uint64_t mask[DEVICE_MASK_WORDS], uint64_t first, uint64_t last,
			    const char *text, struct err *reterr)
{
	if (first > last || last >= *params.loop_count)
		return err_set(reterr, -EINVAL, "cpumask: expected data loops 0..%u, got '%.64s'",
			       *params.loop_count - 1, text);
	for (uint64_t i = first; i <= last; i++)
		mask[i / 64] |= 1ull << i % 64;
	return 0;
}

/* "0,2-3]" */
static int devices_mask_parse_list(const char *text, uint64_t mask[DEVICE_MASK_WORDS],
				   struct err *reterr)
{
	const char *at = text;
	int rc = 0;

	while (rc == 0) {
		char *end;
		uint64_t first = strtoull(at, &end, 10), last = first;

		if (end == at || *at < '0' || *at > '9')
			break;
		at = end;
		if (*at == '-') {
			last = strtoull(++at, &end, 10);
			if (end == at || *at < '0' || *at > '9')
				break;
			at = end;
		}
		rc = devices_mask_set(mask, first, last, text - 1, reterr);
		if (rc == 0 && *at == ']' && !at[1])
			return 0;
		if (*at++ != ',')
			break;
	}
	return rc < 0 ? rc
		      : err_set(reterr, -EINVAL, "cpumask: expected %s, got '%.64s'", mask_form,
				text - 1);
}

int devices_mask_parse(const char *text, uint64_t ret_mask[DEVICE_MASK_WORDS], struct err *reterr)
{
	const char *digits = text, hex[] = "0123456789abcdef";
	size_t len;
	int rc = 0;

	memset(ret_mask, 0, DEVICE_MASK_WORDS * sizeof(*ret_mask));
	if (!text)
		return 0;
	if (*text == '[')
		return devices_mask_parse_list(text + 1, ret_mask, reterr);
	if (!strncasecmp(digits, "0x", 2))
		digits += 2;
	len = strlen(digits);
	if (!len || strspn(digits, "0123456789abcdefABCDEF") != len)
		return err_set(reterr, -EINVAL, "cpumask: expected %s, got '%.64s'", mask_form,
			       text);
	for (size_t i = 0; i < len && rc == 0; i++) {
		const char c = digits[len - 1 - i];
		const uint64_t value =
			(uint64_t)(strchr(hex, c >= 'A' && c <= 'F' ? c + 32 : c) - hex);

		for (uint32_t bit = 0; bit < 4 && rc == 0; bit++)
			if (value >> bit & 1)
				rc = devices_mask_set(ret_mask, i * 4 + bit, i * 4 + bit, text,
						      reterr);
	}
	if (rc == 0 && devices_mask_empty(ret_mask))
		rc = err_set(reterr, -EINVAL, "cpumask: expected at least one data loop, got '%s'",
			     text);
	return rc;
}

const char *devices_mask_text(const struct device *dev, char *buf, size_t size)
{
	const uint64_t *mask = dev->def->loop_mask;
	const bool all = devices_mask_empty(mask);
	uint32_t digits = (*params.loop_count + 3) / 4;
	size_t len = 2;

	ASSERT(size > digits + 2);
	memcpy(buf, "0x", 2);
	while (digits--) {
		unsigned value = 0;

		for (uint32_t bit = 0; bit < 4; bit++) {
			const uint32_t i = digits * 4 + bit;

			if (i < *params.loop_count && (all || devices_mask_has(mask, i)))
				value |= 1u << bit;
		}
		if (value || len > 2 || !digits)
			buf[len++] = "0123456789abcdef"[value];
	}
	buf[len] = '\0';
	return buf;
}
