/*
 * The verbs as rows.
 */
#include <string.h>

#include "cli/cli.h"
#include "cli/jobs.h"

static const char *const log_levels[] = { "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG", NULL };
static const char *const shells[] = { "bash", NULL };

/* What a new disk is made of. Of calls: 0 is the one that makes the bdev. */
#define ROWS_BACKEND                                                                               \
	{ "--file", ARG_PATH, .help = "image file or block device, of the daemon's machine",       \
	  .param = "filename", .offer = OFFER_FILES },                                             \
		{ "--size", ARG_SIZE, .help = "makes the file, sparse; there must be none",        \
		  .param = "create_size" },                                                        \
		{ "--ram", ARG_SIZE, .help = "a disk of this size in memory" },                    \
		{ "--null", ARG_SIZE, .help = "a disk of this size that keeps nothing" },          \
		{ "--block-size", ARG_SIZE, .help = "logical block, default 512",                  \
		  .param = "block_size" },                                                         \
	{                                                                                          \
		"--uuid", ARG_STR, .help = "default: made at random", .value = "UUID",             \
				   .param = "uuid"                                                 \
	}

#define ROW_SET(number, which)                                                                     \
	{                                                                                          \
		"--set", ARG_KEY, .help = "any other parameter of " which " (docs/rpc.md)",        \
				  .call = number                                                   \
	}

static const struct arg disk_add_args[] = {
	{ "NAME", ARG_STR, .help = "of the new disk, and of its socket", .param = "ctrlr",
	  .call = 1 },
	ROWS_BACKEND,
	{ "--bdev", ARG_STR, .help = "a bdev that is there already", .value = "NAME",
	  .param = "dev_name", .call = 1, .offer = OFFER_BDEVS },
	{ "--vfio-user", ARG_FLAG,
	  .help = "as a PCI function over vfio-user; default: vhost-user" },
	{ "--serial", ARG_STR, .help = "what the guest reads as its serial number",
	  .param = "serial", .call = 1 },
	{ "--read-only", ARG_FLAG, .help = "refuse writes", .param = "readonly", .call = 1 },
	{ "--packed", ARG_FLAG, .help = "offer packed rings", .param = "packed_ring", .call = 1 },
	{ "--cpumask", ARG_STR, .help = "CPUs whose loops serve it: 0x3, [0,1]", .param = "cpumask",
	  .call = 1 },
	ROW_SET(1, "vhost_create_blk_controller"),
	{ NULL },
};

static const struct arg disk_swap_args[] = {
	{ "NAME", ARG_STR, .help = "of the device, or of a bdev", .offer = OFFER_DEVICES },
	{ "--file", ARG_PATH, .help = "image file or block device that it gets",
	  .param = "filename", .offer = OFFER_FILES },
	{ "--bdev", ARG_STR, .help = "or a bdev, which is gone then", .value = "NAME",
	  .param = "new_bdev", .offer = OFFER_BDEVS },
	{ "--unit", ARG_STR,
	  .help = "which disk of a device with several: 3/0 (target and unit), "
		  "2 (namespace)",
	  .param = "unit" },
	ROW_SET(0, "device_swap"),
	{ NULL },
};

static const struct arg disk_copy_args[] = {
	{ "SOURCE", ARG_STR, .help = "disk or bdev that nobody writes to: drained, or read-only",
	  .offer = OFFER_DISKS_BDEVS },
	{ "DESTINATION", ARG_STR, .help = "a bdev that nobody uses, at least as large",
	  .offer = OFFER_BDEVS },
	ROWS_FOLLOW,
	{ NULL },
};

static const struct arg disk_format_args[] = {
	{ "NAME", ARG_STR, .help = "a bdev that nobody uses", .offer = OFFER_BDEVS },
	ROWS_FOLLOW,
	{ NULL },
};

static const struct arg jobs_args[] = {
	{ "[NAME]", ARG_STR, .help = "only what works on this disk or bdev, or copies from it",
	  .param = "name", .offer = OFFER_DISKS_BDEVS },
	{ NULL },
};

