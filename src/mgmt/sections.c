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
	{ "vhost_blk", { "bdev", NULL }, m_vhost_blk_write },
	{ "scsi", { "bdev", NULL }, NULL },
	{ "vhost_scsi", { "scsi", NULL }, m_vhost_scsi_write },
	{ "vhost_nvme", { "bdev", NULL }, m_nvme_write },
	{ "nvmf", { "bdev", "sock", NULL }, m_nvmf_write },
	{ "vfio_user_target", { "bdev", "scsi", NULL }, m_vfu_write },
	{ "device", { NULL }, m_device_slow_write },
};
const uint32_t rpc_section_count = ARRAY_SIZE(rpc_sections);
