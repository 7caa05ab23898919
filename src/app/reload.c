#include "app/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

/* A place of one device, as it is or as it is to be. */
struct reload_place {
	struct unit_place place;
	const struct unit_def *def;
	struct device_unit *unit; /* NULL: def is what is to be */
};

struct reload {
	const struct app_config *running;
	struct app_config next;
	int64_t *match;	   /* of each next device: index of the running one, -1: none */
	struct list added; /* struct device_unit, open and not shown */
	bool postponed;	   /* something is to be shown that has to leave another place first */
	bool detached;
};

/* What is to be read again as soon as another unit was closed; NULL: nothing. */
static const struct app_config *waiting;

/* ---- which device is which ---- */

static bool reload_is_taken(const struct reload *r, uint32_t idx)
{
	for (uint32_t i = 0; i < r->next.device_count; i++)
		if (r->match[i] == idx)
			return true;
	return false;
}

static bool reload_same_socket(const struct device_def *a, const struct device_def *b)
{
	return a->socket && b->socket && !strcmp(a->socket, b->socket);
}

/* A name that was made up tells one device from another only where there is no socket. */
static bool reload_same_name(const struct device_def *a, const struct device_def *b)
{
	return !strcmp(a->name, b->name) && (!b->name_made || (!a->socket && !b->socket));
}

static int reload_match(struct reload *r, struct err *reterr)
{
	r->match = calloc(r->next.device_count + 1, sizeof(*r->match));
	if (!r->match)
		return err_set(reterr, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < r->next.device_count; i++)
		r->match[i] = -1;
	for (int by_name = 0; by_name <= 1; by_name++) {
		for (uint32_t i = 0; i < r->next.device_count; i++) {
			const struct device_def *b = &r->next.devices[i];

			for (uint32_t k = 0; k < r->running->device_count && r->match[i] < 0; k++) {
				const struct device_def *a = &r->running->devices[k];

				if ((by_name ? reload_same_name(a, b) : reload_same_socket(a, b)) &&
				    !reload_is_taken(r, k))
					r->match[i] = k;
			}
		}
	}
	return 0;
}

/* ---- what needs a restart ---- */

static void reload_tell_row(const char *name, const char *where, const struct opts_row *row,
			    const void *old, const void *new)
{
	char old_text[32], new_text[32];

	log_warning("reload: %s: %s%s: '%.64s' needs a restart, it stays '%.64s'", name, where,
		    row->name, opts_text(row, new, new_text, sizeof(new_text)),
		    opts_text(row, old, old_text, sizeof(old_text)));
}

/* And what can change while it runs is changed. */
static void reload_tell_device(const struct device_def *old, const struct device_def *new)
{
	const struct opts_table *table = old->type->table;
	char a[32], b[32];

	if (old->type != new->type) {
		log_warning("reload: %s: type: '%s' needs a restart, it stays '%s'", old->name,
			    new->type->name, old->type->name);
		return;
	}
	for (size_t i = 0; i < table->count; i++) {
		const struct opts_row *row = &table->rows[i];

		if (!strcmp(row->name, "name") && old->name_made && new->name_made)
			continue;
		if (!strcmp(opts_text(row, old, a, sizeof(a)), opts_text(row, new, b, sizeof(b))))
			continue;
		if (!old->running || !device_adopt(old->running, new, row))
			reload_tell_row(old->name, "", row, old, new);
	}
}

/* What calls have made belongs to the management socket by now. */
static void reload_tell_calls(const struct app_config *old, const struct app_config *new)
{
	for (uint32_t i = 0; i < new->replay_count; i++) {
		const struct jsonfile *file = &new->replays[i]->file;
		bool same = false;

		for (uint32_t k = 0; k < old->replay_count; k++)
			same |= !strcmp(old->replays[k]->file.path, file->path) &&
				json_equal(old->replays[k]->file.root, file->root);
		if (!same)
			log_warning("reload: %s: its calls have changed, and are not run again: "
				    "needs a restart, or the same calls from vhostctl rpc",
				    file->path);
	}
}

static void reload_tell_options(const char *what, const struct opts_table *table, const void *old,
				const void *new)
{
	char a[32], b[32];

	for (size_t i = 0; i < table->count; i++)
		if (strcmp(opts_text(&table->rows[i], old, a, sizeof(a)),
			   opts_text(&table->rows[i], new, b, sizeof(b))) != 0)
			reload_tell_row(what, "", &table->rows[i], old, new);
}

