/*
 * virtio over PCI: interrupts. With MSI-X a queue or the configuration has a vector; without, all
 * share the pin, and the ISR status tells why (virtio 1.3, 4.1.4.5 and 4.1.5.3).
 *
 * The client may change a descriptor at any time. Who writes to one has a copy: a vring changes
 * its own by a command when it runs, and is marked (call_stale) until vpci_step can do that.
 */
#include "vfu/bind_virtio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int vpci_fd_copy(struct vpci *d, uint16_t vector)
{
	int from = d->intx_fd, fd;

	if (d->msix_on)
		from = vector < d->dev.pci.msix_vectors ? d->vectors[vector] : -1;
	if (from < 0)
		return -1;
	fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		log_limited(&d->limit, LOG_WARNING, "%s: interrupt descriptor: %s", d->dev.name,
			    strerror(errno));
	return fd;
}

int vpci_queue_call(struct vpci *d, const struct vpci_queue *q, uint32_t **ret_isr)
{
	*ret_isr = d->msix_on ? NULL : &d->isr_queues;
	return vpci_fd_copy(d, q->vector);
}

/* ---- the configuration's interrupt ---- */

static void vpci_on_config_swapped(struct notify *n)
{
	struct vpci *d = container_of(n, struct vpci, config_bell);

	d->config_swapping = false;
	vring_fd_set(&d->config_fd, vpci_fd_copy(d, d->config_vector));
	notify_start(n, d->params.main_loop, d->config_fd);
	if (d->freeing)
		vpci_step(d);
	else if (d->config_stale)
		vpci_config_bell_update(d);
}

void vpci_config_bell_update(struct vpci *d)
{
	d->config_stale = d->config_swapping;
	if (d->config_swapping || d->freeing)
		return;
	d->config_swapping = true;
	notify_stop(&d->config_bell, 0, vpci_on_config_swapped);
}

void vpci_config_interrupt(struct vpci *d)
{
	/* 2.1.2: no notification before DRIVER_OK */
	if (!(d->status & VPCI_STATUS_DRIVER_OK))
		return;
	d->isr_config |= !d->msix_on;
	/* What nobody asked to hear is not owed. */
	if (!d->msix_on || d->config_vector != VPCI_NO_VECTOR)
		notify_send(&d->config_bell);
}

uint8_t vpci_isr_take(struct vpci *d)
{
	uint8_t isr = __atomic_exchange_n(&d->isr_queues, 0, __ATOMIC_ACQUIRE) ? 1 : 0;

	if (d->isr_config)
		isr |= 2;
	d->isr_config = false;
	return isr;
}

/* ---- operations of the session ---- */

static void vpci_all_calls_update(struct vpci *d)
{
	for (uint32_t i = 0; i < d->queue_count; i++)
		d->queues[i].call_stale = true;
	vpci_config_bell_update(d);
	vpci_step(d);
}

void vpci_vector_fd_set(struct vfu_dev *dev, uint32_t vector, int fd)
{
	struct vpci *d = vpci_of(dev);

	vring_fd_set(&d->vectors[vector], fd);
	if (!d->msix_on)
		return;
	for (uint32_t i = 0; i < d->queue_count; i++)
		d->queues[i].call_stale |= d->queues[i].vector == vector;
	if (d->config_vector == vector)
		vpci_config_bell_update(d);
	vpci_step(d);
}

void vpci_intx_fd_set(struct vfu_dev *dev, int fd)
{
	struct vpci *d = vpci_of(dev);

	vring_fd_set(&d->intx_fd, fd);
	if (!d->msix_on)
		vpci_all_calls_update(d);
}

void vpci_msix_enable(struct vfu_dev *dev, bool on)
{
	struct vpci *d = vpci_of(dev);

	if (d->msix_on == on)
		return;
	d->msix_on = on;
	vpci_all_calls_update(d);
}

void vpci_intx_unmask(struct vfu_dev *dev)
{
	struct vpci *d = vpci_of(dev);

	if (!d->msix_on && (d->isr_config || __atomic_load_n(&d->isr_queues, __ATOMIC_ACQUIRE)))
		notify_send(&d->config_bell);
}

/* ---- life ---- */

void vpci_irq_init(struct vpci *d)
{
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		d->vectors[i] = -1;
	d->intx_fd = d->config_fd = -1;
	notify_init(&d->config_bell);
}

void vpci_irq_fini(struct vpci *d)
{
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		vring_fd_set(&d->vectors[i], -1);
	vring_fd_set(&d->intx_fd, -1);
	vring_fd_set(&d->config_fd, -1);
}
