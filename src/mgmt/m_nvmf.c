/*
 * nvmf_*: NVMe subsystems that clients reach over vfio-user, set up by the calls that SPDK
 * documents for its VFIOUSER transport. There is no other transport here.
 *
 * A subsystem is a device without a socket, which has the namespaces; each listener is a device
 * that is one more controller of it, with the socket TRADDR/cntrl.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "mgmt/ctrlr.h"
#include "mgmt/m_nvmf.h"
#include "mgmt/params.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

#define TRTYPE	    NVMF_TRTYPE
#define SOCKET_FILE "cntrl"
#define NQN_MAX	    NVMF_NQN_MAX
#define NSID_MAX    1024
#define QPAIRS_MAX  256

#define ROW(s, key, kind, field, need, text)                                                       \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct s, field), .required = need,  \
		.help = text                                                                       \
	}

/* ---- the transport ---- */

struct transport {
	char *trtype, *tgt_name;
	uint32_t max_queue_depth, max_io_qpairs_per_ctrlr, max_qpairs_per_ctrlr, ignored;
	bool disable_mappable_bar0, disable_adaptive_irq, disable_shadow_doorbells, ignored_bool;
};

/* What listeners get; made: nvmf_create_transport was called. */
static struct {
	bool made;
	struct transport is;
} transport;

#define IGNORED(key)                                                                               \
	ROW(transport, key, OPTS_U32, ignored, false, "accepted, without effect: of networks")

static const struct opts_row transport_rows[] = {
	ROW(transport, "trtype", OPTS_STR, trtype, true, "only " TRTYPE),
	ROW(transport, "tgt_name", OPTS_STR, tgt_name, false, "accepted: there is one target"),
	{ "max_queue_depth", OPTS_U32, offsetof(struct transport, max_queue_depth), 2, 32768,
	  .def = "256", .help = "most entries of a queue" },
	{ "max_io_qpairs_per_ctrlr", OPTS_U32, offsetof(struct transport, max_io_qpairs_per_ctrlr),
	  1, QPAIRS_MAX, .def = "127", .help = "most I/O queue pairs of a controller" },
	{ "max_qpairs_per_ctrlr", OPTS_U32, offsetof(struct transport, max_qpairs_per_ctrlr), 2,
	  QPAIRS_MAX + 1, .help = "the same with the admin queue (old name)" },
	ROW(transport, "disable_mappable_bar0", OPTS_BOOL, disable_mappable_bar0, false,
	    "doorbells come as messages: an idle controller costs nothing"),
	ROW(transport, "disable_adaptive_irq", OPTS_BOOL, disable_adaptive_irq, false,
	    "accepted, without effect: interrupts are sent when they are due"),
	ROW(transport, "disable_shadow_doorbells", OPTS_BOOL, disable_shadow_doorbells, false,
	    "accepted, without effect: the driver chooses"),
	ROW(transport, "zcopy", OPTS_BOOL, ignored_bool, false, "accepted, without effect"),
	IGNORED("in_capsule_data_size"),
	IGNORED("max_io_size"),
	IGNORED("io_unit_size"),
	IGNORED("max_aq_depth"),
	IGNORED("num_shared_buffers"),
	IGNORED("buf_cache_size"),
	IGNORED("abort_timeout_sec"),
	IGNORED("acceptor_poll_rate"),
};
static const struct opts_table transport_params = { "nvmf_create_transport", transport_rows,
						    ARRAY_SIZE(transport_rows) };

static int check_trtype(const char *trtype, struct err *reterr)
{
	if (!strcasecmp(trtype, TRTYPE))
		return 0;
	return err_set(reterr, -EINVAL,
		       "trtype: expected " TRTYPE ", got '%.32s': there are no network transports",
		       trtype);
}

