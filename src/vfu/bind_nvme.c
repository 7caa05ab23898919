/*
 * An NVMe controller as a PCI function: between dev.h (what a session wants) and nvme/ctrl.h.
 * BAR 0 has the registers, and from 1000h on the doorbells: a page that the client may map, or
 * registers like the others. MSI-X is the session's, in BAR 4.
 *
 * The doorbell page is part of a file of BAR 0's size, because clients map a region's areas at the
 * same offsets in its descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "guest/gmem.h"
#include "nvme/ctrl.h"
#include "vfu/dev.h"
#include "vfu/remote.h"
#include "vfu/session.h"
#include "vfu/vfu.h"

#define VNVME_MSIX_BAR	  4
#define VNVME_CLASS	  0x010802u /* mass storage, NVM, NVM Express */
#define VNVME_VECTORS_MAX 128

struct vnvme {
	struct vfu_dev dev;
	struct nvme_ctrl *ctrl;
	int doorbell_fd; /* -1: not mapped */
	void *doorbells; /* one page */
	bool freeing;
};

static struct vnvme *vnvme_of(struct vfu_dev *dev)
{
	return container_of(dev, struct vnvme, dev);
}

/* ---- dev.h ---- */

static void vnvme_bar_read(struct vfu_dev *dev, uint32_t bar, uint32_t off, void *buf,
			   uint32_t len_bytes)
{
	nvme_ctrl_reg_read(vnvme_of(dev)->ctrl, off, buf, len_bytes);
}

static void vnvme_bar_write(struct vfu_dev *dev, uint32_t bar, uint32_t off, const void *buf,
			    uint32_t len_bytes)
{
	nvme_ctrl_reg_write(vnvme_of(dev)->ctrl, off, buf, len_bytes);
}

static void vnvme_vector_fd_set(struct vfu_dev *dev, uint32_t vector, int fd)
{
	nvme_ctrl_vector_fd_set(vnvme_of(dev)->ctrl, vector, fd);
}

static void vnvme_intx_fd_set(struct vfu_dev *dev, int fd)
{
	nvme_ctrl_intx_fd_set(vnvme_of(dev)->ctrl, fd);
}

static void vnvme_msix_enable(struct vfu_dev *dev, bool on)
{
	nvme_ctrl_msix_enable(vnvme_of(dev)->ctrl, on);
}

static void vnvme_intx_unmask(struct vfu_dev *dev)
{
	nvme_ctrl_intx_unmask(vnvme_of(dev)->ctrl);
}

static void vnvme_on_quiet(void *port)
{
	struct vnvme *v = port;

	if (!v->freeing)
		vfu_dev_quiet(&v->dev);
}

static void vnvme_quiesce(struct vfu_dev *dev)
{
	nvme_ctrl_quiesce(vnvme_of(dev)->ctrl, vnvme_on_quiet);
}

static void vnvme_resume(struct vfu_dev *dev)
{
	nvme_ctrl_resume(vnvme_of(dev)->ctrl);
}

static void vnvme_maps_set(struct vfu_dev *dev, struct gmem *readable, struct gmem *writable)
{
	nvme_ctrl_maps_set(vnvme_of(dev)->ctrl, readable, writable);
}

static void vnvme_dirty_set(struct vfu_dev *dev, struct gdirty *dirty)
{
	nvme_ctrl_dirty_set(vnvme_of(dev)->ctrl, dirty);
}

static void vnvme_reset(struct vfu_dev *dev)
{
	nvme_ctrl_reset(vnvme_of(dev)->ctrl);
}

static int vnvme_save(const struct vfu_dev *dev, void **ret_bytes, size_t *ret_len)
{
	return nvme_ctrl_save(container_of(dev, const struct vnvme, dev)->ctrl, ret_bytes, ret_len);
}

