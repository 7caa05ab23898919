#include "vfu/dma.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/parcel.h"
#include "vfu/session.h"

#define ull unsigned long long

int vfu_dma_init(struct vfu_dma *d, struct err *reterr)
{
	d->maps = calloc(VFU_MAPS_MAX, sizeof(*d->maps));
	return d->maps ? 0 : err_set(reterr, -ENOMEM, "no memory for DMA maps");
}

void vfu_dma_fini(struct vfu_dma *d)
{
	gmem_unref(d->readable);
	gmem_unref(d->writable);
	free(d->maps);
	*d = (struct vfu_dma){ 0 };
}

bool vfu_dma_lost(const struct vfu_dma *d)
{
	return d->readable && gmem_lost(d->readable);
}

bool vfu_dma_span(const struct vfu_dma *d, uint64_t *ret_first, uint64_t *ret_end)
{
	const struct gmem *map = d->readable;

	if (!map || !map->count)
		return false;
	*ret_first = map->regions[0].gpa;
	*ret_end = map->regions[map->count - 1].gpa + map->regions[map->count - 1].size_bytes;
	return true;
}

/* The first map that ends after iova. */
static uint32_t vfu_dma_find(const struct vfu_dma *d, uint64_t iova)
{
	uint32_t lo = 0, hi = d->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (d->maps[mid].iova + d->maps[mid].size <= iova)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool vfu_dma_is_mapped(const struct vfu_dma *d, uint64_t iova, uint64_t len_bytes, uint32_t flags)
{
	uint64_t end;

	if (!num_add(iova, len_bytes, &end))
		return false;
	for (uint32_t i = vfu_dma_find(d, iova); iova < end; i++) {
		const struct vfu_map *map = &d->maps[i];

		if (i == d->count || map->iova > iova || !(map->flags & flags))
			return false;
		iova = map->iova + map->size;
	}
	return true;
}

static struct vfu_map *vfu_dma_exact(const struct vfu_dma *d, uint64_t iova, uint64_t size)
{
	uint32_t i = vfu_dma_find(d, iova);

	return i < d->count && d->maps[i].iova == iova && d->maps[i].size == size ? &d->maps[i]
										  : NULL;
}

bool vfu_dma_unmap_is_felt(const struct vfu_dma *d, uint32_t flags, uint64_t iova, uint64_t size)
{
	const struct vfu_map *map = vfu_dma_exact(d, iova, size);

	return flags & VFU_UNMAP_ALL ? d->mapped_count : map && map->mapped;
}

/* Takes both references. The device is quiet, or has never heard of a map. */
static void vfu_dma_set(struct vfu_session *s, struct gmem *readable, struct gmem *writable)
{
	s->dev->ops->maps_set(s->dev, readable, writable);
	gmem_unref(s->dma.readable);
	gmem_unref(s->dma.writable);
	s->dma.readable = readable;
	s->dma.writable = writable;
	vfu_session_memory_changed(s);
}

static int vfu_gmem_with(const struct gmem *old, const struct gmem_region_desc *desc, int fd,
			 struct gmem **ret_map, struct err *reterr)
{
	return old ? gmem_new_with(old, desc, fd, ret_map, reterr)
		   : gmem_new(desc, &fd, 1, ret_map, reterr);
}

/* A map with a descriptor comes into use. */
static int vfu_dma_use(struct vfu_session *s, const struct vfu_dma_map *req, int fd,
		       struct err *reterr)
{
	const struct gmem_region_desc desc = { .gpa = req->iova,
					       .size_bytes = req->size,
					       .uva = req->iova,
					       .mmap_offset_bytes = req->offset };
	struct gmem *readable, *writable = NULL;
	int rc = vfu_gmem_with(s->dma.readable, &desc, fd, &readable, reterr);

	if (rc)
		return rc;
	if (req->flags & VFU_MAP_WRITE)
		rc = vfu_gmem_with(s->dma.writable, &desc, fd, &writable, reterr);
	else if (s->dma.writable)
		writable = gmem_ref(s->dma.writable);
	if (!rc)
		rc = vfu_dirty_cover(s, MIN(req->iova, readable->regions[0].gpa),
				     req->iova + req->size, reterr);
	if (rc) {
		gmem_unref(readable);
		gmem_unref(writable);
		return rc;
	}
	vfu_dma_set(s, readable, writable);
	return 0;
}

static int vfu_dma_map_check(const struct vfu_dma *d, const struct vfu_dma_map *req,
			     struct err *reterr)
{
	uint64_t end;
	uint32_t i;

	if (req->argsz < sizeof(*req))
		return err_set(reterr, -EINVAL, "argsz: expected at least %zu, got %u",
			       sizeof(*req), req->argsz);
	if (!(req->flags & (VFU_MAP_READ | VFU_MAP_WRITE)))
		return err_set(reterr, -EINVAL, "flags: expected readable or writable, got 0x%x",
			       req->flags);
	if (!req->size || !num_add(req->iova, req->size, &end))
		return err_set(reterr, -EINVAL, "address 0x%llx with size 0x%llx", (ull)req->iova,
			       (ull)req->size);
	i = vfu_dma_find(d, req->iova);
	if (i < d->count && d->maps[i].iova < end)
		return err_set(
			reterr, -EEXIST, "address 0x%llx size 0x%llx overlaps 0x%llx size 0x%llx",
			(ull)req->iova, (ull)req->size, (ull)d->maps[i].iova, (ull)d->maps[i].size);
	if (d->count == VFU_MAPS_MAX)
		return err_set(reterr, -ENOSPC, "maps: expected at most %u", VFU_MAPS_MAX);
	return 0;
}

int vfu_handle_DMA_MAP(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	const struct vfu_dma_map *req = vfu_msg_bytes(m);
	struct vfu_dma *d = &s->dma;
	int rc = vfu_dma_map_check(d, req, reterr);
	uint32_t i;

	if (!rc && m->fd_count)
		rc = vfu_dma_use(s, req, m->fds[0], reterr);
	if (rc)
		return rc;
	i = vfu_dma_find(d, req->iova);
	memmove(&d->maps[i + 1], &d->maps[i], (d->count - i) * sizeof(*d->maps));
	d->maps[i] = (struct vfu_map){
		.iova = req->iova, .size = req->size, .flags = req->flags, .mapped = m->fd_count
	};
	d->count++;
	d->mapped_count += m->fd_count;
	return 0;
}

/* The map goes out of use. */
static int vfu_dma_unuse(struct vfu_session *s, const struct vfu_map *map, struct err *reterr)
{
	const struct gmem_region_desc desc = { .gpa = map->iova,
					       .size_bytes = map->size,
					       .uva = map->iova };
	struct gmem *readable, *writable = NULL;
	int rc = gmem_new_without(s->dma.readable, &desc, &readable, reterr);

	if (rc)
		return rc;
	if (map->flags & VFU_MAP_WRITE)
		rc = gmem_new_without(s->dma.writable, &desc, &writable, reterr);
	else if (s->dma.writable)
		writable = gmem_ref(s->dma.writable);
	if (rc)
		gmem_unref(readable);
	else
		vfu_dma_set(s, readable, writable);
	return rc;
}

static void vfu_dma_unmap_all(struct vfu_session *s)
{
	if (s->dma.mapped_count)
		vfu_dma_set(s, NULL, NULL);
	s->dma.count = s->dma.mapped_count = 0;
}

int vfu_handle_DMA_UNMAP(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	const struct vfu_dma_unmap *req = vfu_msg_bytes(m);
	struct vfu_dma *d = &s->dma;
	struct vfu_map *map;
	int rc = 0;

	m->reply_bytes = sizeof(*req);
	if (req->argsz < sizeof(*req))
		return err_set(reterr, -EINVAL, "argsz: expected at least %zu, got %u",
			       sizeof(*req), req->argsz);
	if (req->flags & ~VFU_UNMAP_ALL)
		return err_set(reterr, -EINVAL, "flags: expected 0 or %u, got 0x%x", VFU_UNMAP_ALL,
			       req->flags);
	if (req->flags & VFU_UNMAP_ALL) {
		if (req->iova || req->size)
			return err_set(reterr, -EINVAL, "all: expected address and size 0");
		vfu_dma_unmap_all(s);
		return 0;
	}
	map = vfu_dma_exact(d, req->iova, req->size);
	if (!map)
		return err_set(reterr, -ENOENT, "no map at 0x%llx with size 0x%llx", (ull)req->iova,
			       (ull)req->size);
	if (map->mapped)
		rc = vfu_dma_unuse(s, map, reterr);
	if (rc)
		return rc;
	d->mapped_count -= map->mapped;
	d->count--;
	memmove(map, map + 1, (size_t)(&d->maps[d->count] - map) * sizeof(*map));
	return 0;
}

/* ---- hand-over ---- */

#define VFU_DMA_TAG	"maps"
#define VFU_DMA_VERSION 1

int vfu_dma_pack(const struct vfu_dma *d, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc;

	parcel_section_begin(p, &s, VFU_DMA_TAG, VFU_DMA_VERSION);
	parcel_put_u32(p, d->count);
	for (uint32_t i = 0; i < d->count; i++) {
		parcel_put_u64(p, d->maps[i].iova);
		parcel_put_u64(p, d->maps[i].size);
		parcel_put_u32(p, d->maps[i].flags);
		parcel_put_u32(p, d->maps[i].mapped);
	}
	rc = gmem_pack(d->readable, p, reterr);
	if (rc == 0)
		rc = gmem_pack(d->writable, p, reterr);
	parcel_section_done(p, &s);
	return rc;
}

/* By address, none over another. */
static bool vfu_dma_list_unpack(struct vfu_dma *d, struct parcel *p)
{
	uint32_t count = parcel_take_count(p, VFU_MAPS_MAX);
	uint64_t least = 0, end;

	for (; d->count < count; d->count++) {
		struct vfu_map *map = &d->maps[d->count];

		map->iova = parcel_take_u64(p);
		map->size = parcel_take_u64(p);
		map->flags = parcel_take_u32(p);
		map->mapped = parcel_take_bool(p);
		if (p->failed || map->iova < least || !map->size ||
		    !num_add(map->iova, map->size, &end) ||
		    !(map->flags & (VFU_MAP_READ | VFU_MAP_WRITE)))
			return false;
		least = end;
		d->mapped_count += map->mapped;
	}
	return true;
}

/* Has map just those of the list that are mapped, or of these that may be written? */
static bool vfu_dma_agrees(const struct vfu_dma *d, const struct gmem *map, bool writable)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->count; i++) {
		const struct vfu_map *m = &d->maps[i];

		if (!m->mapped || (writable && !(m->flags & VFU_MAP_WRITE)))
			continue;
		if (!map || n == map->count || map->regions[n].gpa != m->iova ||
		    map->regions[n].uva != m->iova || map->regions[n].size_bytes != m->size)
			return false;
		n++;
	}
	return n == (map ? map->count : 0);
}

int vfu_dma_unpack(struct vfu_dma *d, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, VFU_DMA_TAG, VFU_DMA_VERSION, reterr);

	if (rc == 0 && !vfu_dma_list_unpack(d, p))
		rc = err_set(reterr, -EPROTO, "map %u: 0x%llx size 0x%llx cannot be", d->count,
			     (ull)d->maps[d->count].iova, (ull)d->maps[d->count].size);
	if (rc == 0)
		rc = gmem_unpack(p, &d->readable, reterr);
	if (rc == 0)
		rc = gmem_unpack(p, &d->writable, reterr);
	if (rc == 0 &&
	    (!vfu_dma_agrees(d, d->readable, false) || !vfu_dma_agrees(d, d->writable, true)))
		rc = err_set(reterr, -EPROTO, "maps: not those that are in the list");
	return rc < 0 ? rc : parcel_section_end(p, &s, VFU_DMA_TAG, reterr);
}