static void create_transport(struct rpc_call *call, void *params)
{
	const struct transport *p = params;
	struct err err = { 0 };
	int rc = check_trtype(p->trtype, &err);

	if (rc == 0 && transport.made)
		rc = err_set(&err, -EEXIST, "trtype: " TRTYPE " is there already");
	if (rc < 0) {
		ctrlr_fail(call, rc, &err);
		return;
	}
	transport.made = true;
	transport.is = *p;
	transport.is.trtype = transport.is.tgt_name = NULL;
	if (p->max_qpairs_per_ctrlr)
		transport.is.max_io_qpairs_per_ctrlr = p->max_qpairs_per_ctrlr - 1;
	rpc_result_saved(call, json_true());
}

static json_t *transport_json(void)
{
	const struct transport *t = &transport.is;

	return json_pack("{s:s, s:i, s:i, s:b, s:b, s:b}", "trtype", TRTYPE, "max_queue_depth",
			 (int)t->max_queue_depth, "max_io_qpairs_per_ctrlr",
			 (int)t->max_io_qpairs_per_ctrlr, "disable_mappable_bar0",
			 (int)t->disable_mappable_bar0, "disable_adaptive_irq",
			 (int)t->disable_adaptive_irq, "disable_shadow_doorbells",
			 (int)t->disable_shadow_doorbells);
}

struct get {
	char *trtype, *tgt_name, *nqn;
};
static const struct opts_row get_transports_rows[] = {
	ROW(get, "trtype", OPTS_STR, trtype, false, "only this one"),
	ROW(get, "tgt_name", OPTS_STR, tgt_name, false, "accepted: there is one target"),
};
static const struct opts_table get_transports_params = { "nvmf_get_transports", get_transports_rows,
							 ARRAY_SIZE(get_transports_rows) };

static void get_transports(struct rpc_call *call, void *params)
{
	const struct get *p = params;
	json_t *list = json_array();
	struct err err = { 0 };

	if (transport.made)
		json_array_append_new(list, transport_json());
	if (p->trtype && (!transport.made || strcasecmp(p->trtype, TRTYPE) != 0)) {
		json_decref(list);
		err_set(&err, -ENODEV, "trtype: there is no transport '%.32s'", p->trtype);
		ctrlr_fail(call, -ENODEV, &err);
		return;
	}
	rpc_result(call, list);
}

/* ---- subsystems ---- */

struct subsystem {
	char *nqn, *tgt_name, *serial_number, *model_number, *host;
	bool allow_any_host, ana_reporting, ignored_bool;
	uint32_t max_namespaces, min_cntlid, max_cntlid, nsid;
	int ana_state;
};

#define NQN_ROW ROW(subsystem, "nqn", OPTS_STR, nqn, true, "name of the subsystem")
#define TARGET_ROW                                                                                 \
	ROW(subsystem, "tgt_name", OPTS_STR, tgt_name, false, "accepted: there is one target")

static const struct opts_row create_rows[] = {
	NQN_ROW,
	TARGET_ROW,
	ROW(subsystem, "serial_number", OPTS_STR, serial_number, false,
	    "at most 20 characters; default: made of the nqn"),
	ROW(subsystem, "model_number", OPTS_STR, model_number, false, "at most 40 characters"),
	{ "max_namespaces", OPTS_U32, offsetof(struct subsystem, max_namespaces), 0, NSID_MAX,
	  .help = "highest namespace identifier; default: 1024" },
	ROW(subsystem, "allow_any_host", OPTS_BOOL, allow_any_host, false,
	    "told only: who can open the socket is a host"),
	ROW(subsystem, "ana_reporting", OPTS_BOOL, ana_reporting, false,
	    "accepted: it is always reported"),
	ROW(subsystem, "min_cntlid", OPTS_U32, min_cntlid, false, "accepted, without effect"),
	ROW(subsystem, "max_cntlid", OPTS_U32, max_cntlid, false, "accepted, without effect"),
};
static const struct opts_table create_params = { "nvmf_create_subsystem", create_rows,
						 ARRAY_SIZE(create_rows) };
static const struct opts_row nqn_rows[] = { NQN_ROW, TARGET_ROW };
static const struct opts_table delete_params = { "nvmf_delete_subsystem", nqn_rows,
						 ARRAY_SIZE(nqn_rows) };
