#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/gmem.h"
#include "guest/gmem_impl.h"

#define ull unsigned long long

/* Room for count regions and the zero-size one that ends the array. */
static struct gmem *gmem_alloc(uint32_t count)
{
	struct gmem *map = calloc(1, sizeof(*map) + (count + 1) * sizeof(map->regions[0]));

	if (map)
		map->refs = 1;
	return map;
}

static bool gmem_ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

static int gmem_desc_check(const struct gmem *map, const struct gmem_region_desc *d,
			   struct err *reterr)
{
	uint64_t end;

	if (!d->size_bytes)
		return err_set(reterr, -EINVAL, "size: expected at least 1, got 0");
	if (!num_add(d->gpa, d->size_bytes, &end))
		return err_set(reterr, -EINVAL, "guest address 0x%llx + size 0x%llx wraps",
			       (ull)d->gpa, (ull)d->size_bytes);
	if (!num_add(d->uva, d->size_bytes, &end))
		return err_set(reterr, -EINVAL, "user address 0x%llx + size 0x%llx wraps",
			       (ull)d->uva, (ull)d->size_bytes);
	for (uint32_t i = 0; i < map->count; i++) {
		const struct gmem_region *r = &map->regions[i];

		if (gmem_ranges_overlap(d->gpa, d->size_bytes, r->gpa, r->size_bytes))
			return err_set(
				reterr, -EINVAL,
				"guest address 0x%llx size 0x%llx overlaps 0x%llx size 0x%llx",
				(ull)d->gpa, (ull)d->size_bytes, (ull)r->gpa, (ull)r->size_bytes);
		if (gmem_ranges_overlap(d->uva, d->size_bytes, r->uva, r->size_bytes))
			return err_set(
				reterr, -EINVAL,
				"user address 0x%llx size 0x%llx overlaps 0x%llx size 0x%llx",
				(ull)d->uva, (ull)d->size_bytes, (ull)r->uva, (ull)r->size_bytes);
	}
	return 0;
}

/* Maps one region into its sorted place; map has room for it. */
static int gmem_insert(struct gmem *map, const struct gmem_region_desc *d, int fd,
		       struct err *reterr)
{
	struct gmem_region r = { .gpa = d->gpa, .size_bytes = d->size_bytes, .uva = d->uva };
	uint32_t i = map->count;
	int rc = gmem_desc_check(map, d, reterr);

	if (!rc)
		rc = gmem_mapping_get(fd, d->mmap_offset_bytes, d->size_bytes, &r.mapping, &r.base,
				      reterr);
	if (rc)
		return rc;
	for (; i && map->regions[i - 1].gpa > r.gpa; i--)
		map->regions[i] = map->regions[i - 1];
	map->regions[i] = r;
	map->count++;
	return 0;
}

static int gmem_count_check(uint32_t count, struct err *reterr)
{
	if (count <= GMEM_REGIONS_MAX)
		return 0;
	return err_set(reterr, -EINVAL, "memory regions: expected at most %d, got %u",
		       GMEM_REGIONS_MAX, count);
}

int gmem_new(const struct gmem_region_desc *descs, const int *fds, uint32_t count,
	     struct gmem **ret_map, struct err *reterr)
{
	struct gmem *map;
	int rc = gmem_count_check(count, reterr);

	if (rc)
		return rc;
	map = gmem_alloc(count);
	if (!map)
		return err_set(reterr, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < count; i++) {
		rc = gmem_insert(map, &descs[i], fds[i], reterr);
		if (rc) {
			gmem_unref(map);
			return err_prefix(reterr, rc, "memory region %u", i);
		}
	}
	*ret_map = map;
	return 0;
}

/* A copy of old, less the region at skip (old->count: none), with room for one more. */
static struct gmem *gmem_copy(const struct gmem *old, uint32_t skip)
{
	struct gmem *map = gmem_alloc(old->count + 1);

	for (uint32_t i = 0; map && i < old->count; i++) {
		if (i == skip)
			continue;
		map->regions[map->count++] = old->regions[i];
		gmem_mapping_ref(old->regions[i].mapping);
	}
	return map;
}