static const struct arg jobs_cancel_args[] = {
	{ "ID", ARG_U64, .help = "its number", .param = "id", .offer = OFFER_JOBS },
	{ NULL },
};

static const struct arg jobs_wait_args[] = {
	{ "ID", ARG_U64, .help = "its number", .param = "id", .offer = OFFER_JOBS },
	ROWS_FOLLOW,
	{ NULL },
};

static const struct arg device_name_args[] = {
	{ "NAME", ARG_STR, .help = "of the device", .param = "name", .offer = OFFER_DEVICES },
	{ NULL },
};

static const struct arg device_list_args[] = {
	{ "[NAME]", ARG_STR, .help = "only this one", .param = "name", .offer = OFFER_DEVICES },
	{ NULL },
};

static const struct arg device_move_args[] = {
	{ "NAME", ARG_STR, .help = "of the device", .param = "name", .offer = OFFER_DEVICES },
	{ "QUEUE", ARG_U64, .help = "its number, as `stats --queues` shows it", .param = "queue" },
	{ "LOOP", ARG_U64, .help = "number of the data loop, from 0", .param = "loop" },
	ROW_SET(0, "device_migrate_queue"),
	{ NULL },
};

static const struct arg name_disk_args[] = {
	{ "NAME", ARG_STR, .help = "of the disk", .param = "name", .offer = OFFER_DISKS },
	{ NULL },
};

static const struct arg disk_list_args[] = {
	{ "[NAME]", ARG_STR, .help = "only this one", .offer = OFFER_DISKS },
	{ NULL },
};

static const struct arg disk_resize_args[] = {
	{ "NAME", ARG_STR, .help = "of the disk, or of a bdev", .offer = OFFER_DISKS_BDEVS },
	{ "[SIZE]", ARG_SIZE,
	  .help = "the new size; without it: look at how large the file is now" },
	{ "--allocate", ARG_FLAG, .help = "allocate the space first; guests are told when all is" },
	{ "--force", ARG_FLAG, .help = "it may become smaller: what is beyond the end is lost" },
	{ "--unit", ARG_STR, .help = "of a device of the command line: which of its disks",
	  .value = "UNIT" },
	ROWS_FOLLOW,
	{ NULL },
};

static const struct arg disk_rm_args[] = {
	{ "NAME", ARG_STR, .help = "of the disk", .param = "ctrlr", .offer = OFFER_DISKS },
	{ "--keep-bdev", ARG_FLAG,
	  .help = "its bdev stays; otherwise one of the same name goes, too" },
	{ NULL },
};

static const struct arg scsi_add_args[] = {
	{ "NAME", ARG_STR, .help = "of the new controller, and of its socket", .param = "ctrlr" },
	{ "--cpumask", ARG_STR, .help = "CPUs whose loops serve it: 0x3, [0,1]",
	  .param = "cpumask" },
	{ "--vfio-user", ARG_FLAG, .help = "a PCI function over vfio-user, not vhost-user" },
	ROW_SET(0, "vhost_create_scsi_controller, or vfu_virtio_create_scsi_endpoint"),
	{ NULL },
};

static const struct arg scsi_name_args[] = {
	{ "NAME", ARG_STR, .help = "of the controller", .param = "ctrlr", .offer = OFFER_SCSI },
	{ NULL },
};

static const struct arg scsi_rm_args[] = {
	{ "NAME", ARG_STR, .help = "of the controller", .param = "ctrlr", .offer = OFFER_SCSI },
	{ "--keep-bdevs", ARG_FLAG, .help = "bdevs that `scsi target add` made stay" },
	{ NULL },
};

static const struct arg scsi_list_args[] = {
	{ "[NAME]", ARG_STR, .help = "only this one", .offer = OFFER_SCSI },
	{ NULL },
};

static const struct arg scsi_target_add_args[] = {
	{ "NAME", ARG_STR, .help = "of the controller", .param = "ctrlr", .call = 1,
	  .offer = OFFER_SCSI },
	{ "[TARGET]", ARG_U64, .help = "its number; default: the first that is free",
	  .param = "scsi_target_num", .call = 1 },
	ROWS_BACKEND,
	{ "--bdev", ARG_STR, .help = "a bdev that is there already", .value = "NAME",
	  .param = "bdev_name", .call = 1, .offer = OFFER_BDEVS },
	ROW_SET(1, "vhost_scsi_controller_add_target"),
	{ NULL },
};

