/* Task management (SAM-6, 7): each is one sweep over the loops, and what follows from it. */
#include <stdlib.h>

#include "scsi/scsi_impl.h"

/* One row a function: whose tasks, and how they end. */
struct tmf_row {
	enum sweep_action action;
	enum scsi_end end;
	bool by_itl, by_lu, by_tag; /* by none of them: the nexus' tasks on the target */
};

static const struct tmf_row rows[SCSI_TMF_COUNT] = {
	[SCSI_TMF_ABORT_TASK] = { SWEEP_ABORT, SCSI_END_ABORTED, .by_itl = true, .by_tag = true },
	[SCSI_TMF_ABORT_TASK_SET] = { SWEEP_ABORT, SCSI_END_ABORTED, .by_itl = true },
	[SCSI_TMF_CLEAR_TASK_SET] = { SWEEP_ABORT, SCSI_END_ABORTED, .by_lu = true },
	[SCSI_TMF_LOGICAL_UNIT_RESET] = { SWEEP_ABORT, SCSI_END_RESET, .by_lu = true },
	[SCSI_TMF_I_T_NEXUS_RESET] = { SWEEP_ABORT, SCSI_END_RESET },
	[SCSI_TMF_QUERY_TASK] = { SWEEP_FIND, SCSI_END_COMPLETE, .by_itl = true, .by_tag = true },
	[SCSI_TMF_QUERY_TASK_SET] = { SWEEP_FIND, SCSI_END_COMPLETE, .by_itl = true },
};

struct tmf_run {
	struct sweep sweep;
	struct scsi_tmf *tmf;
};

static void tmf_done_work(struct loop_work *work)
{
	struct scsi_tmf *tmf = container_of(work, struct scsi_tmf, work);

	tmf->done(tmf);
}

/* Never before scsi_tmf_start returned. */
static void tmf_answer(struct scsi_tmf *tmf, enum scsi_tmf_result result)
{
	tmf->result = result;
	tmf->work.fn = tmf_done_work;
	loop_defer(tmf->queue->sl->loop, &tmf->work);
}

static void tmf_nexus_loss(struct scsi_tmf *tmf)
{
	const struct scsi_map *map = atomic_load(&tmf->queue->nexus->map);
	const struct scsi_map_entry *e;
	uint32_t count = scsi_map_target(map, tmf->target, &e);

	for (uint32_t i = 0; i < count; i++) {
		struct scsi_lu *lu = e[i].itl->lu;

		pthread_mutex_lock(&lu->lock);
		scsi_resv_legacy_release(lu, e[i].itl);
		scsi_ua_add(e[i].itl, SCSI_UA_NEXUS_LOSS);
		pthread_mutex_unlock(&lu->lock);
	}
}

/* What the function does to the unit, once its tasks have ended. The unit may have gone since. */
static void tmf_consequences(struct scsi_tmf *tmf, bool found)
{
	struct scsi_itl *itl = scsi_itl_find(tmf->queue, tmf->target, tmf->lun);

	if (!itl && tmf->fn != SCSI_TMF_I_T_NEXUS_RESET)
		return;
	switch (tmf->fn) {
	case SCSI_TMF_LOGICAL_UNIT_RESET:
		pthread_mutex_lock(&itl->lu->lock);
		scsi_lu_reset(itl->lu, itl);
		pthread_mutex_unlock(&itl->lu->lock);
		return;
	case SCSI_TMF_CLEAR_TASK_SET:
		pthread_mutex_lock(&itl->lu->lock);
		if (found && !atomic_load(&itl->lu->mode.tas))
			scsi_ua_add_others(itl->lu, itl, SCSI_UA_COMMANDS_CLEARED);
		pthread_mutex_unlock(&itl->lu->lock);
		return;
	case SCSI_TMF_I_T_NEXUS_RESET:
		tmf_nexus_loss(tmf);
		return;
	case SCSI_TMF_ABORT_TASK:
	case SCSI_TMF_ABORT_TASK_SET:
	case SCSI_TMF_CLEAR_ACA:
	case SCSI_TMF_QUERY_TASK:
	case SCSI_TMF_QUERY_TASK_SET:
	case SCSI_TMF_QUERY_ASYNC_EVENT:
	case SCSI_TMF_COUNT:
		return;
	}
}

