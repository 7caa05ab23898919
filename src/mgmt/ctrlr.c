#include "mgmt/ctrlr.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/text.h"
#include "dev/bdev.h"
#include "loop/queue_stats.h"
#include "mgmt/framework.h"
#include "mgmt/server.h"
#include "sock/endpoint.h"

/* ---- events ---- */

static void ctrlr_on_event(const char *name, enum endpoint_event event, const char *text)
{
	static const char *const types[] = {
		[ENDPOINT_CONNECTED] = "vhost_connect",
		[ENDPOINT_DISCONNECTED] = "vhost_disconnect",
		[ENDPOINT_ERROR] = "vhost_error",
		[ENDPOINT_MIGRATION] = "vhost_migration",
	};
	char ctx[256];

	snprintf(ctx, sizeof(ctx), "%.96s%s%s", name, *text ? ": " : "", text);
	rpc_notify(types[event], ctx);
}

void ctrlr_init(void)
{
	endpoint_watch(ctrlr_on_event);
}

/* ---- making one ---- */

static void ctrlr_free(void *owner)
{
	struct ctrlr *c = owner;

	section_drop(&c->saved);
	json_decref(c->hosts);
	free(c->cpumask);
	if (c->made_folder)
		rmdir(c->traddr);
	free(c->traddr);
	free(c);
}

void ctrlr_drop(struct ctrlr_new *new)
{
	if (new->def) {
		device_def_fini(new->def);
		free(new->def);
	}
	if (new->ctrlr)
		ctrlr_free(new->ctrlr);
	*new = (struct ctrlr_new){ 0 };
}

static int ctrlr_fill(struct ctrlr_new *new, const char *type, const char *name,
		      const char *cpumask, struct err *reterr)
{
	int rc = device_def_type_set(new->def, type, reterr);

	if (rc == 0)
		rc = devices_mask_parse(cpumask, new->def->loop_mask, reterr);
	if (rc == 0 && !*name)
		return err_set(reterr, -EINVAL, "expected a name, got ''");
	for (const char *c = name; rc == 0 && *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return err_set(reterr, -EINVAL,
				       "expected a name of printable characters, got byte 0x%02x",
				       (unsigned char)*c);
	if (rc == 0)
		rc = device_def_set(new->def, "name", name, reterr);
	if (rc == 0 && cpumask && !(new->ctrlr->cpumask = strdup(cpumask)))
		return err_set(reterr, -ENOMEM, "out of memory");
	return rc;
}

int ctrlr_begin(enum ctrlr_kind kind, const char *type, const char *name, const char *cpumask,
		struct ctrlr_new *ret_new, struct err *reterr)
{
	struct ctrlr_new new = { .def = calloc(1, sizeof(*new.def)),
				 .ctrlr = calloc(1, sizeof(*new.ctrlr)) };
	int rc = -ENOMEM;

	if (new.def)
		device_def_init(new.def, name);
	if (!new.def || !new.ctrlr) {
		err_set(reterr, rc, "out of memory");
		goto fail;
	}
	new.ctrlr->kind = kind;
	rc = ctrlr_fill(&new, type, name, cpumask, reterr);
	if (rc < 0)
		goto fail;
	*ret_new = new;
	return 0;
fail:
	if (new.def && !new.def->type) {
		free(new.def);
		new.def = NULL;
	}
	ctrlr_drop(&new);
	return rc;
}

int ctrlr_set(struct ctrlr_new *new, const char *key, const char *value, struct err *reterr)
{
	return value ? device_def_set(new->def, key, value, reterr) : 0;
}

int ctrlr_set_number(struct ctrlr_new *new, const char *key, uint64_t value, struct err *reterr)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return ctrlr_set(new, key, text, reterr);
}

const char *ctrlr_socket_dir(void)
{
	const char *dir = framework_get()->socket_dir;

	return dir ? dir : SERVER_DIR_DEFAULT;
}

int ctrlr_set_socket(struct ctrlr_new *new, const char *dir, const char *name, struct err *reterr)
{
	char path[256];
	struct stat st;
	int n;

	if (!dir)
		dir = ctrlr_socket_dir();
	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return err_set(reterr, -EINVAL,
			       "expected the name of a file in %s, got '%.64s' (-S sets the "
			       "folder)",
			       dir, name);
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(reterr, -ENOENT,
			       "%.108s: expected a folder for sockets; make it, or give another "
			       "(-S)",
			       dir);
	n = snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (n >= (int)sizeof(path))
		return err_set(reterr, -EINVAL,
			       "expected a shorter name, got %d characters of path", n);
	return ctrlr_set(new, "socket", path, reterr);
}