static const struct opts_row any_host_rows[] = {
	NQN_ROW,
	TARGET_ROW,
	ROW(subsystem, "allow_any_host", OPTS_BOOL, allow_any_host, true, "told only"),
};
static const struct opts_table any_host_params = { "nvmf_subsystem_allow_any_host", any_host_rows,
						   ARRAY_SIZE(any_host_rows) };
static const struct opts_row remove_ns_rows[] = {
	NQN_ROW,
	TARGET_ROW,
	{ "nsid", OPTS_U32, offsetof(struct subsystem, nsid), 1, NSID_MAX, .required = true,
	  .help = "its identifier" },
};
static const struct opts_table remove_ns_params = { "nvmf_subsystem_remove_ns", remove_ns_rows,
						    ARRAY_SIZE(remove_ns_rows) };
static const struct opts_row get_rows[] = {
	ROW(get, "nqn", OPTS_STR, nqn, false, "only this one"),
	ROW(get, "tgt_name", OPTS_STR, tgt_name, false, "accepted: there is one target"),
};
static const struct opts_table get_params = { "nvmf_get_subsystems", get_rows,
					      ARRAY_SIZE(get_rows) };

static void answer(struct rpc_call *call, int rc, struct err *err, json_t *result)
{
	if (rc < 0) {
		json_decref(result);
		ctrlr_fail(call, rc, err);
	} else {
		rpc_result_saved(call, result);
	}
}

static void create(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct ctrlr_new new = { 0 };
	struct err err = { 0 };
	struct device *dev;
	int rc = ctrlr_begin(CTRLR_NVMF, "nvme", p->nqn, NULL, &new, &err);

	if (rc == 0)
		rc = ctrlr_set(&new, "nqn", p->nqn, &err);
	if (rc == 0)
		rc = ctrlr_set(&new, "serial", p->serial_number, &err);
	if (rc == 0)
		rc = ctrlr_set(&new, "model", p->model_number, &err);
	if (rc == 0) {
		new.def->unserved = true;
		new.ctrlr->allow_any_host = p->allow_any_host;
		new.ctrlr->max_namespaces = p->max_namespaces ? p->max_namespaces : NSID_MAX;
		rc = ctrlr_add(&new, false, &dev, &err);
	}
	ctrlr_drop(&new);
	answer(call, rc, &err, json_true());
}

static struct device *subsystem_find(const char *nqn, struct err *reterr)
{
	return ctrlr_find("nqn", nqn, 1u << CTRLR_NVMF, reterr);
}

struct device *nvmf_subsystem_of(struct rpc_call *call, const char *nqn)
{
	struct err err = { 0 };
	struct device *dev = subsystem_find(nqn, &err);

	if (!dev)
		ctrlr_fail(call, -ENODEV, &err);
	return dev;
}

struct device *nvmf_listener_next(const struct device *subsystem, const struct device *prev)
{
	struct device *dev = devices_next(prev);

	while (dev && dev->def->leader != subsystem->def)
		dev = devices_next(dev);
	return dev;
}

struct removal {
	struct rpc_call *call;
	uint32_t waits;
};

static void removal_step(void *arg)
{
	struct removal *r = arg;

	if (--r->waits)
		return;
	rpc_result_saved(r->call, json_true());
	free(r);
}

static void delete_subsystem(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn), *listener;
	struct removal *r;

	if (!dev)
		return;
	r = calloc(1, sizeof(*r));
	if (!r) {
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	r->call = call;
	r->waits = 1;
	while ((listener = nvmf_listener_next(dev, NULL)) != NULL) {
		r->waits++;
		devices_remove(listener, removal_step, r);
	}
	devices_remove(dev, removal_step, r);
}

static void set_any_host(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);

	if (!dev)
		return;
	ctrlr_of(dev)->allow_any_host = p->allow_any_host;
	ctrlr_changed(dev);
	rpc_result_saved(call, json_true());
}

