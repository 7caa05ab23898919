/*
 * The nvme device: controllers of a subsystem, one for each connection. The subsystem, with its
 * namespaces, is the first device's of that name (def->leader); the others have a reference.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/device.h"
#include "base/check.h"
#include "base/log.h"
#include "base/parcel.h"
#include "nvme/ctrl.h"
#include "nvme/subsys.h"
#include "vfu/vfu.h"
#include "vhost/vhost.h"

#define ROW(key, kind, field, lo, hi, dflt, text)                                                  \
	DEF_ROW(device_def, key, kind, field, lo, hi, dflt, text)
#define ENUM_ROW(key, field, all, dflt, text) DEVICE_ENUM_ROW(key, field, all, dflt, text)

static const char *const generation_names[] = { "18.07", "18.04", NULL };
static const char *const ana_names[] = { "optimized", "non-optimized", "inaccessible", NULL };

static const struct opts_row device_nvme_rows[] = {
	DEVICE_ROWS("path of the socket", "most I/O queue pairs of a controller", NVME_QPAIRS_MAX,
		    "most entries of a queue", 2, NVME_QUEUE_SIZE_MAX),
	ENUM_ROW("transport", transport, device_transport_names, "vfio-user",
		 "what is spoken on the socket"),
	ENUM_ROW("doorbells", doorbells, device_doorbells_names, "trapped",
		 "mapped: the client writes them to memory that is looked at, also when idle "
		 "(vfio-user; SPDK's initiator needs it)"),
	ENUM_ROW("generation", generation, generation_names, "18.07",
		 "which SPDK's replies the front-end expects (vhost-user)"),
	ENUM_ROW("ana", ana, ana_names, "optimized",
		 "how good this path to the namespaces is; SIGHUP changes it (vfio-user)"),
	ROW("vectors", OPTS_U16, vectors, 1, NVME_VECTORS_MAX, NULL,
	    "MSI-X interrupt vectors; default: one for each queue pair and the admin queue, at "
	    "most "
	    "128 (vfio-user)"),
	ROW("pci-vendor", OPTS_U16, pci_vendor, 1, 0xfffe, NULL,
	    "PCI identifier; default: vhostd's (vfio-user)"),
	ROW("pci-device", OPTS_U16, pci_device, 1, 0xffff, NULL,
	    "PCI identifier; default: vhostd's (vfio-user)"),
	ROW("subsystem", OPTS_STR, subsystem, 0, 0, NULL,
	    "devices of this name are controllers of one; default: one of its own. What follows is "
	    "the subsystem's"),
	ROW("serial", OPTS_STR, serial, 0, 0, NULL,
	    "at most 20 characters; default: made of the subsystem's name, else the device's, else "
	    "the socket's path"),
	ROW("model", OPTS_STR, model, 0, 0, NULL, "at most 40 characters; default: vhostd"),
	ROW("nqn", OPTS_STR, nqn, 0, 0, NULL, "its name, at most 223 bytes; default: as serial's"),
	ROW("state", OPTS_STR, state, 0, 0, NULL,
	    "file for what survives a restart, or none; default: none"),
	ROW("ns-pool", OPTS_STR, ns_pool, 0, 0, NULL,
	    "folder for namespaces that the guest creates; default: it cannot"),
	ROW("ns-pool-size", OPTS_SIZE, ns_pool_bytes, 1 << 20, INT64_MAX, NULL,
	    "most bytes of all of these"),
};

static const struct opts_table device_nvme_table = {
	.what = "nvme device",
	.rows = device_nvme_rows,
	.count = ARRAY_SIZE(device_nvme_rows),
};

/* Base 1.4, 7.9: "nqn." and more, at most 223 bytes. */
static int device_nvme_check_nqn(const char *nqn, struct err *reterr)
{
	if (nqn && (strlen(nqn) > NVME_NQN_MAX || strlen(nqn) < 5 || strncmp(nqn, "nqn.", 4) != 0))
		return err_set(reterr, -EINVAL,
			       "nqn: expected nqn. and more, at most %d bytes, got %zu: '%.64s'",
			       NVME_NQN_MAX, strlen(nqn), nqn);
	return 0;
}

