/*
 * The limits of commands that Identify reports and the handlers keep. One place, so that the two
 * cannot differ.
 */
#ifndef NVME_LIMITS_H
#define NVME_LIMITS_H

#include "nvme/nvme_impl.h"

/*
 * SGLS (base 5.15.2.2): 1:0 = 01b data blocks of any alignment and length; 16 bit bucket; 18 longer
 * than the data is fine. Not for NVME_PROFILE_VHOST.
 */
#define NVME_SGLS (1u | 1u << 16 | 1u << 18)

/* Descriptors that one command's SGL may have, and segments: more is INVALID_SGL_COUNT. */
#define NVME_SGL_DESCS_MAX    4096
#define NVME_SGL_SEGMENTS_MAX 256

/*
 * Bytes of one fused Compare and Write (ACWU), which is atomic against other such commands, and in
 * one request to the back-end.
 */
#define NVME_FUSED_BYTES_MAX (128u << 10)

/* Copy (NVM 1.0): source ranges, blocks of one (MSSRL), blocks of all (MCL). */
#define NVME_COPY_RANGES_MAX 128 /* MSRC + 1 */
#define NVME_COPY_BYTES_MAX  (32u << 20)

/* Dataset Management: 8 bits in the command. */
#define NVME_DSM_RANGES_MAX 256

/* Ranges of one namespace that Write Uncorrectable keeps. */
#define NVME_UNCOR_RANGES_MAX 1024

/* Bytes of one command's data: MDTS. Thread: any. */
static inline uint32_t nvme_transfer_max(const struct nvme_ctrl *ctrl)
{
	return ctrl->params.profile == NVME_PROFILE_VHOST ? NVME_PAGE_BYTES << NVME_VHOST_MDTS
							  : NVME_TRANSFER_MAX;
}

/* ACWU, 0's based, in the largest blocks that there are: good for every namespace. */
#define NVME_ACWU ((NVME_FUSED_BYTES_MAX >> 16) - 1)

/* NACWU: 0's based, blocks. */
static inline uint16_t nvme_acwu(const struct nvme_ns *ns)
{
	return (uint16_t)((NVME_FUSED_BYTES_MAX >> ns->block_shift) - 1);
}

/* MSSRL: blocks. */
static inline uint16_t nvme_mssrl(const struct nvme_ns *ns)
{
	return (uint16_t)MIN(NVME_COPY_BYTES_MAX >> ns->block_shift, (uint32_t)UINT16_MAX);
}

/* MCL: blocks. */
static inline uint32_t nvme_mcl(const struct nvme_ns *ns)
{
	return NVME_COPY_BYTES_MAX >> ns->block_shift;
}

/* Does a block read as zeroes after Dataset Management has deallocated it (DLFEAT)? */
static inline bool nvme_deallocated_is_zero(const struct blk_caps *caps)
{
	return caps->write_zeroes && caps->zeroes_unmap;
}

#endif