int ctrlr_add(struct ctrlr_new *new, bool start, struct device **ret_dev, struct err *reterr)
{
	struct device_def *def = new->def;
	struct ctrlr *c = new->ctrlr;

	*new = (struct ctrlr_new){ 0 };
	return start ? devices_add(def, c, ctrlr_free, ret_dev, reterr)
		     : devices_open(def, c, ctrlr_free, ret_dev, reterr);
}

/* ---- those that there are ---- */

enum ctrlr_kind ctrlr_kind(const struct device *dev)
{
	const struct device_def *def = dev->def;
	const bool vfu = def->transport == TRANSPORT_VFIO_USER;

	if (ctrlr_of(dev))
		return ctrlr_of(dev)->kind;
	if (def->type == &device_blk)
		return vfu ? CTRLR_VFU_BLK : CTRLR_BLK;
	if (def->type == &device_scsi)
		return vfu ? CTRLR_VFU_SCSI : CTRLR_SCSI;
	return vfu ? CTRLR_NVMF_LISTENER : CTRLR_NVME;
}

struct device *ctrlr_find(const char *param, const char *name, uint32_t kinds, struct err *reterr)
{
	struct device *dev = devices_find(name);

	if (!dev) {
		err_set(reterr, -ENODEV, "%s: there is no '%.64s'", param, name);
		return NULL;
	}
	if (kinds & 1u << ctrlr_kind(dev))
		return dev;
	err_set(reterr, -ENODEV, "%s: '%.64s' is a %s device over %s, which this is not for", param,
		name, dev->def->type->name, device_transport_names[dev->def->transport]);
	return NULL;
}

void ctrlr_fail(struct rpc_call *call, int rc, struct err *err)
{
	err_prefix(err, rc, "%s", strerror(-rc));
	rpc_fail(call, rc, err);
}

struct only_look {
	char unit[32];
	uint32_t count;
};

static void only_look(const char *unit, const struct blk_dev *blk, void *arg)
{
	struct only_look *look = arg;

	look->count++;
	snprintf(look->unit, sizeof(look->unit), "%s", unit);
}

int ctrlr_disk_find(const struct device *dev, const char *unit, char *buf, size_t size,
		    struct blk_dev **ret_blk, struct err *reterr)
{
	struct only_look look = { .count = 0 };

	device_disks_visit(dev, only_look, &look);
	snprintf(buf, size, "%s", unit ? unit : look.unit);
	if (!unit && look.count != 1)
		return err_set(reterr, -EINVAL,
			       "unit: expected one of the %u disks of '%.64s'; device_get_devices "
			       "lists them",
			       look.count, dev->def->name);
	*ret_blk = device_disk_find(dev, buf);
	if (!*ret_blk)
		return err_set(reterr, -ENODEV,
			       "unit: '%.32s' is no disk of '%.64s'; device_get_devices lists them",
			       buf, dev->def->name);
	return 0;
}

static void ctrlr_on_removed(void *call)
{
	rpc_result_saved(call, json_true());
}

void ctrlr_delete(struct rpc_call *call, struct device *dev)
{
	devices_remove(dev, ctrlr_on_removed, call);
}

/* ---- units ---- */

static int ctrlr_unit_fill(struct unit_def *def, const struct ctrlr_unit *unit, struct err *reterr)
{
	char number[16];
	const struct {
		const char *key, *value;
	} words[] = {
		{ def->place.kind->table->rows[0].name, number },
		{ "bdev", unit->bdev },
		{ "uuid", unit->uuid },
		{ "nguid", unit->nguid },
		{ "eui64", unit->eui64 },
	};
	int rc = 0;

	snprintf(number, sizeof(number), "%u", unit->number);
	for (size_t i = 0; i < ARRAY_SIZE(words) && rc == 0; i++)
		if (words[i].value)
			rc = unit_set(def, words[i].key, words[i].value, reterr);
	if (rc == 0)
		rc = unit_check(def, reterr);
	return rc < 0 ? rc : backend_check(&def->back, reterr);
}

