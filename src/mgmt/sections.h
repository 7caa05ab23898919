/*
 * Writers of configuration sections (rpc_section.write), each defined with its methods. Only
 * sections.c includes this, and the files of the writers.
 */
#ifndef MGMT_SECTIONS_H
#define MGMT_SECTIONS_H

#include <jansson.h>

void m_bdev_write(json_t *calls);
void m_device_slow_write(json_t *calls);
void m_nvme_write(json_t *calls);
void m_nvmf_write(json_t *calls);
void m_vfu_write(json_t *calls);
void m_vhost_blk_write(json_t *calls);
void m_vhost_scsi_write(json_t *calls);

#endif
