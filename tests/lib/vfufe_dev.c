/* What a monitor does with a device behind vfio-user; see vfufe.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfufe.h"

#define REGION_BYTES (16u << 20)
#define DOORBELLS    0x1000u

int vfe_init(struct vfe *v)
{
	memset(v, 0, sizeof(*v));
	fe_init(&v->fe);
	v->intx_fd = -1;
	for (unsigned i = 0; i < VFE_VECTORS_MAX; i++)
		v->vector_fd[i] = -1;
	v->buf = malloc(VFE_PAYLOAD_MAX);
	return v->buf ? 0 : -ENOMEM;
}

static void bar_unmap(struct vfe *v)
{
	if (v->bar_map)
		munmap(v->bar_map, v->bar_map_bytes);
	v->bar_map = NULL;
}

void vfe_hangup(struct vfe *v)
{
	fe_hangup(&v->fe);
	bar_unmap(v);
}

void vfe_fini(struct vfe *v)
{
	vfe_hangup(v);
	fe_fini(&v->fe);
	free(v->buf);
	v->buf = NULL;
	if (v->intx_fd >= 0)
		close(v->intx_fd);
	v->intx_fd = -1;
	for (unsigned i = 0; i < VFE_VECTORS_MAX; i++) {
		if (v->vector_fd[i] >= 0)
			close(v->vector_fd[i]);
		v->vector_fd[i] = -1;
	}
}

static int bell_open(int *fd)
{
	if (*fd < 0)
		*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : 0;
}

/* In parts of as many descriptors as one message may have. */
int vfe_vectors_set(struct vfe *v, unsigned count)
{
	const unsigned part_max = 8;
	int rc = 0;

	if (count > VFE_VECTORS_MAX)
		return -EINVAL;
	if (!count)
		rc = vfe_set_irqs(v, VFE_DATA_NONE | VFE_TRIGGER, VFE_IRQ_MSIX, 0, 0, NULL, NULL,
				  0);
	for (unsigned at = 0; !rc && at < count;) {
		unsigned part = count - at < part_max ? count - at : part_max;

		for (unsigned i = 0; !rc && i < part; i++)
			rc = bell_open(&v->vector_fd[at + i]);
		if (!rc)
			rc = vfe_set_irqs(v, VFE_DATA_EVENTFD | VFE_TRIGGER, VFE_IRQ_MSIX, at, part,
					  NULL, &v->vector_fd[at], part);
		at += part;
	}
	v->vectors = rc ? 0 : count;
	return rc;
}

int vfe_intx_set(struct vfe *v)
{
	int rc = bell_open(&v->intx_fd);

	return rc ? rc
		  : vfe_set_irqs(v, VFE_DATA_EVENTFD | VFE_TRIGGER, VFE_IRQ_INTX, 0, 1, NULL,
				 &v->intx_fd, 1);
}

int vfe_bar_map(struct vfe *v, uint32_t index)
{
	struct vfe_region_info info;
	uint64_t area[2];
	void *map;
	int fd, rc = vfe_get_region_info(v, index, &info, area, &fd);

	if (rc)
		return rc;
	if (fd < 0)
		return -ENOENT;
	map = mmap(NULL, area[1], PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)(info.offset + area[0]));
	close(fd);
	if (map == MAP_FAILED)
		return -errno;
	bar_unmap(v);
	v->bar_map = map;
	v->bar_map_offset = area[0];
	v->bar_map_bytes = area[1];
	return 0;
}

static int memory_up(struct vfe *v, const struct vfe_up_opts *o)
{
	int rc = 0;

	if (!v->fe.region_count) {
		rc = fe_mem_new(&v->fe, 0, 0, o->region_bytes ? o->region_bytes : REGION_BYTES);
		if (rc < 0)
			return rc;
		/* Address 0 is how fe_alloc says that there is no room. */
		fe_alloc(&v->fe, 0, 4096, 4096);
		rc = 0;
	}
	for (unsigned i = 0; !rc && i < v->fe.region_count; i++)
		rc = vfe_region_map(v, i, 3, !o->no_fd);
	return rc;
}