/* ---- namespaces ---- */

struct ns {
	char *bdev_name, *uuid, *nguid, *eui64, *ptpl_file;
	uint32_t nsid, anagrpid;
	bool no_auto_visible, hide_metadata;
};

static const struct opts_row add_ns_rows[] = {
	NQN_ROW,
	TARGET_ROW,
	{ "namespace", OPTS_JSON, 0, .help = "{bdev_name, and optionally nsid, uuid, nguid, eui64}",
	  .required = true },
};
static const struct opts_table add_ns_params = { "nvmf_subsystem_add_ns", add_ns_rows,
						 ARRAY_SIZE(add_ns_rows) };
static const struct opts_row ns_rows[] = {
	ROW(ns, "bdev_name", OPTS_STR, bdev_name, true, ""),
	{ "nsid", OPTS_U32, offsetof(struct ns, nsid), 0, NSID_MAX, .help = "" },
	ROW(ns, "uuid", OPTS_STR, uuid, false, ""),
	ROW(ns, "nguid", OPTS_STR, nguid, false, ""),
	ROW(ns, "eui64", OPTS_STR, eui64, false, ""),
	ROW(ns, "anagrpid", OPTS_U32, anagrpid, false, ""),
	ROW(ns, "no_auto_visible", OPTS_BOOL, no_auto_visible, false, ""),
	ROW(ns, "hide_metadata", OPTS_BOOL, hide_metadata, false, ""),
};
static const struct opts_table ns_table = { "namespace", ns_rows, ARRAY_SIZE(ns_rows) };

static int ns_add(struct device *dev, const struct ns *ns, uint32_t *ret_nsid, struct err *reterr)
{
	const uint32_t max = ctrlr_of(dev)->max_namespaces;
	const struct ctrlr_unit unit = {
		.number = ns->nsid ? ns->nsid : ctrlr_unit_free_number(dev, 1),
		.bdev = ns->bdev_name,
		.uuid = ns->uuid,
		.nguid = ns->nguid,
		.eui64 = ns->eui64,
	};

	*ret_nsid = unit.number;
	if (unit.number > max)
		return err_set(reterr, -ENOSPC, "nsid: expected 1..%u (max_namespaces), got %u",
			       max, unit.number);
	return ctrlr_unit_add(dev, &unit, reterr);
}

static void add_ns(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);
	struct err err = { 0 };
	struct ns ns = { 0 };
	uint32_t nsid = 0;
	int rc;

	if (!dev)
		return;
	rc = params_fill(&ns_table, &ns, rpc_param(call, "namespace"), &err);
	if (rc == 0)
		rc = ns_add(dev, &ns, &nsid, &err);
	opts_free(&ns_table, &ns);
	answer(call, rc, &err, json_integer(nsid));
}

static void remove_ns(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);

	if (dev)
		ctrlr_unit_remove(call, dev, p->nsid);
}

/* ---- listeners ---- */

struct address {
	char *trtype, *adrfam, *traddr, *trsvcid;
};

static const struct opts_row listener_rows[] = {
	NQN_ROW,
	TARGET_ROW,
	{ "listen_address", OPTS_JSON, 0,
	  .help = "{trtype: " TRTYPE ", traddr: a folder; its socket is " SOCKET_FILE
		  ". One in the folder of sockets (-S), as a bare name is, is made}",
	  .required = true },
	ROW(subsystem, "secure_channel", OPTS_BOOL, ignored_bool, false,
	    "accepted, without effect"),
	{ "ana_state", OPTS_ENUM, offsetof(struct subsystem, ana_state), .names = nvmf_ana_states,
	  .def = "optimized", .help = "how good this path to the namespaces is" },
};
static const struct opts_table add_listener_params = { "nvmf_subsystem_add_listener", listener_rows,
						       ARRAY_SIZE(listener_rows) };
static const struct opts_table remove_listener_params = { "nvmf_subsystem_remove_listener",
							  listener_rows, 3 };
