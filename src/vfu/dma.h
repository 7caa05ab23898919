/*
 * The guest's memory as the client mapped it (DMA_MAP, DMA_UNMAP): a list of all maps, and two
 * gmem of those that came with a descriptor: all of them, and those that may be written. A map
 * without one (a ROM, another device's BAR, anonymous memory) is reached by messages only.
 * The guest address is the client's iova; so is a region's user address.
 * Thread: main.
 */
#ifndef VFU_DMA_H
#define VFU_DMA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "guest/gmem.h"

#define VFU_MAPS_MAX GMEM_REGIONS_MAX /* told in VERSION */

struct parcel;
struct vfu_session;

struct vfu_map {
	uint64_t iova, size;
	uint32_t flags; /* VFU_MAP_READ, VFU_MAP_WRITE */
	bool mapped;	/* in the gmem */
};

struct vfu_dma {
	struct vfu_map *maps; /* VFU_MAPS_MAX, by iova */
	uint32_t count, mapped_count;
	struct gmem *readable, *writable; /* NULL: nothing is mapped */
};

int vfu_dma_init(struct vfu_dma *d, struct err *reterr);
/* The device has given its references back. Also for one that is all zeroes. */
void vfu_dma_fini(struct vfu_dma *d);
/* Will a DMA_UNMAP of these touch a map that we use? */
bool vfu_dma_unmap_is_felt(const struct vfu_dma *d, uint32_t flags, uint64_t iova, uint64_t size);
/* From the lowest mapped address to the end of the highest; false when there is none. */
bool vfu_dma_span(const struct vfu_dma *d, uint64_t *ret_first, uint64_t *ret_end);
/* Did the client map all of [iova, iova + len), for what is wanted (VFU_MAP_READ or _WRITE)? */
bool vfu_dma_is_mapped(const struct vfu_dma *d, uint64_t iova, uint64_t len_bytes, uint32_t flags);
bool vfu_dma_lost(const struct vfu_dma *d);
/* Hand-over: the maps, into none (the device is not told). -EPROTO, gmem_unpack's; named. */
int vfu_dma_pack(const struct vfu_dma *d, struct parcel *p, struct err *reterr);
int vfu_dma_unpack(struct vfu_dma *d, struct parcel *p, struct err *reterr);

#endif