int ctrlr_unit_add(struct device *dev, const struct ctrlr_unit *unit, struct err *reterr)
{
	char where[UNIT_WHERE_MAX];
	struct device_unit *open;
	struct unit_def def;
	int rc = unit_init(&def, dev->def->type->units, reterr);

	if (rc == 0)
		rc = ctrlr_unit_fill(&def, unit, reterr);
	unit_where(&def.place, where);
	if (rc == 0 && device_unit_find(dev, unit->number, 0))
		rc = err_set(reterr, -EEXIST, "is in use; remove what is there first");
	if (rc == 0)
		rc = device_unit_new(dev, &def, &open, reterr);
	if (rc == 0) {
		rc = device_unit_attach(open, reterr);
		if (rc < 0)
			device_unit_free(open);
	}
	ctrlr_changed(dev);
	unit_fini(&def);
	return rc < 0 ? err_prefix(reterr, rc, "%s: %s", dev->def->name, where) : 0;
}

struct ctrlr_removal {
	struct rpc_call *call;
	uint32_t waits; /* units that have not left, and until all were told to */
	int rc;
	struct err err;
};

static void ctrlr_removal_step(void *arg)
{
	struct ctrlr_removal *r = arg;

	if (--r->waits)
		return;
	if (r->rc < 0)
		ctrlr_fail(r->call, r->rc, &r->err);
	else
		rpc_result_saved(r->call, json_true());
	free(r);
}