static const struct opts_row address_rows[] = {
	ROW(address, "trtype", OPTS_STR, trtype, true, ""),
	ROW(address, "traddr", OPTS_STR, traddr, true, ""),
	ROW(address, "adrfam", OPTS_STR, adrfam, false, ""),
	ROW(address, "trsvcid", OPTS_STR, trsvcid, false, ""),
};
static const struct opts_table address_table = { "listen_address", address_rows,
						 ARRAY_SIZE(address_rows) };

/* The name of a folder in that of sockets, in path or bare; NULL: it is elsewhere. */
static const char *own_folder(const char *path)
{
	const char *dir = ctrlr_socket_dir(), *name = path;
	const size_t n = strlen(dir);

	if (!strncmp(path, dir, n) && path[n] == '/')
		name = path + n + 1;
	return *name && *name != '.' && !strchr(name, '/') ? name : NULL;
}

/* With traddr as a path. */
static int address_parse(const struct rpc_call *call, struct address *a, struct err *reterr)
{
	int rc = params_fill(&address_table, a, rpc_param(call, "listen_address"), reterr);
	const char *name = rc < 0 ? NULL : own_folder(a->traddr);
	char *path;

	if (!name)
		return rc;
	if (asprintf(&path, "%s/%s", ctrlr_socket_dir(), name) < 0)
		return err_set(reterr, -ENOMEM, "out of memory");
	free(a->traddr);
	a->traddr = path;
	return 0;
}

static int address_fill(const struct rpc_call *call, struct address *a, struct err *reterr)
{
	int rc = address_parse(call, a, reterr);

	if (rc == 0)
		rc = check_trtype(a->trtype, reterr);
	return rc < 0 ? err_prefix(reterr, rc, "listen_address") : 0;
}

static struct device *listener_find(const struct device *subsystem, const char *traddr)
{
	struct device *dev = nvmf_listener_next(subsystem, NULL);

	while (dev && strcmp(ctrlr_of(dev)->traddr, traddr) != 0)
		dev = nvmf_listener_next(subsystem, dev);
	return dev;
}

static int listener_folder(struct ctrlr *c, const char *traddr, struct err *reterr)
{
	const bool own = own_folder(traddr);
	struct stat st;

	c->traddr = strdup(traddr);
	if (!c->traddr)
		return err_set(reterr, -ENOMEM, "out of memory");
	c->made_folder = own && mkdir(traddr, 0755) == 0;
	if (own && !c->made_folder && errno != EEXIST)
		return err_set(reterr, -errno, "listen_address: traddr: cannot make %.108s: %s",
			       traddr, strerror(errno));
	if (stat(traddr, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(
			reterr, -ENOENT,
			"listen_address: traddr: expected a folder, got '%.108s'; make it first",
			traddr);
	return 0;
}

static int listener_fill(struct ctrlr_new *new, struct device *dev, const char *traddr,
			 int ana_state, struct err *reterr)
{
	const struct transport *t = &transport.is;
	int rc = listener_folder(new->ctrlr, traddr, reterr);

	if (rc == 0)
		rc = ctrlr_set_socket(new, traddr, SOCKET_FILE, reterr);
	if (rc == 0)
		rc = ctrlr_set(new, "transport", "vfio-user", reterr);
	if (rc == 0)
		rc = ctrlr_set(new, "doorbells", t->disable_mappable_bar0 ? "trapped" : "mapped",
			       reterr);
	if (rc == 0)
		rc = ctrlr_set_number(new, "num-queues", t->max_io_qpairs_per_ctrlr, reterr);
	if (rc == 0)
		rc = ctrlr_set_number(new, "queue-size", t->max_queue_depth, reterr);
	if (rc < 0)
		return rc;
	new->def->ana = ana_state;
	new->def->leader = dev->def;
	return 0;
}

static int listener_add(struct device *dev, const char *traddr, int ana_state, struct err *reterr)
{
	struct ctrlr_new new = { 0 };
	char name[NQN_MAX + 256];
	struct device *listener;
	int rc;

	if (!transport.made)
		return err_set(reterr, -ENODEV, "trtype: call nvmf_create_transport first");
	if (listener_find(dev, traddr))
		return err_set(reterr, -EEXIST, "traddr: '%.108s' has a listener", traddr);
	snprintf(name, sizeof(name), "%s@%s", dev->def->name, traddr);
	rc = ctrlr_begin(CTRLR_NVMF_LISTENER, "nvme", name, NULL, &new, reterr);
	if (rc == 0)
		rc = listener_fill(&new, dev, traddr, ana_state, reterr);
	if (rc == 0)
		rc = ctrlr_add(&new, true, &listener, reterr);
	ctrlr_drop(&new);
	return rc;
}

static void add_listener(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);
	struct address a = { 0 };
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	rc = address_fill(call, &a, &err);
	if (rc == 0)
		rc = listener_add(dev, a.traddr, p->ana_state, &err);
	ctrlr_changed(dev);
	opts_free(&address_table, &a);
	answer(call, rc, &err, json_true());
}

struct device *nvmf_listener_of(struct rpc_call *call, const struct device *subsystem,
				struct err *reterr)
{
	struct device *listener = NULL;
	struct address a = { 0 };
	int rc = address_parse(call, &a, reterr);

	if (rc == 0)
		listener = listener_find(subsystem, a.traddr);
	if (rc == 0 && !listener)
		rc = err_set(reterr, -ENOENT, "listen_address: there is no listener at '%.108s'",
			     a.traddr);
	opts_free(&address_table, &a);
	return listener;
}

static void remove_listener(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn), *listener;
	struct err err = { 0 };

	if (!dev)
		return;
	listener = nvmf_listener_of(call, dev, &err);
	ctrlr_changed(dev);
	if (!listener)
		ctrlr_fail(call, err.code, &err);
	else
		ctrlr_delete(call, listener);
}