static void reload_tell(const struct reload *r)
{
	const struct app_config *old = r->running, *new = &r->next;

	if (strcmp(old->cores ? old->cores : "", new->cores ? new->cores : "") != 0)
		log_warning("reload: cores: needs a restart");
	if (old->pin != new->pin)
		log_warning("reload: pin: needs a restart");
	if (old->log_level != new->log_level)
		log_warning("reload: log-level: needs a restart");
	reload_tell_options("management", &server_options_table, &old->rpc, &new->rpc);
	reload_tell_options("metrics", &http_options_table, &old->metrics, &new->metrics);
	reload_tell_calls(old, new);
	for (uint32_t k = 0; k < old->device_count; k++)
		if (!reload_is_taken(r, k))
			log_warning("reload: %s: is no longer configured: needs a restart",
				    old->devices[k].name);
	for (uint32_t i = 0; i < new->device_count; i++) {
		if (r->match[i] < 0)
			log_warning("reload: %s: a new device needs a restart",
				    new->devices[i].where);
		else
			reload_tell_device(&old->devices[r->match[i]], &new->devices[i]);
	}
}

/* ---- the units of a device ---- */

static int reload_place_order(const void *left, const void *right)
{
	const struct reload_place *a = left, *b = right;
	int order = unit_place_order(&a->place, &b->place);

	return order ? order : !a->unit - !b->unit; /* what is, first */
}

/* All places of dev, the running ones and those of def, sorted. */
static struct reload_place *reload_places(struct device *dev, const struct device_def *def,
					  size_t *ret_count)
{
	struct reload_place *places;
	struct device_unit *unit;
	size_t count = 0;

	list_for_each(unit, &dev->units, node)
		count += !unit->leaving;
	places = calloc(count + def->unit_count + 1, sizeof(*places));
	if (!places)
		return NULL;
	count = 0;
	list_for_each(unit, &dev->units, node) {
		if (!unit->leaving)
			places[count++] = (struct reload_place){ unit->place,
								 unit_open_def(unit->open), unit };
	}
	for (uint32_t i = 0; i < def->unit_count; i++) {
		const struct unit_def *to_be = &def->units[i];

		places[count++] = (struct reload_place){ to_be->place, to_be, NULL };
	}
	qsort(places, count, sizeof(*places), reload_place_order);
	*ret_count = count;
	return places;
}

/* There is a unit at this place, and there is to be one. */
static void reload_unit_stays(const struct device *dev, const struct reload_place *old,
			      const struct reload_place *new)
{
	const struct unit_def *leader = unit_leader(new->def);
	const struct opts_row *row = unit_differs(old->def, leader, false);
	char place[UNIT_WHERE_MAX], where[UNIT_WHERE_MAX + 4];

	if (!row)
		return;
	snprintf(where, sizeof(where), "%s: ", unit_where(&new->place, place));
	reload_tell_row(dev->def->name, where, row, old->def, leader);
}

static int reload_unit_add(struct reload *r, struct device *dev, const struct reload_place *new,
			   struct err *reterr)
{
	struct device_unit *unit;
	char where[UNIT_WHERE_MAX];
	int rc = device_unit_new(dev, new->def, &unit, reterr);

	if (rc == -EAGAIN) {
		r->postponed = true;
		return 0;
	}
	if (rc < 0)
		return err_prefix(reterr, rc, "%s: %s", dev->def->name,
				  unit_where(&new->place, where));
	list_append(&r->added, &unit->node);
	return 0;
}

/* Opens what is new and marks what is to go. */
static int reload_device(struct reload *r, struct device *dev, const struct device_def *def,
			 struct err *reterr)
{
	size_t count = 0;
	struct reload_place *places = reload_places(dev, def, &count);
	int rc = 0;

	if (!places)
		return err_set(reterr, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count && rc == 0; i++) {
		struct reload_place *at = &places[i], *next = at + 1;

		if (!at->unit) {
			rc = reload_unit_add(r, dev, at, reterr);
		} else if (i + 1 < count && !unit_place_order(&at->place, &next->place)) {
			reload_unit_stays(dev, at, next);
			i++;
		} else {
			at->unit->doomed = true;
		}
	}
	free(places);
	return rc;
}

/* ---- all of it ---- */

/* Both: one line for each unit. */
static void reload_detach(struct reload *r, struct device *dev)
{
	struct device_unit *unit, *tmp;

	list_for_each_safe(unit, tmp, &dev->units, node) {
		struct err err = { 0 };
		char where[UNIT_WHERE_MAX];

		if (!unit->doomed)
			continue;
		unit->doomed = false;
		unit_where(&unit->place, where);
		if (device_unit_detach(unit, &err) < 0) {
			log_error("reload: %s: %s: %s", dev->def->name, where, err.msg);
			continue;
		}
		r->detached = true;
		log_notice("%s: %s: detached", dev->def->name, where);
	}
}