int gmem_new_with(const struct gmem *old, const struct gmem_region_desc *desc, int fd,
		  struct gmem **ret_map, struct err *reterr)
{
	struct gmem *map;
	int rc = gmem_count_check(old->count + 1, reterr);

	if (rc)
		return rc;
	map = gmem_copy(old, old->count);
	if (!map)
		return err_set(reterr, -ENOMEM, "out of memory");
	rc = gmem_insert(map, desc, fd, reterr);
	if (rc) {
		gmem_unref(map);
		return err_prefix(reterr, rc, "memory region");
	}
	*ret_map = map;
	return 0;
}

int gmem_new_without(const struct gmem *old, const struct gmem_region_desc *desc,
		     struct gmem **ret_map, struct err *reterr)
{
	for (uint32_t i = 0; i < old->count; i++) {
		const struct gmem_region *r = &old->regions[i];
		struct gmem *map;

		if (r->gpa != desc->gpa || r->uva != desc->uva || r->size_bytes != desc->size_bytes)
			continue;
		map = gmem_copy(old, i);
		if (!map)
			return err_set(reterr, -ENOMEM, "out of memory");
		*ret_map = map;
		return 0;
	}
	return err_set(reterr, -ENOENT,
		       "memory region: none at guest 0x%llx user 0x%llx size 0x%llx",
		       (ull)desc->gpa, (ull)desc->uva, (ull)desc->size_bytes);
}

#define GMEM_TAG     "gmem"
#define GMEM_VERSION 1

int gmem_pack(const struct gmem *map, struct parcel *p, struct err *reterr)
{
	const uint32_t count = map ? map->count : 0;
	struct parcel_section s;
	int rc = 0;

	parcel_section_begin(p, &s, GMEM_TAG, GMEM_VERSION);
	parcel_put_u32(p, map != NULL);
	parcel_put_u32(p, count);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		const struct gmem_region *r = &map->regions[i];

		parcel_put_u64(p, r->gpa);
		parcel_put_u64(p, r->uva);
		rc = gmem_mapping_pack(r->mapping, r->base, r->size_bytes, p, reterr);
	}
	parcel_section_done(p, &s);
	return rc;
}

static int gmem_region_unpack(struct parcel *p, struct gmem *map, struct err *reterr)
{
	struct gmem_region_desc desc = { .gpa = parcel_take_u64(p), .uva = parcel_take_u64(p) };
	int fd = parcel_take_fd(p), rc;

	desc.mmap_offset_bytes = parcel_take_u64(p);
	desc.size_bytes = parcel_take_u64(p);
	if (p->failed) {
		rc = err_set(reterr, -EPROTO, "it is cut off");
	} else {
		rc = gmem_insert(map, &desc, fd, reterr);
	}
	if (fd >= 0)
		close(fd); /* the mapping has a duplicate */
	return rc < 0 ? err_prefix(reterr, rc, "memory region %u", map->count) : 0;
}

int gmem_unpack(struct parcel *p, struct gmem **ret_map, struct err *reterr)
{
	struct parcel_section s;
	struct gmem *map = NULL;
	uint32_t count;
	int rc = parcel_section_enter(p, &s, GMEM_TAG, GMEM_VERSION, reterr);

	if (rc < 0)
		return rc;
	if (parcel_take_bool(p) && !(map = gmem_alloc(GMEM_REGIONS_MAX)))
		return err_set(reterr, -ENOMEM, "out of memory");
	count = parcel_take_count(p, map ? GMEM_REGIONS_MAX : 0);
	for (uint32_t i = 0; i < count && rc == 0; i++)
		rc = gmem_region_unpack(p, map, reterr);
	if (rc == 0)
		rc = parcel_section_end(p, &s, GMEM_TAG, reterr);
	if (rc < 0)
		gmem_unref(map);
	else
		*ret_map = map;
	return rc;
}

struct gmem *gmem_ref(struct gmem *map)
{
	__atomic_add_fetch(&map->refs, 1, __ATOMIC_RELAXED);
	return map;
}