static int vnvme_load(struct vfu_dev *dev, const void *bytes, size_t len, struct err *reterr)
{
	struct vnvme *v = vnvme_of(dev);

	if (!nvme_ctrl_is_idle(v->ctrl))
		return err_set(reterr, -EBUSY, "the controller's last reset has not ended");
	return nvme_ctrl_load(v->ctrl, bytes, len, reterr);
}

static bool vnvme_is_settled(const struct vfu_dev *dev)
{
	return nvme_ctrl_is_saveable(container_of(dev, const struct vnvme, dev)->ctrl);
}

/* The page that the client has been writing to. Whoever made it sealed it against being cut. */
static int vnvme_map_set(struct vfu_dev *dev, uint32_t bar, int fd, struct err *reterr)
{
	const int sealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct vnvme *v = vnvme_of(dev);
	struct stat st;
	void *page = MAP_FAILED;

	if (fstat(fd, &st) == 0 && st.st_size == NVME_BAR0_BYTES &&
	    (fcntl(fd, F_GET_SEALS) & sealed) == sealed)
		page = mmap(NULL, NVME_DOORBELLS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			    NVME_REG_DOORBELLS);
	if (page == MAP_FAILED) {
		close(fd);
		return err_set(reterr, -EINVAL, "doorbells: expected a sealed file of %u bytes",
			       NVME_BAR0_BYTES);
	}
	nvme_ctrl_doorbells_set(v->ctrl, page);
	munmap(v->doorbells, NVME_DOORBELLS_BYTES);
	close(v->doorbell_fd);
	v->doorbells = page;
	v->doorbell_fd = dev->pci.bars[0].map_fd = fd;
	return 0;
}

static void vnvme_release(struct vnvme *v)
{
	if (v->doorbells)
		munmap(v->doorbells, NVME_DOORBELLS_BYTES);
	if (v->doorbell_fd >= 0)
		close(v->doorbell_fd);
	free(v);
}

static void vnvme_on_freed(void *port)
{
	struct vnvme *v = port;

	vfu_dev_freed(&v->dev);
	vnvme_release(v);
}

static void vnvme_free(struct vfu_dev *dev)
{
	struct vnvme *v = vnvme_of(dev);

	v->freeing = true;
	nvme_ctrl_free(v->ctrl, vnvme_on_freed);
}

static void vnvme_queues_visit(const struct vfu_dev *dev, const struct queue_visitor *v)
{
	nvme_ctrl_queues_visit(container_of(dev, const struct vnvme, dev)->ctrl, v);
}

static void vnvme_queues_drain(struct vfu_dev *dev, bool drained)
{
	nvme_ctrl_drain(vnvme_of(dev)->ctrl, drained);
}

static int vnvme_queue_move(struct vfu_dev *dev, uint32_t idx, struct loop *loop,
			    struct err *reterr)
{
	return nvme_ctrl_queue_move(vnvme_of(dev)->ctrl, idx, loop, reterr);
}

static const struct vfu_dev_ops vnvme_ops = {
	.type = "nvme",
	.bar_read = vnvme_bar_read,
	.bar_write = vnvme_bar_write,
	.vector_fd_set = vnvme_vector_fd_set,
	.intx_fd_set = vnvme_intx_fd_set,
	.msix_enable = vnvme_msix_enable,
	.intx_unmask = vnvme_intx_unmask,
	.quiesce = vnvme_quiesce,
	.resume = vnvme_resume,
	.maps_set = vnvme_maps_set,
	.dirty_set = vnvme_dirty_set,
	.reset = vnvme_reset,
	.save = vnvme_save,
	.load = vnvme_load,
	.is_settled = vnvme_is_settled,
	.map_set = vnvme_map_set,
	.queues_visit = vnvme_queues_visit,
	.queues_drain = vnvme_queues_drain,
	.queue_move = vnvme_queue_move,
	.free = vnvme_free,
};

/* ---- the controller's port ---- */

static void vnvme_dma(void *port, struct nvme_dma *dma)
{
	struct vnvme *v = port;

	vfu_remote_start(vfu_session_of(&v->dev), dma);
}