static int regions_up(struct vfe *v)
{
	static const uint32_t asked[] = { 0, 1, 2, 3, 4, 5, 7 };
	uint8_t config[4096];
	uint32_t value;
	int rc = 0;

	for (unsigned i = 0; !rc && i < sizeof(asked) / sizeof(asked[0]); i++) {
		struct vfe_region_info info;
		uint64_t area[2];
		int fd;

		rc = vfe_get_region_info(v, asked[i], &info, area, &fd);
		if (fd >= 0)
			close(fd);
	}
	if (!rc)
		rc = vfe_region_read(v, VFE_REGION_CFG, 0, config, sizeof(config));
	/* A ROM would answer with its size. */
	if (!rc)
		rc = vfe_cfg_write(v, 0x30, 4, 0xfffff800u);
	if (!rc)
		rc = vfe_cfg_read(v, 0x30, 4, &value);
	if (!rc && value)
		rc = -EPROTO;
	return rc;
}

int vfe_up(struct vfe *v, const struct vfe_up_opts *o)
{
	static const char json[] =
		"{\"capabilities\": {\"pgsizes\": 4096, \"max_msg_fds\": 16, "
		"\"max_dma_maps\": 65535, \"max_data_xfer_size\": 1048576, \"migration\": "
		"{\"max_bitmap_size\": 268435456, \"pgsize\": 4096}, \"write_multiple\": true}}";
	struct vfe_irq_info irq = { .count = 0 };
	uint32_t info[4];
	int rc = vfe_version(v, 0, o->no_json ? 1 : 0, o->no_json ? NULL : json);

	if (!rc)
		rc = memory_up(v, o);
	if (!rc)
		rc = vfe_get_info(v, info);
	if (!rc)
		rc = regions_up(v);
	if (!rc)
		rc = vfe_reset(v);
	if (!rc)
		rc = vfe_get_irq_info(v, VFE_IRQ_MSIX, &irq);
	if (!rc)
		rc = vfe_vectors_set(v, o->vectors ? o->vectors : irq.count);
	/* Memory and bus master on, the interrupt pin off. */
	if (!rc)
		rc = vfe_cfg_write(v, 4, 2, 0x0406);
	if (!rc)
		rc = vfe_bar_map(v, 0);
	if (rc == -ENOENT) {
		v->posted = true;
		rc = 0;
	}
	return rc;
}

/* ---- for nvmedrv ---- */

int vfe_reg_read(void *t, uint32_t off, void *buf, uint32_t len)
{
	return vfe_region_read(t, 0, off, buf, len);
}

int vfe_reg_write(void *t, uint32_t off, const void *buf, uint32_t len)
{
	struct vfe *v = t;

	return v->posted ? vfe_region_post(v, 0, off, buf, len)
			 : vfe_region_write(v, 0, off, buf, len);
}

int vfe_doorbell(void *t, uint32_t index, uint32_t value)
{
	struct vfe *v = t;
	uint64_t off = DOORBELLS + 4ull * index;

	if (!v->bar_map || off < v->bar_map_offset ||
	    off - v->bar_map_offset + 4 > v->bar_map_bytes)
		return vfe_reg_write(t, (uint32_t)off, &value, sizeof(value));
	__atomic_store_n((uint32_t *)(v->bar_map + (off - v->bar_map_offset)), value,
			 __ATOMIC_RELEASE);
	return 0;
}

uint64_t vfe_mem_alloc(void *t, uint64_t len, uint64_t align)
{
	return fe_alloc(&((struct vfe *)t)->fe, -1, len, align);
}

void *vfe_mem_host(void *t, uint64_t iova, uint64_t len)
{
	return fe_host(&((struct vfe *)t)->fe, iova, len);
}

int vfe_vector_fd(void *t, unsigned vector)
{
	struct vfe *v = t;

	return vector < v->vectors ? v->vector_fd[vector] : -1;
}