void gmem_unref(struct gmem *map)
{
	if (!map || __atomic_sub_fetch(&map->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (uint32_t i = 0; i < map->count; i++)
		gmem_mapping_unref(map->regions[i].mapping);
	free(map);
}

bool gmem_lost(const struct gmem *map)
{
	for (uint32_t i = 0; i < map->count; i++) {
		if (__atomic_load_n(&map->regions[i].mapping->lost, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}

uint32_t gmem_regions(const struct gmem *map, struct iovec *ret_iov, uint32_t max)
{
	uint32_t count = MIN(map->count, max);

	for (uint32_t i = 0; i < count; i++) {
		ret_iov[i].iov_base = map->regions[i].base;
		ret_iov[i].iov_len = map->regions[i].size_bytes;
	}
	return count;
}

const struct gmem_region *gmem_region_find(const struct gmem *map, struct gpa addr)
{
	uint32_t lo = 0, hi = map->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct gmem_region *r = &map->regions[mid];

		if (addr.v < r->gpa)
			hi = mid;
		else if (addr.v - r->gpa < r->size_bytes)
			return r;
		else
			lo = mid + 1;
	}
	return NULL;
}

static const struct gmem_region *gmem_uva_find(const struct gmem *map, struct uva addr,
					       uint64_t len_bytes)
{
	for (uint32_t i = 0; len_bytes && i < map->count; i++) {
		const struct gmem_region *r = &map->regions[i];

		if (num_range_ok(addr.v - r->uva, len_bytes, r->size_bytes))
			return r;
	}
	return NULL;
}

void *gmem_uva_to_host(const struct gmem *map, struct uva addr, uint64_t len_bytes)
{
	const struct gmem_region *r = gmem_uva_find(map, addr, len_bytes);

	return r ? r->base + (addr.v - r->uva) : NULL;
}

bool gmem_uva_to_gpa(const struct gmem *map, struct uva addr, uint64_t len_bytes,
		     struct gpa *ret_gpa)
{
	const struct gmem_region *r = gmem_uva_find(map, addr, len_bytes);

	if (r)
		*ret_gpa = gpa(r->gpa + (addr.v - r->uva));
	return r;
}

void *gmem_gpa_to_host(const struct gmem *map, struct gpa addr, uint64_t len_bytes)
{
	const struct gmem_region *r = gmem_region_find(map, addr);

	if (!r || !len_bytes || !num_range_ok(addr.v - r->gpa, len_bytes, r->size_bytes))
		return NULL;
	return r->base + (addr.v - r->gpa);
}

bool gmem_host_to_gpa(const struct gmem *map, const void *p, struct gpa *ret_gpa)
{
	for (uint32_t i = 0; i < map->count; i++) {
		const struct gmem_region *r = &map->regions[i];
		uint64_t off = (uintptr_t)p - (uintptr_t)r->base;

		if (off < r->size_bytes) {
			*ret_gpa = gpa(r->gpa + off);
			return true;
		}
	}
	return false;
}

uint32_t gmem_translate_slow(const struct gmem *map, struct gpa addr, uint64_t len_bytes,
			     struct iovec *ret_iov, uint32_t max, uint32_t *hint)
{
	const struct gmem_region *r = gmem_region_find(map, addr);
	uint32_t n = 0;

	while (r && len_bytes) {
		uint64_t off = addr.v - r->gpa;
		uint64_t part = MIN(len_bytes, r->size_bytes - off);
		struct iovec *last = n ? &ret_iov[n - 1] : NULL;

		if (last && (char *)last->iov_base + last->iov_len == r->base + off) {
			last->iov_len += part;
		} else {
			if (n == max)
				return 0;
			ret_iov[n].iov_base = r->base + off;
			ret_iov[n++].iov_len = part;
		}
		*hint = r - map->regions;
		len_bytes -= part;
		addr.v += part;
		/* The terminating region has size 0: it holds no address. */
		r++;
		if (addr.v - r->gpa >= r->size_bytes)
			r = NULL;
	}
	return len_bytes ? 0 : n;
}
