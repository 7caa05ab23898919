/*
 * What the function consists of, and accesses to it by messages: BARs, configuration space, the
 * MSI-X table. Accesses of any length and alignment are cut to aligned ones of 1, 2, 4 or 8 bytes
 * for the device.
 * Source: QEMU docs/interop/vfio-user, "VFIO_USER_DEVICE_GET_INFO" and following.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "vfu/session.h"

#define VFU_INFO_RESET 0x1u
#define VFU_INFO_PCI   0x2u

int vfu_handle_DEVICE_GET_INFO(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	struct vfu_device_info *info = vfu_msg_bytes(m);

	if (info->argsz < sizeof(*info))
		return err_set(reterr, -EINVAL, "argsz: expected at least %zu, got %u",
			       sizeof(*info), info->argsz);
	*info = (struct vfu_device_info){ .argsz = sizeof(*info),
					  .flags = VFU_INFO_RESET | VFU_INFO_PCI,
					  .num_regions = VFU_REGIONS,
					  .num_irqs = VFU_IRQS };
	m->reply_bytes = sizeof(*info);
	return 0;
}

static uint64_t vfu_region_size(const struct vfu_session *s, uint32_t index)
{
	const struct vfu_pci *pci = &s->dev->pci;

	if (index == VFU_REGION_CONFIG)
		return VFU_CONFIG_BYTES;
	if (index >= VFU_BARS)
		return 0;
	return index == pci->msix_bar ? VFU_MSIX_BAR_BYTES : pci->bars[index].size_bytes;
}

/*
 * QEMU asks twice: with room for the plain answer, and again with what argsz then said. The
 * capability, and with it the descriptor, goes only into an answer with room for it.
 */
int vfu_handle_DEVICE_GET_REGION_INFO(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	struct vfu_region_info *info = vfu_msg_bytes(m);
	uint32_t index = info->index, room = info->argsz;
	const struct vfu_bar *bar = index < VFU_BARS ? &s->dev->pci.bars[index] : NULL;
	struct vfu_region_sparse *sparse = (struct vfu_region_sparse *)(info + 1);

	if (room < sizeof(*info))
		return err_set(reterr, -EINVAL, "argsz: expected at least %zu, got %u",
			       sizeof(*info), room);
	if (index >= VFU_REGIONS)
		return err_set(reterr, -EINVAL, "region: expected below %u, got %u", VFU_REGIONS,
			       index);
	*info = (struct vfu_region_info){ .argsz = sizeof(*info),
					  .index = index,
					  .size = vfu_region_size(s, index) };
	m->reply_bytes = sizeof(*info);
	if (info->size)
		info->flags = VFU_REGION_READ | VFU_REGION_WRITE;
	if (!bar || !bar->map_bytes || index == s->dev->pci.msix_bar)
		return 0;
	info->flags |= VFU_REGION_MMAP;
	info->argsz += sizeof(*sparse);
	if (room < info->argsz)
		return 0;
	info->flags |= VFU_REGION_CAPS;
	info->cap_offset = sizeof(*info);
	*sparse = (struct vfu_region_sparse){ .id = 1,
					      .version = 1,
					      .nr_areas = 1,
					      .offset = bar->map_offset,
					      .size = bar->map_bytes };
	m->reply_bytes += sizeof(*sparse);
	m->reply_fd = bar->map_fd;
	return 0;
}

/* Optional, and its answer would have at least one descriptor: there is none. */
int vfu_handle_DEVICE_GET_REGION_IO_FDS(struct vfu_session *s, struct vfu_msg *m,
					struct err *reterr)
{
	return err_set(reterr, -ENOTSUP, "no region has any");
}

/* The next piece of [off, off + len): aligned, at most 8 bytes. */
static uint32_t vfu_region_piece(uint32_t off, uint32_t len)
{
	uint32_t piece = 8;

	while (piece > len || off % piece)
		piece /= 2;
	return piece;
}