void ctrlr_unit_remove(struct rpc_call *call, struct device *dev, uint32_t number)
{
	struct ctrlr_removal *r = calloc(1, sizeof(*r));
	struct device_unit *unit, *tmp;
	bool any = false;

	if (!r) {
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	r->call = call;
	r->waits = 1;
	list_for_each_safe(unit, tmp, &dev->units, node) {
		if (unit->leaving || unit->place.number != number)
			continue;
		any = true;
		r->waits++;
		r->rc = device_unit_leave(unit, ctrlr_removal_step, r, &r->err);
		if (r->rc < 0) {
			r->waits--;
			break;
		}
	}
	if (!any)
		r->rc = err_set(&r->err, -ENODEV, "%s: there is no %s %u", dev->def->name,
				dev->def->type->units->key, number);
	ctrlr_removal_step(r);
}

uint32_t ctrlr_unit_free_number(struct device *dev, uint32_t first)
{
	while (device_unit_find(dev, first, 0))
		first++;
	return first;
}

static const char *ctrlr_bdev_name(const struct blk_dev *blk, const struct backend_def *back)
{
	const struct bdev *bdev = blk && back->bdev ? bdev_of(blk) : NULL;

	return bdev ? bdev->name : NULL;
}

const char *ctrlr_unit_bdev(const struct device_unit *unit)
{
	return ctrlr_bdev_name(unit_open_blk(unit->open), &unit_open_def(unit->open)->back);
}

const char *ctrlr_blk_bdev(const struct device *dev)
{
	return ctrlr_bdev_name(dev->blk, &dev->def->back);
}

static json_t *ctrlr_target_json(json_t *targets, uint32_t number)
{
	char name[32];
	json_t *target;
	size_t i;

	json_array_foreach(targets, i, target)
	{
		if (json_integer_value(json_object_get(target, "scsi_dev_num")) == number)
			return json_object_get(target, "luns");
	}
	snprintf(name, sizeof(name), "Target %u", number);
	target = json_pack("{s:i, s:i, s:s, s:[]}", "scsi_dev_num", number, "id", number,
			   "target_name", name, "luns");
	json_array_append_new(targets, target);
	return json_object_get(target, "luns");
}

json_t *ctrlr_targets_json(struct device *dev)
{
	json_t *targets = json_array();
	const struct device_unit *unit;

	list_for_each(unit, &dev->units, node) {
		if (unit->leaving)
			continue;
		json_array_append_new(ctrlr_target_json(targets, unit->place.number),
				      json_pack("{s:i, s:o}", "id", (int)unit->place.lun,
						"bdev_name", ctrlr_text(ctrlr_unit_bdev(unit))));
	}
	return targets;
}

/* ---- JSON ---- */

struct ctrlr_sessions {
	json_t *list;
	json_t *now; /* the connection whose queues follow */
};

static void ctrlr_on_conn(const struct conn_stats *conn, void *arg)
{
	struct ctrlr_sessions *s = arg;
	char name[16];

	snprintf(name, sizeof(name), "s%u", conn->idx);
	s->now = json_pack("{s:i, s:i, s:s, s:b, s:i, s:i, s:s}", "vid", (int)conn->idx, "id",
			   (int)conn->idx, "name", name, "started", 0, "max_queues", 0,
			   "inflight_task_cnt", 0, "state", conn->state);
	json_array_append_new(s->list, s->now);
}

static void ctrlr_json_add(json_t *obj, const char *key, uint32_t n)
{
	json_object_set_new(obj, key,
			    json_integer(json_integer_value(json_object_get(obj, key)) + n));
}

static void ctrlr_on_queue(const struct queue_stats *queue, void *arg)
{
	struct ctrlr_sessions *s = arg;

	ctrlr_json_add(s->now, "max_queues", 1);
	ctrlr_json_add(s->now, "inflight_task_cnt", queue->in_flight);
	if (queue->state == QUEUE_RUNNING)
		json_object_set_new(s->now, "started", json_true());
}

json_t *ctrlr_sessions_json(const struct device *dev)
{
	struct ctrlr_sessions s = { .list = json_array() };

	device_visit(dev, &(struct queue_visitor){
				  .conn = ctrlr_on_conn, .queue = ctrlr_on_queue, .arg = &s });
	return s.list;
}

json_t *ctrlr_text(const char *text)
{
	json_t *value = text ? json_string(text) : json_null();
	char *clean;

	if (value)
		return value;
	clean = strdup(text);
	for (char *c = clean; c && *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	value = clean ? json_string(clean) : NULL;
	free(clean);
	return value;
}

/* How many of the bdevs that its calls name are there. */
static uint32_t ctrlr_parts(const struct device *dev)
{
	uint32_t parts = ctrlr_blk_bdev(dev) ? 1 : 0;
	const struct device_unit *unit;

	list_for_each(unit, &dev->units, node)
		if (!unit->leaving && ctrlr_unit_bdev(unit))
			parts++;
	return parts;
}

void ctrlr_write(struct section_out *out, struct device *dev, section_write_fn *write)
{
	section_object(out, &ctrlr_of(dev)->saved, ctrlr_parts(dev), write, dev);
}

void ctrlr_changed(const struct device *dev)
{
	if (ctrlr_of(dev))
		section_drop(&ctrlr_of(dev)->saved);
}

void ctrlr_write_call(json_t *calls, const char *method, json_t *params)
{
	const char *key;
	json_t *value;
	void *tmp;

	json_object_foreach_safe(params, tmp, key, value)
	{
		if (json_is_null(value))
			json_object_del(params, key);
	}
	json_array_append_new(calls, json_pack("{s:s, s:o}", "method", method, "params", params));
}

void ctrlr_write_coalescing(json_t *calls, const struct device *dev)
{
	const struct vring_coalescing *c = &dev->coalescing;

	if (ctrlr_of(dev)->coalescing)
		ctrlr_write_call(calls, "vhost_controller_set_coalescing",
				 json_pack("{s:o, s:I, s:I}", "ctrlr", ctrlr_text(dev->def->name),
					   "delay_base_us", (json_int_t)c->delay_base_us,
					   "iops_threshold", (json_int_t)c->iops_threshold));
}

void ctrlr_write_given(json_t *params, const char *param, const struct device *dev, const char *key)
{
	const struct opts_table *table = dev->def->type->table;

	for (size_t i = 0; i < table->count; i++) {
		const struct opts_row *row = &table->rows[i];
		char buf[32];
		const char *text;

		if (strcmp(row->name, key) != 0 || !(dev->def->given & 1ull << i))
			continue;
		text = opts_text(row, dev->def, buf, sizeof(buf));
		if (row->type == OPTS_BOOL)
			json_object_set_new(params, param, json_boolean(!strcmp(text, "on")));
		else if (row->type == OPTS_STR)
			json_object_set_new(params, param, ctrlr_text(text));
		else
			json_object_set_new(params, param, json_integer(strtoll(text, NULL, 10)));
	}
}