static const struct arg scsi_target_rm_args[] = {
	{ "NAME", ARG_STR, .help = "of the controller", .param = "ctrlr", .offer = OFFER_SCSI },
	{ "TARGET", ARG_U64, .help = "its number", .param = "scsi_target_num" },
	{ "--keep-bdev", ARG_FLAG, .help = "a bdev that `scsi target add` made stays" },
	{ NULL },
};

static const struct arg nvme_add_args[] = {
	{ "NAME", ARG_STR, .help = "of the new controller", .offer = OFFER_NOTHING },
	{ "--dir", ARG_PATH,
	  .help = "over vfio-user: folder of its socket; default: NAME, where sockets are",
	  .value = "DIR", .offer = OFFER_FILES },
	{ "--nqn", ARG_STR, .help = "over vfio-user: the subsystem's; default: made of NAME",
	  .value = "NQN", .param = "nqn", .call = 1 },
	{ "--serial", ARG_STR, .help = "over vfio-user: at most 20 characters",
	  .param = "serial_number", .call = 1 },
	{ "--model", ARG_STR, .help = "over vfio-user: at most 40 characters",
	  .param = "model_number", .call = 1 },
	{ "--vhost-user", ARG_FLAG, .help = "over vhost-user-nvme, which old front-ends speak" },
	{ "--queues", ARG_U64, .help = "over vhost-user-nvme: I/O queues, default 16",
	  .param = "io_queues", .call = 3 },
	{ "--cpumask", ARG_STR, .help = "over vhost-user-nvme: CPUs whose loops serve it",
	  .param = "cpumask", .call = 3 },
	ROW_SET(1, "nvmf_create_subsystem"),
	{ NULL },
};

static const struct arg nvme_name_args[] = {
	{ "NAME", ARG_STR, .help = "of the controller, or a subsystem's NQN", .offer = OFFER_NVME },
	{ NULL },
};

static const struct arg nvme_list_args[] = {
	{ "[NAME]", ARG_STR, .help = "only this one", .offer = OFFER_NVME },
	{ NULL },
};

static const struct arg nvme_ns_add_args[] = {
	{ "NAME", ARG_STR, .help = "of the controller, or a subsystem's NQN", .offer = OFFER_NVME },
	ROWS_BACKEND,
	{ "--bdev", ARG_STR, .help = "a bdev that is there already", .value = "NAME",
	  .param = "bdev_name", .call = 1, .offer = OFFER_BDEVS },
	{ "--nsid", ARG_U64, .help = "namespace identifier; default: the first that is free",
	  .param = "nsid", .call = 1 },
	ROW_SET(1, "the namespace of nvmf_subsystem_add_ns"),
	{ NULL },
};

static const struct arg nvme_ns_rm_args[] = {
	{ "NAME", ARG_STR, .help = "of the controller, or a subsystem's NQN", .offer = OFFER_NVME },
	{ "NSID", ARG_U64, .help = "namespace identifier", .param = "nsid" },
	{ "--keep-bdev", ARG_FLAG, .help = "a bdev that `nvme ns add` made stays" },
	{ NULL },
};

static const struct arg bdev_list_args[] = {
	{ "[NAME]", ARG_STR, .help = "only this one: name or UUID", .param = "name",
	  .offer = OFFER_BDEVS },
	{ NULL },
};

static const struct arg bdev_show_args[] = {
	{ "NAME", ARG_STR, .help = "name or UUID", .param = "name", .offer = OFFER_BDEVS },
	{ NULL },
};

static const struct arg bdev_add_args[] = {
	{ "NAME", ARG_STR, .help = "of the new bdev", .param = "name" },
	ROWS_BACKEND,
	{ "--read-only", ARG_FLAG, .help = "refuse writes", .param = "readonly" },
	ROW_SET(0, "the method that makes it"),
	{ NULL },
};

