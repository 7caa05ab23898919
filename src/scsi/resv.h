/*
 * What the files of persistent reservations share (SPC-5, 5.14).
 *
 *   resv.c        registrations, the reservation, gates; RESERVE and RELEASE of SPC-2
 *   resv_in.c     PERSISTENT RESERVE IN
 *   resv_out.c    PERSISTENT RESERVE OUT: its parameter list, and the end of the command
 *   resv_act.c    what each of its service actions does to the state
 *   resv_state.c  registrations and reservation as lines of text, for state.c
 *
 * A registration belongs to an I_T nexus: an initiator port, known by its name, and our target
 * port, known by the name of the host. It outlives the connection; itl->reg is the link to it
 * while there is one. All of it is under lu->lock; every change ends with resv_gates_update, so
 * that READ and WRITE need not look.
 *
 *   no registration --REGISTER--> registered --RESERVE--> reserved
 *        ^                          |  ^                    |
 *        +---- unregister, CLEAR, --+  +----- RELEASE, -----+
 *              PREEMPT by another             unregister of the holder, PREEMPT
 */
#ifndef SCSI_RESV_H
#define SCSI_RESV_H

#include <stdio.h>

#include "scsi/scsi_impl.h"

#define RESV_REGISTRATIONS_MAX 1024 /* of one unit */
#define RESV_PORT	       1    /* relative target port identifier: a host is one port */

/* Types (SPC-5, table 77). */
#define RESV_WE	   1 /* write exclusive */
#define RESV_EA	   3 /* exclusive access */
#define RESV_WE_RO 5 /* write exclusive, registrants only */
#define RESV_EA_RO 6
#define RESV_WE_AR 7 /* write exclusive, all registrants */
#define RESV_EA_AR 8

struct resv_reg {
	struct list node; /* resv->registrations, in the order of registering */
	uint64_t key;
	bool all_ports; /* made with ALL_TG_PT: ports that come later get it as well */
	bool fresh;	/* made by the command that is being carried out */
	char *host;	/* in the memory of initiator */
	char initiator[];
};

bool resv_type_valid(uint32_t type);
bool resv_type_all_registrants(uint32_t type);
/* More than the holder may pass: RESERVATIONS RELEASED is told when it ends (SPC-5, 5.14.11.2). */
bool resv_type_shared(uint32_t type);

/* All of them: lu->lock is held. */

struct resv_reg *resv_find(const struct scsi_lu *lu, const char *initiator, const char *host);
/* NULL: no memory. The table's limit is the caller's to check. */
struct resv_reg *resv_add(struct scsi_lu *lu, const char *initiator, const char *host,
			  uint64_t key);
/* Also the reservation, if it was the holder or the last registrant of all. */
void resv_remove(struct scsi_lu *lu, struct resv_reg *reg);
bool resv_holds(const struct scsi_lu *lu, const struct resv_reg *reg);
void resv_reserve(struct scsi_lu *lu, uint8_t type, struct resv_reg *holder);
void resv_release(struct scsi_lu *lu);
/* A unit attention for reg's nexus, NULL: for every registered one; not for that of `but`. */
void resv_ua(struct scsi_lu *lu, const struct resv_reg *reg, const struct resv_reg *but,
	     enum scsi_ua ua);
void resv_gates_update(struct scsi_lu *lu);
/* RESERVE(6) is in force: PERSISTENT RESERVE IN and OUT conflict with it (SPC-2, 5.5.1). */
static inline bool resv_legacy(const struct scsi_lu *lu)
{
	return lu->resv.legacy_holder;
}

/* ---- resv_act.c ---- */

enum resv_sa {
	RESV_SA_REGISTER,
	RESV_SA_RESERVE,
	RESV_SA_RELEASE,
	RESV_SA_CLEAR,
	RESV_SA_PREEMPT,
	RESV_SA_PREEMPT_ABORT,
	RESV_SA_REGISTER_IGNORE,
	RESV_SA_MOVE,
	RESV_SA_COUNT
};

/* How the command ends. */
enum resv_verdict {
	RESV_DONE,
	RESV_CONFLICT,
	RESV_CAUSE,    /* CHECK CONDITION with cause */
	RESV_BAD_CDB,  /* INVALID FIELD IN CDB at field_byte, field_bit */
	RESV_BAD_LIST, /* INVALID FIELD IN PARAMETER LIST there */
};

/* One PERSISTENT RESERVE OUT command. */
struct resv_out {
	struct scsi_task *t;
	struct scsi_lu *lu;
	struct resv_reg *own; /* the registration of the nexus it came on, NULL: none */
	enum resv_sa sa;
	uint8_t scope, type;
	uint64_t key, sa_key;
	bool spec_i_pt, all_tg_pt, aptpl, unreg;
	/* names of initiator ports from TransportIDs, each with its zero; checked */
	const uint8_t *ids;
	size_t ids_bytes, ids_at; /* ids_at: where they begin in the list */

	enum scsi_cause cause;
	uint32_t field_byte;
	int field_bit;
};

/* lu->lock is held; the list is well formed. Starts the aborts of PREEMPT AND ABORT. */
enum resv_verdict resv_act(struct resv_out *out);
enum resv_verdict resv_bad_list(struct resv_out *out, size_t byte, int bit);
/* Tasks of a nexus that lost its registration to PREEMPT AND ABORT are aborted from here. */
void resv_out_abort(struct resv_out *out, struct scsi_nexus *nexus);

/*
 * The next TransportID in [ids + at, end): an iSCSI initiator port, format 0 (SPC-5, 7.6.4.6).
 * Returns its length; 0: it is none. ret_name points at the name, zero-terminated.
 */
size_t resv_transport_id(const uint8_t *ids, size_t at, size_t end, const char **ret_name);

/* ---- resv_state.c: lines for state.c. lu->lock is held, or nobody else knows the unit. ---- */

/* Nothing when what the unit has is not to survive (APTPL 0). */
void resv_state_write(const struct scsi_lu *lu, FILE *to);
/* false: no such line, or one that contradicts those before; ret_why says what was expected. */
bool resv_state_read(struct scsi_lu *lu, const char *line, const char **ret_why);
/* For a hand-over (live.c): with all that is not to survive, and `resv APTPL GENERATION`. */
void resv_live_write(const struct scsi_lu *lu, FILE *to);
bool resv_live_read(struct scsi_lu *lu, const char *line, const char **ret_why);
/* A name as one word: %XX for what is no printable character, a space or a %. */
#define RESV_HOST_NAME_MAX 4096 /* a path at most, with its zero */
void resv_name_write(const char *name, FILE *to);
/* The next word of *line, not empty, into ret_name[size]; *line is behind it. */
bool resv_name_read(const char **line, char *ret_name, size_t size);

#endif