static int vfu_region_check(const struct vfu_session *s, uint32_t region, uint64_t offset,
			    uint32_t count, struct err *reterr)
{
	uint64_t size = vfu_region_size(s, region);

	if (count > VFU_XFER_MAX)
		return err_set(reterr, -EINVAL, "count: expected at most %u, got %u", VFU_XFER_MAX,
			       count);
	if (!num_range_ok(offset, count, size))
		return err_set(reterr, -EINVAL, "region %u: 0x%llx + %u passes its %llu bytes",
			       region, (unsigned long long)offset, count, (unsigned long long)size);
	return 0;
}

static void vfu_region_read(struct vfu_session *s, uint32_t region, uint32_t off, uint8_t *dst,
			    uint32_t len)
{
	const struct vfu_pci *pci = &s->dev->pci;

	if (region == VFU_REGION_CONFIG) {
		vfu_config_read(s, off, dst, len);
	} else if (region == pci->msix_bar) {
		vfu_msix_read(&s->pci, pci, off, dst, len);
	} else {
		while (len) {
			uint32_t piece = vfu_region_piece(off, len);

			s->dev->ops->bar_read(s->dev, region, off, dst, piece);
			off += piece;
			dst += piece;
			len -= piece;
		}
	}
}

static void vfu_region_write(struct vfu_session *s, uint32_t region, uint32_t off,
			     const uint8_t *src, uint32_t len)
{
	const struct vfu_pci *pci = &s->dev->pci;

	if (region == VFU_REGION_CONFIG) {
		vfu_config_write(s, off, src, len);
	} else if (region == pci->msix_bar) {
		vfu_msix_write(&s->pci, pci, off, src, len);
	} else {
		while (len) {
			uint32_t piece = vfu_region_piece(off, len);

			s->dev->ops->bar_write(s->dev, region, off, src, piece);
			off += piece;
			src += piece;
			len -= piece;
		}
	}
}

int vfu_handle_REGION_READ(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	const struct vfu_region_io *req = vfu_msg_bytes(m);
	uint32_t count = req->count;
	struct vfu_region_io *io;
	int rc = vfu_region_check(s, req->region, req->offset, count, reterr);

	if (rc)
		return rc;
	if (vfu_msg_reserve(m, sizeof(*io) + count))
		return err_set(reterr, -ENOMEM, "no memory for %u bytes", count);
	io = vfu_msg_bytes(m);
	vfu_region_read(s, io->region, (uint32_t)io->offset, io->bytes, count);
	m->reply_bytes = sizeof(*io) + count;
	return 0;
}

int vfu_handle_REGION_WRITE(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	const struct vfu_region_io *io = vfu_msg_bytes(m);
	int rc = vfu_region_check(s, io->region, io->offset, io->count, reterr);

	if (rc)
		return rc;
	if (m->payload != sizeof(*io) + io->count)
		return err_set(reterr, -EINVAL, "count: expected the %zu bytes that came, got %u",
			       m->payload - sizeof(*io), io->count);
	vfu_region_write(s, io->region, (uint32_t)io->offset, io->bytes, io->count);
	m->reply_bytes = sizeof(*io);
	return 0;
}

/* Writes until one is wrong: the answer says how many. */
int vfu_handle_REGION_WRITE_MULTI(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	struct vfu_write_multi *multi = vfu_msg_bytes(m);
	uint64_t done = 0;

	if (multi->count > VFU_WRITES_MAX ||
	    m->payload != sizeof(*multi) + multi->count * sizeof(multi->writes[0]))
		return err_set(reterr, -EINVAL,
			       "writes: expected at most %u and their bytes, got "
			       "%llu and %u bytes",
			       VFU_WRITES_MAX, (unsigned long long)multi->count, m->payload);
	while (done < multi->count) {
		const struct vfu_write *w = &multi->writes[done];

		if (w->count > sizeof(w->bytes))
			err_set(reterr, -EINVAL, "count: expected at most 8, got %u", w->count);
		if (w->count > sizeof(w->bytes) ||
		    vfu_region_check(s, w->region, w->offset, w->count, reterr))
			break;
		vfu_region_write(s, w->region, (uint32_t)w->offset, w->bytes, w->count);
		done++;
	}
	if (!done && multi->count)
		return reterr->code;
	multi->count = done;
	m->reply_bytes = sizeof(*multi);
	return 0;
}