static int device_nvme_check(struct device_def *def, struct err *reterr)
{
	int rc = unit_check_text("subsystem", def->subsystem, 64, reterr);

	if (rc == 0)
		rc = unit_check_text("serial", def->serial, NVME_SERIAL_MAX, reterr);
	if (rc == 0)
		rc = unit_check_text("model", def->model, NVME_MODEL_MAX, reterr);
	if (rc == 0)
		rc = device_nvme_check_nqn(def->nqn, reterr);
	if (rc < 0)
		return rc;
	if (def->transport == TRANSPORT_VHOST_USER && def->num_queues > VHOST_NVME_QUEUES_MAX)
		return err_set(reterr, -EINVAL,
			       "num-queues: expected 1..%d with transport=vhost-user, got %u",
			       VHOST_NVME_QUEUES_MAX, def->num_queues);
	if (def->state && !*def->state)
		return err_set(reterr, -EINVAL, "state: expected a path or none, got ''");
	if (def->ns_pool && !*def->ns_pool)
		return err_set(reterr, -EINVAL, "ns-pool: expected a folder, got ''");
	if (!def->ns_pool != !def->ns_pool_bytes)
		return err_set(reterr, -EINVAL, "%s: needs %s",
			       def->ns_pool ? "ns-pool" : "ns-pool-size",
			       def->ns_pool ? "ns-pool-size=SIZE" : "ns-pool=FOLDER");
	return 0;
}

/* ---- the running device ---- */

/* Of the leader: it was opened before the others. */
static struct device *device_nvme_leader(struct device *dev)
{
	return dev->def->leader ? dev->def->leader->running : dev;
}

static int device_nvme_subsys_new(struct device *dev, struct err *reterr)
{
	const struct device_def *def = dev->def;
	const struct nvme_subsys_params params = {
		.name = device_nvme_lasting_name(def),
		.nqn = def->nqn,
		.serial = def->serial,
		.model = def->model,
		.state_path = def->state && strcmp(def->state, "none") != 0 ? def->state : NULL,
		.pool_path = def->ns_pool,
		.pool_bytes = def->ns_pool_bytes,
	};

	return nvme_subsys_new(&params, &dev->subsys, reterr);
}

static int device_nvme_open(struct device *dev, struct err *reterr)
{
	struct device *leader = device_nvme_leader(dev);
	int rc = 0;

	if (leader == dev)
		rc = device_nvme_subsys_new(dev, reterr);
	else
		dev->subsys = nvme_subsys_ref(leader->subsys);
	if (rc < 0)
		return rc;
	leader->members++;
	return leader == dev ? device_units_open(dev, reterr) : 0;
}

static void device_nvme_on_pool_closed(void *subsys)
{
	nvme_subsys_unref(subsys);
	units_closing_leave();
}

/* The namespaces that guests created: they are no units of ours. */
static void device_nvme_pool_close(struct nvme_subsys *subsys)
{
	nvme_subsys_ref(subsys);
	if (nvme_pool_close(subsys, device_nvme_on_pool_closed, subsys))
		units_closing_enter();
	else
		nvme_subsys_unref(subsys);
}

/* Namespaces go with the last device of the subsystem; each has a reference until it is gone. */
static void device_nvme_close(struct device *dev)
{
	struct device *leader = device_nvme_leader(dev);
	struct nvme_subsys *subsys = dev->subsys;

	if (!subsys)
		return;
	dev->subsys = NULL;
	if (--leader->members == 0) {
		device_units_free(leader);
		device_nvme_pool_close(subsys);
	}
	nvme_subsys_unref(subsys);
}

static enum nvme_ana device_nvme_ana(const struct device_def *def)
{
	return NVME_ANA_OPTIMIZED + (enum nvme_ana)def->ana;
}

