/*
 * Identify data structures (base 5.15.2), little-endian, NVME_IDENTIFY_BYTES each. What is not
 * named is zero here.
 */
#ifndef NVME_IDENTIFY_H
#define NVME_IDENTIFY_H

#include "nvme/spec.h"

enum nvme_cns {
	NVME_CNS_NS = 0x00,
	NVME_CNS_CTRL = 0x01,
	NVME_CNS_ACTIVE_NS = 0x02,
	NVME_CNS_NS_DESC = 0x03,
	NVME_CNS_CSI_NS = 0x05,
	NVME_CNS_CSI_CTRL = 0x06,
	NVME_CNS_ALLOCATED_NS_LIST = 0x10,
	NVME_CNS_ALLOCATED_NS = 0x11,
	NVME_CNS_NS_CTRLS = 0x12,
	NVME_CNS_CTRLS = 0x13,
};

struct nvme_id_power_state {
	struct le16 max_power; /* 0: not told */
	uint8_t unused[30];
};

struct nvme_id_ctrl {
	struct le16 vid, ssvid;
	char sn[20], mn[40], fr[8];
	uint8_t rab, ieee[3], cmic, mdts;
	struct le16 cntlid;
	struct le32 ver, rtd3r, rtd3e, oaes, ctratt;
	struct le16 rrls;
	uint8_t unused_102[9], cntrltype, fguid[16];
	uint8_t unused_128[128];
	struct le16 oacs;
	uint8_t acl, aerl, frmw, lpa, elpe, npss, avscc, apsta;
	struct le16 wctemp, cctemp, mtfa;
	struct le32 hmpre, hmmin;
	struct le64 tnvmcap[2], unvmcap[2];
	struct le32 rpmbs;
	struct le16 edstt;
	uint8_t dsto, fwug;
	struct le16 kas, hctma, mntmt, mxtmt;
	struct le32 sanicap, hmminds;
	struct le16 hmmaxd, nsetidmax, endgidmax;
	uint8_t anatt, anacap;
	struct le32 anagrpmax, nanagrpid, pels;
	uint8_t unused_356[156];
	uint8_t sqes, cqes;
	struct le16 maxcmd;
	struct le32 nn;
	struct le16 oncs, fuses;
	uint8_t fna, vwc;
	struct le16 awun, awupf;
	uint8_t nvscc, nwpc;
	struct le16 acwu;
	struct le16 ocfs; /* copy descriptor formats, of the Copy command's specification */
	struct le32 sgls, mnan;
	uint8_t unused_544[224];
	char subnqn[256];
	uint8_t unused_1024[1024];
	struct nvme_id_power_state psd[32];
	uint8_t vendor[1024];
} __attribute__((packed));

#define AT(type, field, offset) _Static_assert(offsetof(struct type, field) == (offset), #field)
AT(nvme_id_ctrl, rab, 72);
AT(nvme_id_ctrl, cntlid, 78);
AT(nvme_id_ctrl, oaes, 92);
AT(nvme_id_ctrl, cntrltype, 111);
AT(nvme_id_ctrl, oacs, 256);
AT(nvme_id_ctrl, wctemp, 266);
AT(nvme_id_ctrl, tnvmcap, 280);
AT(nvme_id_ctrl, kas, 320);
AT(nvme_id_ctrl, sanicap, 328);
AT(nvme_id_ctrl, anatt, 342);
AT(nvme_id_ctrl, nanagrpid, 348);
AT(nvme_id_ctrl, sqes, 512);
AT(nvme_id_ctrl, nn, 516);
AT(nvme_id_ctrl, oncs, 520);
AT(nvme_id_ctrl, vwc, 525);
AT(nvme_id_ctrl, nwpc, 531);
AT(nvme_id_ctrl, sgls, 536);
AT(nvme_id_ctrl, subnqn, 768);
AT(nvme_id_ctrl, psd, 2048);
_Static_assert(sizeof(struct nvme_id_ctrl) == NVME_IDENTIFY_BYTES, "base 5.15.2.2");

struct nvme_id_lbaf {
	struct le16 ms;
	uint8_t lbads, rp;
};

struct nvme_id_ns {
	struct le64 nsze, ncap, nuse;
	uint8_t nsfeat, nlbaf, flbas, mc, dpc, dps, nmic, rescap, fpi, dlfeat;
	struct le16 nawun, nawupf, nacwu, nabsn, nabo, nabspf, noiob;
	struct le64 nvmcap[2];
	struct le16 npwg, npwa, npdg, npda, nows;
	struct le16 mssrl;
	struct le32 mcl;
	uint8_t msrc;
	uint8_t unused_81[11];
	struct le32 anagrpid;
	uint8_t unused_96[3], nsattr;
	struct le16 nvmsetid, endgid;
	uint8_t nguid[16], eui64[8];
	struct nvme_id_lbaf lbaf[16];
	uint8_t unused_192[192];
	uint8_t vendor[3712];
} __attribute__((packed));

AT(nvme_id_ns, nsfeat, 24);
AT(nvme_id_ns, dlfeat, 33);
AT(nvme_id_ns, noiob, 46);
AT(nvme_id_ns, nvmcap, 48);
AT(nvme_id_ns, nows, 72);
AT(nvme_id_ns, mcl, 76);
AT(nvme_id_ns, anagrpid, 92);
AT(nvme_id_ns, nsattr, 99);
AT(nvme_id_ns, nguid, 104);
AT(nvme_id_ns, lbaf, 128);
AT(nvme_id_ns, vendor, 384);
_Static_assert(sizeof(struct nvme_id_ns) == NVME_IDENTIFY_BYTES, "base 5.15.2.1");
#undef AT

#endif