/* ---- what there is ---- */

json_t *nvmf_address_json(const char *traddr)
{
	return json_pack("{s:s, s:s, s:o, s:s}", "trtype", TRTYPE, "adrfam", "", "traddr",
			 ctrlr_text(traddr), "trsvcid", "");
}

static json_t *ns_json(const struct device_unit *unit)
{
	const struct unit_def *def = unit_open_def(unit->open);
	json_t *ns = json_pack("{s:i, s:o, s:o}", "nsid", (int)unit->place.number, "bdev_name",
			       ctrlr_text(ctrlr_unit_bdev(unit)), "name",
			       ctrlr_text(ctrlr_unit_bdev(unit)));

	if (def->uuid)
		json_object_set_new(ns, "uuid", ctrlr_text(def->uuid));
	if (def->nguid)
		json_object_set_new(ns, "nguid", ctrlr_text(def->nguid));
	if (def->eui64)
		json_object_set_new(ns, "eui64", ctrlr_text(def->eui64));
	return ns;
}

static json_t *subsystem_json(struct device *dev)
{
	const struct ctrlr *c = ctrlr_of(dev);
	json_t *listeners = json_array(), *namespaces = json_array();
	const struct device_unit *unit;

	for (struct device *l = nvmf_listener_next(dev, NULL); l; l = nvmf_listener_next(dev, l))
		json_array_append_new(listeners, nvmf_address_json(ctrlr_of(l)->traddr));
	list_for_each(unit, &dev->units, node)
		json_array_append_new(namespaces, ns_json(unit));
	return json_pack("{s:o, s:s, s:o, s:b, s:o, s:o, s:o, s:i, s:o}", "nqn",
			 ctrlr_text(dev->def->name), "subtype", "NVMe", "listen_addresses",
			 listeners, "allow_any_host", (int)c->allow_any_host, "hosts",
			 nvmf_hosts_json(dev), "serial_number",
			 ctrlr_text(dev->def->serial ? dev->def->serial : ""), "model_number",
			 ctrlr_text(dev->def->model ? dev->def->model : "vhostd"), "max_namespaces",
			 (int)c->max_namespaces, "namespaces", namespaces);
}

