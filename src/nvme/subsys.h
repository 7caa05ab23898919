/*
 * NVM subsystems and namespaces, as the application makes them. A subsystem has namespaces, and the
 * controllers that fronts make on it; each namespace is attached to all controllers unless the
 * guest says otherwise (Namespace Attachment).
 * Thread: main, all of it.
 */
#ifndef NVME_SUBSYS_H
#define NVME_SUBSYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "blk/blk.h"

#define NVME_NSID_MAX	1024
#define NVME_CTRLS_MAX	64 /* controllers of one subsystem */
#define NVME_NQN_MAX	223
#define NVME_SERIAL_MAX 20
#define NVME_MODEL_MAX	40

struct nvme_subsys;
struct nvme_ns;

/* Asymmetric namespace access state of a controller (base 8.20). */
enum nvme_ana {
	NVME_ANA_OPTIMIZED = 1,
	NVME_ANA_NON_OPTIMIZED = 2,
	NVME_ANA_INACCESSIBLE = 3,
	NVME_ANA_PERSISTENT_LOSS = 4,
	NVME_ANA_CHANGE = 15,
};

struct nvme_subsys_params {
	const char *name;	/* for messages */
	const char *nqn;	/* NULL: made of a UUID that is made of the name */
	const char *serial;	/* NULL: made of the name. At most NVME_SERIAL_MAX, printable */
	const char *model;	/* NULL: "vhostd" */
	const char *state_path; /* what survives a restart (sanitize, created namespaces); NULL:
				   nothing does */
	/* Namespace Management: a folder for namespaces that guests create; NULL: not offered. */
	const char *pool_path;
	uint64_t pool_bytes;
};

/* Errors: -EINVAL, named; -ENOMEM; what reading state_path gives. */
int nvme_subsys_new(const struct nvme_subsys_params *params, struct nvme_subsys **ret_subsys,
		    struct err *reterr);
struct nvme_subsys *nvme_subsys_ref(struct nvme_subsys *subsys);
/* The last reference (controllers hold one each): namespaces must be gone (ASSERT). NULL allowed.
 */
void nvme_subsys_unref(struct nvme_subsys *subsys);

/*
 * A hand-over: what hosts can notice of the subsystem and its namespaces, whether it is to survive
 * a restart or not, as text that another process gives its own (live.c). Only with no command under
 * way; controllers are handed over by their connections.
 *
 * pack: malloc'ed, the caller's. -EBUSY, named: something goes on beyond its command (Sanitize);
 * -EOPNOTSUPP, named: a namespace that only this process knows; -ENOMEM. unpack: with the same
 * namespaces there, and no controller. Text that is no such one is -EINVAL, -EFBIG, named, and
 * leaves it half changed.
 */
/* Of these errors those that will not pass soon. */
int nvme_subsys_hand_check(const struct nvme_subsys *subsys, struct err *reterr);
bool nvme_subsys_is_quiet(const struct nvme_subsys *subsys); /* false: what goes on will end soon */
int nvme_subsys_pack(struct nvme_subsys *subsys, char **ret_text, size_t *ret_bytes,
		     struct err *reterr);
int nvme_subsys_unpack(struct nvme_subsys *subsys, const char *text, size_t len_bytes,
		       struct err *reterr);

/*
 * While held, what a restart interrupted (Sanitize) is not gone on with when a namespace or a
 * controller comes: in a successor it is the other process's still. Of the whole process.
 */
void nvme_subsys_hold(bool held);

/*
 * The end: takes away the namespaces that guests created, which are not the application's; their
 * files stay. Then done(arg) comes once, later. false: there are none, and it does not.
 */
bool nvme_pool_close(struct nvme_subsys *subsys, void (*done)(void *arg), void *arg);

struct nvme_ns_params {
	uint32_t nsid;	      /* 1 to NVME_NSID_MAX */
	struct blk_dev *dev;  /* a reference is taken */
	const uint8_t *uuid;  /* 16 bytes; NULL: made of identity */
	const uint8_t *nguid; /* 16 bytes; NULL: made of identity */
	const uint8_t *eui64; /* 8 bytes; NULL: none */
	const char *identity; /* what the names are made of: path or subsystem and nsid */
	bool read_only;
	const char *state_path; /* reservations (PTPL), write uncorrectable; NULL: none survive */
};

/*
 * Shows a namespace to all controllers, now and later; guests that listen get the event. Errors:
 * -EEXIST, -ERANGE, -EINVAL, -ENOMEM, what reading state_path gives.
 */
int nvme_ns_add(struct nvme_subsys *subsys, const struct nvme_ns_params *params,
		struct nvme_ns **ret_ns, struct err *reterr);
/*
 * Takes it away: new commands find no namespace, those under way end first; then removed(arg)
 * comes once, maybe before this returns, and the node's reference was given back.
 */
void nvme_ns_remove(struct nvme_ns *ns, void (*removed)(void *arg), void *arg);
uint32_t nvme_ns_nsid(const struct nvme_ns *ns);

/*
 * What takes long and guests have begun: Format NVM of a namespace ("format"), Sanitize of all
 * (nsid 0, "sanitize").
 */
void nvme_subsys_work_visit(const struct nvme_subsys *subsys,
			    void (*fn)(uint32_t nsid, const char *kind, uint64_t done_bytes,
				       uint64_t total_bytes, void *arg),
			    void *arg);

struct nvme_ctrl;
/* Guests that listen get the event; commands are refused as the state says. */
void nvme_ctrl_ana_set(struct nvme_ctrl *ctrl, enum nvme_ana state);
/* The same for all controllers of that name (struct nvme_ctrl_params). */
void nvme_subsys_ana_set(struct nvme_subsys *subsys, const char *name, enum nvme_ana state);
/* CNTLID of the first controller of that name; 0: there is none. */
uint16_t nvme_subsys_cntlid(const struct nvme_subsys *subsys, const char *name);

#endif