static const struct arg bdev_name_args[] = {
	{ "NAME", ARG_STR, .help = "name or UUID", .offer = OFFER_BDEVS },
	{ NULL },
};

#define ROWS_LIMITS(method)                                                                        \
	{ "--iops", ARG_U64, .help = "reads and writes a second, 0: no limit",                     \
	  .param = "rw_ios_per_sec" },                                                             \
		{ "--bandwidth", ARG_SIZE, .help = "bytes a second, whole MiB, 0: no limit" },     \
		{ "--read-bandwidth", ARG_SIZE, .help = "of reads" },                              \
		{ "--write-bandwidth", ARG_SIZE, .help = "of writes" },                            \
		{ "--read-iops", ARG_U64, .help = "reads a second", .param = "r_ios_per_sec" },    \
		{ "--write-iops", ARG_U64, .help = "writes a second", .param = "w_ios_per_sec" },  \
		{ "--iops-burst", ARG_U64, .help = "what may be saved up while idle",              \
		  .param = "rw_ios_burst" },                                                       \
		{ "--read-iops-burst", ARG_U64, .help = "of reads", .param = "r_ios_burst" },      \
		{ "--write-iops-burst", ARG_U64, .help = "of writes", .param = "w_ios_burst" },    \
		{ "--bandwidth-burst", ARG_SIZE, .help = "the same in bytes" },                    \
		{ "--read-bandwidth-burst", ARG_SIZE, .help = "of reads" },                        \
		{ "--write-bandwidth-burst", ARG_SIZE, .help = "of writes" }, ROW_SET(0, method)

static const struct arg qos_args[] = {
	{ "NAME", ARG_STR, .help = "of a disk or a bdev", .offer = OFFER_DISKS_BDEVS },
	ROWS_LIMITS("bdev_set_qos_limit"),
	{ NULL },
};

static const struct arg disk_limit_args[] = {
	{ "NAME", ARG_STR, .help = "of the device", .param = "name", .offer = OFFER_DEVICES },
	ROWS_LIMITS("device_set_qos_limit"),
	{ NULL },
};

#define ROWS_TIMES                                                                                 \
	{ "--count", ARG_U64, .help = "so many times, then end; default: for ever",                \
	  .letter = 'n' },                                                                         \
	{                                                                                          \
		"--interval", ARG_MSEC, .help = "between two, default 1s", .letter = 'd'           \
	}

static const struct arg upgrade_args[] = {
	{ "--within", ARG_MSEC, .help = "else it is undone (default 10s)", .param = "timeout_ms" },
	{ NULL },
};

static const struct arg top_args[] = {
	{ "--batch", ARG_FLAG, .help = "plain text for scripts, no full screen", .letter = 'b' },
	ROWS_TIMES,
	{ "--sort", ARG_STR, .help = "name, iops, bandwidth, latency or errors", .value = "KEY" },
	{ "--queues", ARG_FLAG, .help = "queues, not devices", .letter = 'q' },
	{ "[NAME]", ARG_STR, .help = "only this device's queues", .offer = OFFER_DEVICES },
	{ NULL },
};

static const struct arg stats_args[] = {
	{ "[NAME]", ARG_STR, .help = "only this device", .offer = OFFER_DEVICES },
	{ "--queues", ARG_FLAG, .help = "its queues, too", .letter = 'q' },
	{ NULL },
};

static const struct arg slow_args[] = {
	{ "--threshold", ARG_MSEC, .help = "from now on note what takes longer; 0: nothing",
	  .letter = 't' },
	{ NULL },
};

static const struct arg events_args[] = {
	{ "--follow", ARG_FLAG, .help = "go on until interrupted", .letter = 'f' },
	{ "--count", ARG_U64, .help = "end after so many", .letter = 'n' },
	{ "--since", ARG_U64, .help = "from this number on; default: all that are kept" },
	{ "--type", ARG_STR, .help = "only these: vhost_connect, bdev_register ..." },
	{ NULL },
};

static const struct arg config_save_args[] = {
	{ "[FILE]", ARG_STR, .help = "written whole or not at all; default: standard output",
	  .offer = OFFER_FILES },
	{ NULL },
};