static void get_subsystems(struct rpc_call *call, void *params)
{
	const struct get *p = params;
	struct device *dev = p->nqn ? nvmf_subsystem_of(call, p->nqn) : devices_next(NULL);
	json_t *list;

	if (p->nqn && !dev)
		return;
	list = json_array();
	for (; dev; dev = p->nqn ? NULL : devices_next(dev))
		if (ctrlr_kind(dev) == CTRLR_NVMF)
			json_array_append_new(list, subsystem_json(dev));
	rpc_result(call, list);
}

/* And with SPDK's keys: over vfio-user nobody tells who the host is. */
static json_t *listener_controllers(const struct device *listener)
{
	json_t *sessions = ctrlr_sessions_json(listener), *session;
	size_t i;

	json_array_foreach(sessions, i, session)
	{
		json_int_t queues = json_integer_value(json_object_get(session, "max_queues"));

		json_object_update_new(
			session, json_pack("{s:o, s:i, s:s, s:s, s:I}", "traddr",
					   ctrlr_text(ctrlr_of(listener)->traddr), "cntlid",
					   (int)nvmf_cntlid(listener), "hostnqn", "", "hostid", "",
					   "num_io_qpairs", queues ? queues - 1 : 0));
	}
	return sessions;
}

static void get_controllers(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);
	json_t *list;

	if (!dev)
		return;
	list = json_array();
	for (struct device *l = nvmf_listener_next(dev, NULL); l; l = nvmf_listener_next(dev, l)) {
		json_t *some = listener_controllers(l);

		json_array_extend(list, some);
		json_decref(some);
	}
	rpc_result(call, list);
}

static const struct opts_table get_controllers_params = { "nvmf_subsystem_get_controllers",
							  nqn_rows, ARRAY_SIZE(nqn_rows) };
static const struct opts_table get_listeners_params = { "nvmf_subsystem_get_listeners", nqn_rows,
							ARRAY_SIZE(nqn_rows) };

static void get_listeners(struct rpc_call *call, void *params)
{
	const struct subsystem *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);
	json_t *list;

	if (!dev)
		return;
	list = json_array();
	for (struct device *l = nvmf_listener_next(dev, NULL); l; l = nvmf_listener_next(dev, l))
		json_array_append_new(list, json_pack("{s:o, s:[{s:i, s:s}]}", "address",
						      nvmf_address_json(ctrlr_of(l)->traddr),
						      "ana_states", "ana_group", 1, "ana_state",
						      nvmf_ana_states[l->def->ana]));
	rpc_result(call, list);
}

/* ---- what recreates them ---- */

static void write_subsystem(json_t *calls, const void *obj)
{
	const struct device *dev = obj;
	const struct ctrlr *c = ctrlr_of(dev);
	json_t *nqn = ctrlr_text(dev->def->name);
	const struct device_unit *unit;

	ctrlr_write_call(calls, "nvmf_create_subsystem",
			 json_pack("{s:O, s:b, s:o, s:o, s:i}", "nqn", nqn, "allow_any_host",
				   (int)c->allow_any_host, "serial_number",
				   ctrlr_text(dev->def->serial), "model_number",
				   ctrlr_text(dev->def->model), "max_namespaces",
				   (int)c->max_namespaces));
	list_for_each(unit, &dev->units, node) {
		json_t *ns;

		if (unit->leaving || !ctrlr_unit_bdev(unit)) /* it is gone */
			continue;
		ns = ns_json(unit);
		json_object_del(ns, "name");
		json_object_set_new(ns, "bdev_name",
				    ctrlr_text(unit_open_def(unit->open)->back.bdev));
		ctrlr_write_call(calls, "nvmf_subsystem_add_ns",
				 json_pack("{s:O, s:o}", "nqn", nqn, "namespace", ns));
	}
	nvmf_hosts_write(calls, dev);
	for (struct device *l = nvmf_listener_next(dev, NULL); l; l = nvmf_listener_next(dev, l))
		ctrlr_write_call(calls, "nvmf_subsystem_add_listener",
				 json_pack("{s:O, s:{s:s, s:o}, s:s*}", "nqn", nqn,
					   "listen_address", "trtype", TRTYPE, "traddr",
					   ctrlr_text(ctrlr_of(l)->traddr), "ana_state",
					   l->def->ana ? nvmf_ana_states[l->def->ana] : NULL));
	json_decref(nqn);
}

