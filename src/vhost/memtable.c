/*
 * Guest memory: the whole table (SET_MEM_TABLE) or one region more or less. A table is swapped
 * while all rings stand still. ADD_MEM_REG gives running rings the larger map by message.
 * Source: vhost-user, "Memory regions description", VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS.
 */
#include <errno.h>

#include "vhost/memtable.h"
#include "vhost/session.h"

static struct gmem_region_desc memtable_desc(const struct msg_region *r)
{
	return (struct gmem_region_desc){ .gpa = r->gpa,
					  .size_bytes = r->size_bytes,
					  .uva = r->uva,
					  .mmap_offset_bytes = r->mmap_offset };
}

/* Takes the reference. A ring that could not start for want of memory gets another chance. */
static void memtable_set(struct session *s, struct gmem *map)
{
	gmem_unref(s->map);
	s->map = map;
	for (uint32_t i = 0; i < s->ring_count; i++) {
		if (s->rings[i].v.state == VRING_STOPPED)
			s->rings[i].v.failed = false;
	}
}

int memtable_parse(const struct msg *m, struct gmem **ret_map, struct err *reterr)
{
	struct gmem_region_desc descs[MSG_REGIONS_MAX];
	const struct msg_mem_table *t = &m->mem_table;
	size_t need;

	if (t->count == 0 || t->count > MSG_REGIONS_MAX)
		return err_set(reterr, -EINVAL, "regions: expected 1..%u, got %u", MSG_REGIONS_MAX,
			       t->count);
	need = 8 + t->count * sizeof(struct msg_region);
	/* User Mode Linux always sends two regions' worth of bytes: unused whole ones are fine. */
	if (m->hdr.size < need || (m->hdr.size - need) % sizeof(struct msg_region) ||
	    m->fd_count != t->count)
		return err_set(reterr, -EINVAL,
			       "%u regions: expected %zu bytes and %u descriptors, got %u and %u",
			       t->count, need, t->count, m->hdr.size, m->fd_count);
	for (uint32_t i = 0; i < t->count; i++)
		descs[i] = memtable_desc(&t->regions[i]);
	return gmem_new(descs, m->fds, t->count, ret_map, reterr);
}

int session_handle_SET_MEM_TABLE(struct session *s, struct msg *m, struct err *reterr)
{
	struct gmem *map;
	int rc = memtable_parse(m, &map, reterr);

	if (rc)
		return rc;
	memtable_set(s, map);
	return 0;
}

int session_handle_GET_MAX_MEM_SLOTS(struct session *s, struct msg *m, struct err *reterr)
{
	m->u64 = GMEM_REGIONS_MAX;
	m->hdr.size = sizeof(m->u64);
	return 0;
}

int session_handle_ADD_MEM_REG(struct session *s, struct msg *m, struct err *reterr)
{
	struct gmem_region_desc desc = memtable_desc(&m->mem_reg.region);
	struct gmem *map;
	int rc;

	if (s->map)
		rc = gmem_new_with(s->map, &desc, m->fds[0], &map, reterr);
	else
		rc = gmem_new(&desc, m->fds, 1, &map, reterr);
	if (rc)
		return rc;
	/* The mappings of the old map live on in the new one; chains in flight need no more. */
	memtable_set(s, map);
	for (uint32_t i = 0; i < s->ring_count; i++) {
		if (s->rings[i].v.state == VRING_STOPPED)
			continue;
		s->pending++;
		vring_map_set(&s->rings[i].v, map);
	}
	return 0;
}

/* A descriptor that comes along is not needed; it is closed with the message. */
int session_handle_REM_MEM_REG(struct session *s, struct msg *m, struct err *reterr)
{
	struct gmem_region_desc desc = memtable_desc(&m->mem_reg.region);
	struct gmem *map;
	int rc;

	if (!s->map)
		return err_set(reterr, -ENOENT, "there are no regions");
	rc = gmem_new_without(s->map, &desc, &map, reterr);
	if (rc)
		return rc;
	memtable_set(s, map);
	return 0;
}