static int device_nvme_vfu_make(void *arg, struct vfu_dev **ret_dev, struct err *reterr)
{
	struct device *dev = arg;
	const struct device_def *def = dev->def;
	const struct vfu_nvme_params params = {
		.name = def->name,
		.subsys = dev->subsys,
		.limits = dev->limits,
		.num_queues = def->num_queues,
		.queue_size_max = def->queue_size,
		.vectors = def->vectors,
		.spin_ns = def->spin_us * 1000,
		.mapped_doorbells = def->doorbells,
		.pci_vendor = def->pci_vendor,
		.pci_device = def->pci_device,
		.main_loop = dev->main_loop,
		.loops = dev->loops,
		.loop_count = dev->loop_count,
	};
	int rc = vfu_nvme_new(&params, ret_dev, reterr);

	if (rc == 0)
		nvme_subsys_ana_set(dev->subsys, def->name, device_nvme_ana(def));
	return rc;
}

void device_nvme_ana_set(struct device *dev, int ana)
{
	dev->def->ana = ana;
	nvme_subsys_ana_set(dev->subsys, dev->def->name, device_nvme_ana(dev->def));
	log_notice("%s: ana: %s", dev->def->name, ana_names[ana]);
}

static bool device_nvme_adopt(struct device *dev, const struct device_def *next,
			      const struct opts_row *row)
{
	if (strcmp(row->name, "ana") != 0)
		return false;
	device_nvme_ana_set(dev, next->ana);
	return true;
}

/*
 * ---- hand-over ----
 *
 *   of the subsystem's first device   "subs": its text (nvme_subsys_pack)
 */

#define NVME_SUBSYS_TAG	    "subs"
#define NVME_SUBSYS_VERSION 1

static int device_nvme_hand_check(const struct device *dev, struct err *reterr)
{
	return dev->def->leader ? 0 : nvme_subsys_hand_check(dev->subsys, reterr);
}

static bool device_nvme_is_quiet(const struct device *dev)
{
	return dev->def->leader || nvme_subsys_is_quiet(dev->subsys);
}

static int device_nvme_pack(struct device *dev, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	char *text;
	size_t len;
	int rc;

	if (dev->def->leader)
		return 0;
	rc = nvme_subsys_pack(dev->subsys, &text, &len, reterr);
	if (rc < 0)
		return rc;
	parcel_section_begin(p, &s, NVME_SUBSYS_TAG, NVME_SUBSYS_VERSION);
	parcel_put_str(p, text);
	parcel_section_done(p, &s);
	free(text);
	return 0;
}

static int device_nvme_unpack(struct device *dev, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	char *text;
	int rc;

	if (dev->def->leader)
		return 0;
	rc = parcel_section_enter(p, &s, NVME_SUBSYS_TAG, NVME_SUBSYS_VERSION, reterr);
	if (rc < 0)
		return rc;
	text = parcel_take_str(p);
	rc = text ? nvme_subsys_unpack(dev->subsys, text, strlen(text), reterr)
		  : err_set(reterr, -EPROTO, "the subsystem's state is cut off");
	free(text);
	return rc < 0 ? rc : parcel_section_end(p, &s, NVME_SUBSYS_TAG, reterr);
}

const struct device_type device_nvme = {
	.name = "nvme",
	.table = &device_nvme_table,
	.units = &unit_nvme,
	.fronts = { [TRANSPORT_VHOST_USER] = &front_vhost_nvme,
		    [TRANSPORT_VFIO_USER] = &front_vfu },
	.check = device_nvme_check,
	.open = device_nvme_open,
	.release = device_nvme_close,
	.close = device_nvme_close,
	.rescan = device_units_rescan,
	.vfu_make = device_nvme_vfu_make,
	.adopt = device_nvme_adopt,
	.hand_check = device_nvme_hand_check,
	.is_quiet = device_nvme_is_quiet,
	.pack = device_nvme_pack,
	.unpack = device_nvme_unpack,
};