static const struct arg config_load_args[] = {
	{ "[FILE]", ARG_STR,
	  .help = "in the format of `config save` and of SPDK; default: standard input",
	  .offer = OFFER_FILES },
	{ "--keep-going", ARG_FLAG, .help = "tell of each error, and go on" },
	{ NULL },
};

static const struct arg log_level_args[] = {
	{ "[LEVEL]", ARG_ENUM, .help = "the least urgent that is written; default: shows it",
	  .param = "level", .names = log_levels },
	{ NULL },
};

static const struct arg rpc_args[] = {
	{ "METHOD", ARG_STR, .help = "see docs/rpc.md", .offer = OFFER_METHODS },
	{ "[PARAMS]", ARG_STR, .help = "JSON; '-': of standard input; default: none" },
	{ NULL },
};

static const struct arg completion_args[] = {
	{ "SHELL", ARG_ENUM, .help = "for: source <(vhostctl completion bash)", .names = shells },
	{ NULL },
};

static const struct arg help_args[] = {
	{ "[VERB]", ARG_STR, .help = "only this one", .offer = OFFER_VERBS },
	{ "[WORD]", ARG_STR, .help = "its second word" },
	{ "[WORD3]", ARG_STR, .help = "its third" },
	{ NULL },
};

#define CALLS_BACKEND "bdev_aio_create", "bdev_malloc_create", "bdev_null_create"
#define CALLS_REMOVE                                                                               \
	"bdev_get_bdevs", "bdev_aio_delete", "bdev_uring_delete", "bdev_malloc_delete",            \
		"bdev_null_delete"

