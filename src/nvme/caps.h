/*
 * What Identify promises and other files keep: each number has its one place. Those of Compare and
 * Copy are in limits.h.
 */
#ifndef NVME_CAPS_H
#define NVME_CAPS_H

#define NVME_OUI                                                                                   \
	{                                                                                          \
		0x00, 0x54, 0x52                                                                   \
	}			   /* locally administered, low byte first */
#define NVME_KAS_100MS	       10  /* granularity of the keep alive timer: 1 s */
#define NVME_TEMPERATURE_K     298 /* what it always is */
#define NVME_WCTEMP_K	       343
#define NVME_CCTEMP_K	       373
#define NVME_ANATT_S	       10
#define NVME_ANA_GROUP	       1 /* the only one: all namespaces of a controller share a state */
#define NVME_POWER_STATE_COUNT 1

/* OAES and feature 0Bh (base 5.21.1.11): which events there are */
#define NVME_AEC_SMART	      0x000000ffu
#define NVME_AEC_NS_ATTRIBUTE (1u << 8)
#define NVME_AEC_ANA	      (1u << 11)
#define NVME_OAES	      (NVME_AEC_NS_ATTRIBUTE | NVME_AEC_ANA)

#endif
