/* The handlers of cdb.def, one declaration each. */
#ifndef SCSI_HANDLERS_H
#define SCSI_HANDLERS_H

struct scsi_task;

void scsi_test_unit_ready(struct scsi_task *task);
void scsi_request_sense(struct scsi_task *task);
void scsi_read(struct scsi_task *task);
void scsi_write(struct scsi_task *task);
void scsi_inquiry(struct scsi_task *task);
void scsi_mode_select(struct scsi_task *task);
void scsi_reserve(struct scsi_task *task);
void scsi_release(struct scsi_task *task);
void scsi_mode_sense(struct scsi_task *task);
void scsi_start_stop(struct scsi_task *task);
void scsi_prevent_allow(struct scsi_task *task);
void scsi_read_capacity_10(struct scsi_task *task);
void scsi_write_verify(struct scsi_task *task);
void scsi_verify(struct scsi_task *task);
void scsi_pre_fetch(struct scsi_task *task);
void scsi_sync_cache(struct scsi_task *task);
void scsi_write_same(struct scsi_task *task);
void scsi_unmap(struct scsi_task *task);
void scsi_sanitize(struct scsi_task *task);
void scsi_log_sense(struct scsi_task *task);
void scsi_pr_in(struct scsi_task *task);
void scsi_pr_out(struct scsi_task *task);
void scsi_extended_copy(struct scsi_task *task);
void scsi_populate_token(struct scsi_task *task);
void scsi_write_using_token(struct scsi_task *task);
void scsi_copy_abort(struct scsi_task *task);
void scsi_receive_copy(struct scsi_task *task);
void scsi_receive_rod_token(struct scsi_task *task);
void scsi_report_all_tokens(struct scsi_task *task);
void scsi_compare_and_write(struct scsi_task *task);
void scsi_orwrite(struct scsi_task *task);
void scsi_write_atomic(struct scsi_task *task);
void scsi_read_capacity_16(struct scsi_task *task);
void scsi_get_lba_status(struct scsi_task *task);
void scsi_report_luns(struct scsi_task *task);
void scsi_report_tpg(struct scsi_task *task);
void scsi_report_opcodes(struct scsi_task *task);
void scsi_report_tmfs(struct scsi_task *task);
void scsi_set_tpg(struct scsi_task *task);

#endif