static void write_transport(json_t *calls, const void *obj)
{
	ctrlr_write_call(calls, "nvmf_create_transport", transport_json());
}

void m_nvmf_write(struct section_out *out)
{
	if (transport.made)
		section_object(out, NULL, 0, write_transport, NULL);
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (ctrlr_kind(dev) == CTRLR_NVMF)
			ctrlr_write(out, dev, write_subsystem);
}

#define METHOD(name, table, s, flags, fn, help, result)                                            \
	{                                                                                          \
		name, NULL, table, sizeof(struct s), flags, RPC_INVALID_PARAMS, fn, help, result   \
	}

const struct rpc_method m_nvmf[] = {
	METHOD("nvmf_create_transport", &transport_params, transport, RPC_SAVES, create_transport,
	       "what listeners made later are like", "true"),
	METHOD("nvmf_get_transports", &get_transports_params, get, RPC_READS, get_transports,
	       "the transport, when it was made",
	       "[{trtype, max_queue_depth, max_io_qpairs_per_ctrlr, disable_mappable_bar0, "
	       "disable_adaptive_irq, disable_shadow_doorbells}]"),
	METHOD("nvmf_create_subsystem", &create_params, subsystem, RPC_SAVES, create,
	       "makes a subsystem without namespaces and listeners", "true"),
	METHOD("nvmf_delete_subsystem", &delete_params, subsystem, RPC_SAVES, delete_subsystem,
	       "removes it with all that it has", "true"),
	METHOD("nvmf_subsystem_add_ns", &add_ns_params, subsystem, RPC_SAVES, add_ns,
	       "shows a bdev as a namespace of all its controllers", "the namespace's identifier"),
	METHOD("nvmf_subsystem_remove_ns", &remove_ns_params, subsystem, RPC_SAVES, remove_ns,
	       "takes a namespace away; answers when it is closed", "true"),
	METHOD("nvmf_subsystem_add_listener", &add_listener_params, subsystem, RPC_SAVES,
	       add_listener, "one more controller; its socket is traddr/" SOCKET_FILE, "true"),
	METHOD("nvmf_subsystem_remove_listener", &remove_listener_params, subsystem, RPC_SAVES,
	       remove_listener, "ends its session and removes the socket", "true"),
	METHOD("nvmf_subsystem_allow_any_host", &any_host_params, subsystem, RPC_SAVES,
	       set_any_host, "kept and told: hosts are who can open the socket", "true"),
	METHOD("nvmf_get_subsystems", &get_params, get, RPC_READS, get_subsystems,
	       "subsystems that methods made",
	       "[{nqn, subtype, listen_addresses[{trtype, adrfam, traddr, trsvcid}], "
	       "allow_any_host, hosts[{nqn}], serial_number, model_number, max_namespaces, "
	       "namespaces[{nsid, bdev_name, name, uuid, nguid, eui64}]}]"),
	METHOD("nvmf_subsystem_get_controllers", &get_controllers_params, subsystem, RPC_READS,
	       get_controllers, "its clients",
	       "[{cntlid, hostnqn, hostid, num_io_qpairs, vid, id, name, started, max_queues, "
	       "inflight_task_cnt, state, traddr}]"),
	METHOD("nvmf_subsystem_get_listeners", &get_listeners_params, subsystem, RPC_READS,
	       get_listeners, "its listeners",
	       "[{address{trtype, adrfam, traddr, trsvcid}, ana_states[{ana_group, ana_state}]}]"),
	{ NULL },
};
