/*
 * nvmf_*: which hosts may use a subsystem, and how good a path a listener is. Over vfio-user no
 * host tells its name: who can open the socket is one. So names of hosts are kept and told only.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/m_nvmf.h"
#include "mgmt/tables.h"
#include "nvme/subsys.h"

struct host {
	char *nqn, *tgt_name, *host, *psk, *key, *ctrlr_key;
	uint32_t anagrpid;
	int ana_state;
};

#define ROW(key, kind, field, need, text)                                                          \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct host, field),                 \
		.required = need, .help = text                                                     \
	}
#define NQN_ROW	   ROW("nqn", OPTS_STR, nqn, true, "name of the subsystem")
#define TARGET_ROW ROW("tgt_name", OPTS_STR, tgt_name, false, "accepted: there is one target")
#define HOST_ROW   ROW("host", OPTS_STR, host, true, "NQN of the host")
#define KEY_TEXT   "fails: there are no network transports"

const char *const nvmf_ana_states[] = { "optimized", "non_optimized", "inaccessible", NULL };

static const struct opts_row add_rows[] = {
	NQN_ROW,
	TARGET_ROW,
	HOST_ROW,
	ROW("psk", OPTS_STR, psk, false, KEY_TEXT),
	ROW("dhchap_key", OPTS_STR, key, false, KEY_TEXT),
	ROW("dhchap_ctrlr_key", OPTS_STR, ctrlr_key, false, KEY_TEXT),
};
static const struct opts_table add_params = { "nvmf_subsystem_add_host", add_rows,
					      ARRAY_SIZE(add_rows) };
static const struct opts_row remove_rows[] = { NQN_ROW, TARGET_ROW, HOST_ROW };
static const struct opts_table remove_params = { "nvmf_subsystem_remove_host", remove_rows,
						 ARRAY_SIZE(remove_rows) };
static const struct opts_row ana_rows[] = {
	NQN_ROW,
	TARGET_ROW,
	{ .name = "listen_address",
	  .type = OPTS_JSON,
	  .help = "as nvmf_subsystem_add_listener had it",
	  .required = true },
	{ .name = "ana_state",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct host, ana_state),
	  .names = nvmf_ana_states,
	  .help = "how good this path to the namespaces is",
	  .required = true },
	{ .name = "anagrpid",
	  .type = OPTS_U32,
	  .offset = offsetof(struct host, anagrpid),
	  .min = 1,
	  .max = 1,
	  .help = "accepted: all namespaces are of one group" },
};
static const struct opts_table ana_params = { "nvmf_subsystem_listener_set_ana_state", ana_rows,
					      ARRAY_SIZE(ana_rows) };

/* Its index in the subsystem's hosts; their number: it is none of them. */
static size_t host_find(const struct device *subsystem, const char *nqn)
{
	const json_t *hosts = ctrlr_of(subsystem)->hosts;
	size_t i = 0;

	while (i < json_array_size(hosts) &&
	       strcmp(json_string_value(json_array_get(hosts, i)), nqn) != 0)
		i++;
	return i;
}

static int host_check(const struct device *subsystem, const struct host *p, struct err *reterr)
{
	if (p->psk || p->key || p->ctrlr_key)
		return err_set(reterr, -EINVAL, "%s: there are no network transports to use it on",
			       p->psk	? "psk"
			       : p->key ? "dhchap_key"
					: "dhchap_ctrlr_key");
	if (strncmp(p->host, "nqn.", 4) != 0 || strlen(p->host) > NVMF_NQN_MAX)
		return err_set(reterr, -EINVAL,
			       "host: expected \"nqn.\" and more, at most %d bytes, got '%.64s'",
			       NVMF_NQN_MAX, p->host);
	if (host_find(subsystem, p->host) < json_array_size(ctrlr_of(subsystem)->hosts))
		return err_set(reterr, -EEXIST, "host: '%.64s' is allowed already", p->host);
	return 0;
}

static void add_host(struct rpc_call *call, void *params)
{
	const struct host *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	rc = host_check(dev, p, &err);
	if (rc == 0 && !ctrlr_of(dev)->hosts)
		ctrlr_of(dev)->hosts = json_array();
	if (rc == 0 && json_array_append_new(ctrlr_of(dev)->hosts, ctrlr_text(p->host)) < 0)
		rc = err_set(&err, -ENOMEM, "out of memory");
	ctrlr_changed(dev);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

static void remove_host(struct rpc_call *call, void *params)
{
	const struct host *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);
	struct err err = { 0 };

	if (!dev)
		return;
	if (json_array_remove(ctrlr_of(dev)->hosts, host_find(dev, p->host)) < 0) {
		err_set(&err, -ENOENT, "host: '%.64s' is none of the subsystem's", p->host);
		ctrlr_fail(call, -ENOENT, &err);
		return;
	}
	ctrlr_changed(dev);
	rpc_result_saved(call, json_true());
}

json_t *nvmf_hosts_json(const struct device *subsystem)
{
	json_t *list = json_array(), *nqn;
	size_t i;

	json_array_foreach(ctrlr_of(subsystem)->hosts, i, nqn)
	{
		json_array_append_new(list, json_pack("{s:O}", "nqn", nqn));
	}
	return list;
}

void nvmf_hosts_write(json_t *calls, const struct device *subsystem)
{
	json_t *nqn;
	size_t i;

	json_array_foreach(ctrlr_of(subsystem)->hosts, i, nqn)
	{
		ctrlr_write_call(calls, "nvmf_subsystem_add_host",
				 json_pack("{s:o, s:O}", "nqn", ctrlr_text(subsystem->def->name),
					   "host", nqn));
	}
}

static void set_ana_state(struct rpc_call *call, void *params)
{
	const struct host *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn), *listener;
	struct err err = { 0 };

	if (!dev)
		return;
	listener = nvmf_listener_of(call, dev, &err);
	if (!listener) {
		ctrlr_fail(call, err.code, &err);
		return;
	}
	device_nvme_ana_set(listener, p->ana_state);
	ctrlr_changed(dev);
	rpc_result_saved(call, json_true());
}

#define METHOD(name, table, fn, help)                                                              \
	{                                                                                          \
		name, NULL, table, sizeof(struct host), RPC_SAVES, RPC_INVALID_PARAMS, fn, help,   \
			"true"                                                                     \
	}

const struct rpc_method m_nvmf_host[] = {
	METHOD("nvmf_subsystem_add_host", &add_params, add_host,
	       "kept and told: hosts are who can open the socket"),
	METHOD("nvmf_subsystem_remove_host", &remove_params, remove_host, "forgets it"),
	METHOD("nvmf_subsystem_listener_set_ana_state", &ana_params, set_ana_state,
	       "tells its guest, whose driver then prefers or avoids this path"),
	{ NULL },
};