static void reload_attach(struct reload *r)
{
	struct device_unit *unit, *tmp;

	list_for_each_safe(unit, tmp, &r->added, node) {
		const char *name = unit->dev->def->name;
		struct err err = { 0 };
		char where[UNIT_WHERE_MAX];

		unit_where(&unit->place, where);
		if (device_unit_attach(unit, &err) == 0) {
			log_notice("%s: %s: attached", name, where);
			continue;
		}
		log_error("reload: %s: %s: %s", name, where, err.msg);
		device_unit_free(unit);
	}
}

/* The running device that has the units of the next device idx; NULL: that one has none. */
static struct device *reload_device_at(const struct reload *r, uint32_t idx)
{
	const struct device_def *def = &r->next.devices[idx], *old = NULL;

	if (!def->type->units || def->leader)
		return NULL;
	/* whichever device of a subsystem is the first now: the one that was has them */
	for (uint32_t k = 0; def->subsystem && k < r->running->device_count && !old; k++) {
		const struct device_def *other = &r->running->devices[k];

		if (other->subsystem && !strcmp(other->subsystem, def->subsystem))
			old = other;
	}
	if (!def->subsystem && r->match[idx] >= 0)
		old = &r->running->devices[r->match[idx]];
	if (!old || old->type != def->type || (old->subsystem && !def->subsystem))
		return NULL;
	return old->running;
}

/* Nothing that was prepared is done. */
static void reload_undo(struct reload *r)
{
	struct device_unit *unit;
	struct list *node;

	while ((node = list_pop(&r->added)) != NULL)
		device_unit_free(list_entry(node, struct device_unit, node));
	for (uint32_t k = 0; k < r->running->device_count; k++) {
		struct device *dev = r->running->devices[k].running;

		if (!dev)
			continue;
		list_for_each(unit, &dev->units, node)
			unit->doomed = false;
	}
}

/* A unit that is to be is still being closed: its image is in use. Nothing is opened before. */
static int reload_check_closing(const struct reload *r, struct err *reterr)
{
	char where[UNIT_WHERE_MAX];

	for (uint32_t i = 0; units_closing() && i < r->next.device_count; i++) {
		const struct device_def *def = &r->next.devices[i];
		const struct device *dev = reload_device_at(r, i);

		for (uint32_t u = 0; dev && u < def->unit_count; u++) {
			const struct unit_def *unit = &def->units[u];

			if (!unit_is_closing(unit, dev))
				continue;
			return err_set(reterr, -EAGAIN, "%s: %s: is still being closed", def->name,
				       unit_where(&unit->place, where));
		}
	}
	return 0;
}

static int reload_prepare(struct reload *r, struct err *reterr)
{
	int rc = args_parse_again(r->running, &r->next, reterr);

	if (rc == 0)
		rc = reload_match(r, reterr);
	if (rc == 0)
		rc = reload_check_closing(r, reterr);
	for (uint32_t i = 0; i < r->next.device_count && rc == 0; i++) {
		struct device *dev = reload_device_at(r, i);

		if (dev)
			rc = reload_device(r, dev, &r->next.devices[i], reterr);
	}
	return rc;
}

/* True: all that was in the way has left at once, and the rest may be done. */
static bool reload_once(const struct app_config *running)
{
	struct reload r = { .running = running };
	struct err err = { 0 };
	int rc;

	list_init(&r.added);
	waiting = NULL;
	rc = reload_prepare(&r, &err);
	if (rc < 0) {
		reload_undo(&r);
		if (rc == -EAGAIN) {
			log_info("reload: %s; waiting", err.msg);
			waiting = running;
		} else {
			log_error("reload: %s; nothing was changed", err.msg);
		}
	} else {
		reload_tell(&r);
		for (uint32_t i = 0; i < r.next.device_count; i++)
			if (reload_device_at(&r, i))
				reload_detach(&r, reload_device_at(&r, i));
		reload_attach(&r);
		if (r.postponed && units_closing())
			waiting = running;
	}
	free(r.match);
	app_config_fini(&r.next);
	return rc == 0 && r.postponed && r.detached && !waiting;
}

void reload_run(const struct app_config *running)
{
	while (reload_once(running))
		;
}

void reload_on_unit_closed(void)
{
	if (waiting)
		reload_run(waiting);
}

bool reload_waits(void)
{
	return waiting;
}