static void tmf_swept(struct sweep *sweep)
{
	struct tmf_run *run = container_of(sweep, struct tmf_run, sweep);
	struct scsi_tmf *tmf = run->tmf;
	bool found = atomic_load(&sweep->found);
	bool query = sweep->action == SWEEP_FIND;

	free(run);
	tmf_consequences(tmf, found);
	tmf_answer(tmf, query && found ? SCSI_TMF_SUCCEEDED : SCSI_TMF_COMPLETE);
}

static void tmf_sweep(struct scsi_tmf *tmf, const struct tmf_row *row)
{
	struct tmf_run *run = calloc(1, sizeof(*run));

	if (!run) {
		tmf_answer(tmf, SCSI_TMF_REJECTED);
		return;
	}
	run->tmf = tmf;
	run->sweep = (struct sweep){
		.action = row->action,
		.lu = row->by_lu ? tmf->itl->lu : NULL,
		.itl = row->by_itl ? tmf->itl : NULL,
		.nexus = row->by_itl || row->by_lu ? NULL : tmf->queue->nexus,
		.target = tmf->target,
		.has_tag = row->by_tag,
		.tag = tmf->tag,
		.abort_end = row->end,
		.own = row->end == SCSI_END_ABORTED ? tmf->queue->nexus : NULL,
		.done = tmf_swept,
	};
	if (sweep_start(&run->sweep))
		return;
	free(run);
	tmf_answer(tmf, SCSI_TMF_REJECTED);
}

/* SAM-6, 7.8: SUCCEEDED and the event when a unit attention is pending. */
static void tmf_query_async(struct scsi_tmf *tmf)
{
	struct scsi_itl *itl = tmf->itl;
	uint8_t asc, ascq;
	uint32_t mask;

	pthread_mutex_lock(&itl->lu->lock);
	mask = itl->ua_mask;
	pthread_mutex_unlock(&itl->lu->lock);
	if (!mask) {
		tmf_answer(tmf, SCSI_TMF_COMPLETE);
		return;
	}
	sense_ua_code((enum scsi_ua)__builtin_ctz(mask), &asc, &ascq);
	/* how many more, sense key 6, code, qualifier */
	tmf->async_event = (uint32_t)MIN(__builtin_popcount(mask), 3) << 20 | 0x6u << 16 |
			   (uint32_t)asc << 8 | ascq;
	tmf_answer(tmf, SCSI_TMF_SUCCEEDED);
}

void scsi_tmf_start(struct scsi_queue *queue, struct scsi_tmf *tmf)
{
	tmf->queue = queue;
	tmf->async_event = 0;
	tmf->itl = scsi_itl_find(queue, tmf->target, tmf->lun);
	if (!scsi_target_exists(queue, tmf->target)) {
		tmf_answer(tmf, SCSI_TMF_BAD_TARGET);
		return;
	}
	if (!tmf->itl && tmf->fn != SCSI_TMF_I_T_NEXUS_RESET) {
		tmf_answer(tmf, SCSI_TMF_BAD_LUN);
		return;
	}
	switch (tmf->fn) {
	case SCSI_TMF_CLEAR_ACA: /* there is never one: NormACA is 0 */
		tmf_answer(tmf, SCSI_TMF_COMPLETE);
		return;
	case SCSI_TMF_QUERY_ASYNC_EVENT:
		tmf_query_async(tmf);
		return;
	case SCSI_TMF_ABORT_TASK:
	case SCSI_TMF_ABORT_TASK_SET:
	case SCSI_TMF_CLEAR_TASK_SET:
	case SCSI_TMF_I_T_NEXUS_RESET:
	case SCSI_TMF_LOGICAL_UNIT_RESET:
	case SCSI_TMF_QUERY_TASK:
	case SCSI_TMF_QUERY_TASK_SET:
		tmf_sweep(tmf, &rows[tmf->fn]);
		return;
	case SCSI_TMF_COUNT:
		break;
	}
	UNREACHABLE();
}