static bool vnvme_dma_has(void *port, uint64_t iova, uint64_t len_bytes, bool to_guest)
{
	struct vnvme *v = port;

	return vfu_dma_is_mapped(&vfu_session_of(&v->dev)->dma, iova, len_bytes,
				 to_guest ? VFU_MAP_WRITE : VFU_MAP_READ);
}

static const struct nvme_port_ops vnvme_port_ops = {
	.dma = vnvme_dma,
	.dma_has = vnvme_dma_has,
};

/* ---- making one ---- */

static int vnvme_doorbells_make(struct vnvme *v, struct err *reterr)
{
	struct vfu_bar *bar = &v->dev.pci.bars[0];

	v->doorbell_fd = memfd_create("vfio-user-bar0", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* The client has it too: it could cut it, and our looks would fault. */
	if (v->doorbell_fd < 0 || ftruncate(v->doorbell_fd, NVME_BAR0_BYTES) ||
	    fcntl(v->doorbell_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return err_set(reterr, -errno, "%s: doorbells: %s", v->dev.name, strerror(errno));
	v->doorbells = mmap(NULL, NVME_DOORBELLS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			    v->doorbell_fd, NVME_REG_DOORBELLS);
	if (v->doorbells == MAP_FAILED) {
		v->doorbells = NULL;
		return err_set(reterr, -errno, "%s: doorbells: %s", v->dev.name, strerror(errno));
	}
	bar->map_fd = v->doorbell_fd;
	bar->map_offset = NVME_REG_DOORBELLS;
	bar->map_bytes = NVME_DOORBELLS_BYTES;
	return 0;
}

static void vnvme_describe(struct vnvme *v, const struct vfu_nvme_params *p)
{
	uint32_t vectors =
		MIN(p->vectors ? p->vectors : p->num_queues + 1u, (uint32_t)VNVME_VECTORS_MAX);
	uint16_t vendor = p->pci_vendor ? p->pci_vendor : VFU_NVME_VENDOR;

	v->dev = (struct vfu_dev){ .ops = &vnvme_ops, .name = p->name };
	v->dev.pci = (struct vfu_pci){
		.vendor = vendor,
		.device = p->pci_device ? p->pci_device : VFU_NVME_DEVICE,
		.subsys_vendor = vendor,
		.class_code = VNVME_CLASS,
		.msix_vectors = (uint16_t)vectors,
		.msix_bar = VNVME_MSIX_BAR,
		.bars[0] = { .size_bytes = NVME_BAR0_BYTES, .map_fd = -1 },
	};
}

int vfu_nvme_new(const struct vfu_nvme_params *p, struct vfu_dev **ret_dev, struct err *reterr)
{
	struct vnvme *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return err_set(reterr, -ENOMEM, "%s: no memory", p->name);
	v->doorbell_fd = -1;
	vnvme_describe(v, p);
	rc = p->mapped_doorbells ? vnvme_doorbells_make(v, reterr) : 0;
	if (!rc)
		rc = nvme_ctrl_new(p->subsys,
				   &(struct nvme_ctrl_params){
					   .name = p->name,
					   .profile = NVME_PROFILE_PCI,
					   .num_queues = p->num_queues,
					   .queue_size_max = p->queue_size_max,
					   .vectors = v->dev.pci.msix_vectors,
					   .pci_vendor = v->dev.pci.vendor,
					   .spin_ns = p->spin_ns,
					   .doorbells_polled = p->mapped_doorbells,
					   .doorbells = v->doorbells,
					   .ops = &vnvme_port_ops,
					   .port = v,
					   .main_loop = p->main_loop,
					   .loops = p->loops,
					   .loop_count = p->loop_count,
					   .limits = p->limits,
				   },
				   &v->ctrl, reterr);
	if (rc) {
		vnvme_release(v);
		return rc;
	}
	*ret_dev = &v->dev;
	return 0;
}