const struct verb verbs[] = {
	{ "disk add",
	  disk_add_args,
	  { CALLS_BACKEND, "vhost_create_blk_controller", "vfu_virtio_create_blk_endpoint",
	    "device_get_devices", "vhost_get_controllers" },
	  disk_add,
	  print_disk,
	  "makes a virtio-blk disk" },
	{ "disk list",
	  disk_list_args,
	  { "device_get_devices", "vhost_get_controllers", "bdev_get_bdevs" },
	  disk_list,
	  print_disks,
	  "shows the virtio-blk disks" },
	{ "disk show",
	  name_disk_args,
	  { "device_get_devices", "vhost_get_controllers", "bdev_get_bdevs" },
	  disk_show,
	  print_disk,
	  "shows all that is known of one" },
	{ "disk resize",
	  disk_resize_args,
	  { "vhost_get_controllers", "device_get_devices", "bdev_get_bdevs", "bdev_resize",
	    "device_resize", "bdev_aio_rescan", "job_wait", "job_cancel" },
	  disk_resize,
	  print_resized,
	  "gives a disk another size" },
	{ "disk copy",
	  disk_copy_args,
	  { "vhost_get_controllers", "bdev_copy", "job_wait", "job_cancel" },
	  disk_copy,
	  print_job,
	  "copies all of a disk to another" },
	{ "disk format",
	  disk_format_args,
	  { "vhost_get_controllers", "bdev_format", "job_wait", "job_cancel" },
	  disk_format,
	  print_job,
	  "makes all of a disk read as zeroes" },
	{ "disk swap",
	  disk_swap_args,
	  { "device_get_devices", "device_swap", "bdev_swap" },
	  disk_swap,
	  NULL,
	  "exchanges what is behind a disk while guests use it" },
	{ "disk limit",
	  disk_limit_args,
	  { "device_set_qos_limit" },
	  disk_limit,
	  NULL,
	  "limits what a device may ask of all its disks in a second" },
	{ "disk rm",
	  disk_rm_args,
	  { "device_get_devices", "vhost_delete_controller", "vfu_virtio_delete_endpoint",
	    CALLS_REMOVE },
	  disk_rm,
	  NULL,
	  "takes a disk away" },
	{ "scsi add",
	  scsi_add_args,
	  { "vhost_create_scsi_controller", "vfu_virtio_create_scsi_endpoint" },
	  scsi_add,
	  NULL,
	  "makes a virtio-scsi controller" },
	{ "scsi list",
	  scsi_list_args,
	  { "device_get_devices", "vhost_get_controllers" },
	  scsi_list,
	  print_scsi,
	  "shows the virtio-scsi controllers and their targets" },
	{ "scsi rm",
	  scsi_rm_args,
	  { "device_get_devices", "vhost_get_controllers", "vhost_delete_controller",
	    "vfu_virtio_delete_endpoint", CALLS_REMOVE },
	  scsi_rm,
	  NULL,
	  "takes a controller away, with its targets" },
	{ "scsi start",
	  scsi_name_args,
	  { "vhost_start_scsi_controller" },
	  .help = "starts one that was made with --set delay=true" },
	{ "scsi target add",
	  scsi_target_add_args,
	  { CALLS_BACKEND, "device_get_devices", "vhost_scsi_controller_add_target",
	    "vfu_virtio_scsi_add_target" },
	  scsi_target_add,
	  print_text,
	  "gives a controller a target" },
	{ "scsi target rm",
	  scsi_target_rm_args,
	  { "device_get_devices", "vhost_get_controllers", "vhost_scsi_controller_remove_target",
	    "vfu_virtio_scsi_remove_target", CALLS_REMOVE },
	  scsi_target_rm,
	  NULL,
	  "takes a target away" },
	{ "nvme add",
	  nvme_add_args,
	  { "nvmf_create_transport", "nvmf_create_subsystem", "nvmf_subsystem_add_listener",
	    "vhost_create_nvme_controller", "nvmf_delete_subsystem" },
	  nvme_add,
	  NULL,
	  "makes an NVMe controller" },
	{ "nvme list",
	  nvme_list_args,
	  { "nvmf_get_subsystems", "vhost_get_controllers" },
	  nvme_list,
	  print_nvme,
	  "shows the NVMe controllers and their namespaces" },
	{ "nvme rm",
	  nvme_name_args,
	  { "nvmf_get_subsystems", "nvmf_delete_subsystem", "vhost_get_controllers",
	    "vhost_delete_controller" },
	  nvme_rm,
	  NULL,
	  "takes a controller away; its bdevs stay" },
	{ "nvme ns add",
	  nvme_ns_add_args,
	  { CALLS_BACKEND, "nvmf_get_subsystems", "nvmf_subsystem_add_ns",
	    "vhost_nvme_controller_add_ns" },
	  nvme_ns_add,
	  print_text,
	  "gives a controller a namespace" },
	{ "nvme ns rm",
	  nvme_ns_rm_args,
	  { "nvmf_get_subsystems", "nvmf_subsystem_remove_ns", "vhost_get_controllers",
	    "vhost_nvme_controller_remove_ns", "bdev_get_bdevs", "bdev_aio_delete" },
	  nvme_ns_rm,
	  NULL,
	  "takes a namespace away" },
	{ "device list",
	  device_list_args,
	  { "device_get_devices" },
	  .print = print_devices,
	  .help = "shows the devices of all kinds, those of the command line, too" },
	{ "device drain",
	  device_name_args,
	  { "device_drain" },
	  .help = "takes no more requests, and waits until those under way have ended" },
	{ "device resume", device_name_args, { "device_resume" }, .help = "after drain: goes on" },
	{ "device move",
	  device_move_args,
	  { "device_migrate_queue" },
	  .help = "moves a queue to another loop" },
	{ "bdev add", bdev_add_args, { CALLS_BACKEND }, bdev_add, NULL, "makes a bdev" },
	{ "bdev list",
	  bdev_list_args,
	  { "bdev_get_bdevs" },
	  .print = print_bdevs,
	  .help = "shows the bdevs, which disks are made of" },
	{ "bdev show",
	  bdev_show_args,
	  { "bdev_get_bdevs" },
	  .print = print_bdev,
	  .help = "shows all that is known of one" },
	{ "bdev rm", bdev_name_args, { CALLS_REMOVE }, bdev_rm, NULL, "takes a bdev away" },
	{ "bdev resize",
	  disk_resize_args,
	  { "vhost_get_controllers", "device_get_devices", "bdev_get_bdevs", "bdev_resize",
	    "device_resize", "bdev_aio_rescan", "job_wait", "job_cancel" },
	  disk_resize,
	  print_resized,
	  "as disk resize" },
	{ "qos set",
	  qos_args,
	  { "bdev_set_qos_limit", "vhost_get_controllers" },
	  qos_set,
	  NULL,
	  "limits what all users of a bdev may ask of it in a second" },
	{ "jobs cancel", jobs_cancel_args, { "job_cancel" }, .help = "asks one to end soon" },
	{ "jobs wait",
	  jobs_wait_args,
	  { "job_wait", "job_cancel" },
	  jobs_wait,
	  print_job,
	  "shows how far one is, until it has ended" },
	{ "jobs",
	  jobs_args,
	  { "job_get_jobs" },
	  .print = print_jobs,
	  .help = "shows long work: copies, formats, allocation; what guests began, too" },
	{ "status",
	  NULL,
	  { "spdk_get_version", "framework_get_reactors", "device_get_devices", "bdev_get_bdevs",
	    "log_get_print_level" },
	  status_run,
	  print_status,
	  "says how the daemon is" },
	{ "top",
	  top_args,
	  { "device_get_stats" },
	  top_run,
	  NULL,
	  "shows devices, queues and loops at work" },
	{ "stats",
	  stats_args,
	  { "device_get_stats" },
	  stats_run,
	  NULL,
	  "shows what was done since the start" },
	{ "slow",
	  slow_args,
	  { "device_set_slow_threshold", "device_get_slow_requests" },
	  slow_run,
	  print_slow,
	  "shows requests that took long" },
	{ "events",
	  events_args,
	  { "notify_get_notifications" },
	  events_run,
	  NULL,
	  "shows what happened: connections, errors, bdevs" },
	{ "config save",
	  config_save_args,
	  { "framework_get_subsystems", "framework_get_config" },
	  config_save,
	  NULL,
	  "writes the calls that make what is there, as SPDK's save_config" },
	{ "config load",
	  config_load_args,
	  { "framework_start_init" },
	  config_load,
	  NULL,
	  "makes what a file of `config save` says" },
	{ "log level",
	  log_level_args,
	  { "log_set_print_level", "log_get_print_level" },
	  log_level_run,
	  print_text,
	  "shows or sets what the daemon logs" },
	{ "upgrade",
	  upgrade_args,
	  { "framework_hand_over", "spdk_get_version" },
	  upgrade_run,
	  print_upgrade,
	  "starts the daemon's program anew, which takes all front-ends over" },
	{ "rpc", rpc_args, { NULL }, rpc_run_verb, print_json, "calls any method" },
	{ "completion",
	  completion_args,
	  { NULL },
	  completion_run,
	  NULL,
	  "prints what makes a shell complete verbs, options and names" },
	{ "help", help_args, { NULL }, help_run, NULL, "explains a verb" },
	{ NULL },
};

/* How many words name has, when they are the first of these words; else 0. */
static int name_words(const char *name, int count, char *const *words)
{
	int n = 0;

	for (size_t len; *name; name += len + (name[len] == ' '), n++) {
		len = strcspn(name, " ");
		if (n == count || strlen(words[n]) != len || memcmp(words[n], name, len))
			return 0;
	}
	return n;
}

const struct verb *verb_find(int count, char *const *words, int *ret_used)
{
	for (const struct verb *v = verbs; v->name; v++) {
		*ret_used = name_words(v->name, count, words);
		if (*ret_used)
			return v;
	}
	return NULL;
}

bool verb_begins(const struct verb *v, int count, char *const *words)
{
	const char *name = v->name;

	for (int n = 0; n < count; n++) {
		const size_t len = strcspn(name, " ");

		if (strlen(words[n]) != len || memcmp(words[n], name, len) || !len)
			return false;
		name += len + (name[len] == ' ');
	}
	return true;
}

uint32_t verb_prefix_count(int count, char *const *words)
{
	uint32_t n = 0;

	for (const struct verb *v = verbs; v->name; v++)
		n += verb_begins(v, count, words);
	return n;
}
