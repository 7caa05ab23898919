/*
 * The parts that have a configuration, under SPDK's names and in the order in which their calls
 * must come. A part's room of methods writes them.
 */
#include "base/check.h"
#include "mgmt/rpc.h"
#include "mgmt/sections.h"

const struct rpc_section rpc_sections[] = {
	{ "scheduler", { NULL }, NULL },
	{ "sock", { NULL }, NULL },
	{ "iobuf", { NULL }, NULL },
	{ "bdev", { "sock", "iobuf", NULL }, m_bdev_write },
	{ "vhost_blk", { "bdev", NULL }, NULL },
	{ "scsi", { "bdev", NULL }, NULL },
	{ "vhost_scsi", { "scsi", NULL }, NULL },
	{ "vhost_nvme", { "bdev", NULL }, NULL },
	{ "nvmf", { "bdev", "sock", NULL }, NULL },
	{ "vfio_user_target", { "bdev", "scsi", NULL }, NULL },
};
const uint32_t rpc_section_count = ARRAY_SIZE(rpc_sections);
