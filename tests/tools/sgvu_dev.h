/*
 * One logical unit behind a vhost-user-scsi socket, as the sg driver would show it.
 *
 * Devices on one socket share a connection: they are what one initiator sees. Commands go one at a
 * time through one request queue; whatever the server answers becomes what Linux's virtio_scsi
 * driver would make of it.
 */
#ifndef TESTS_TOOLS_SGVU_DEV_H
#define TESTS_TOOLS_SGVU_DEV_H

#include <scsi/sg.h>
#include <stdbool.h>

#define SGVU_DATA_BYTES_MAX (256u << 20)
#define SGVU_INFO_OVERRUN   0x100 /* in the header's info: the response was OVERRUN */

struct sgvu_dev;

struct sgvu_options {
	bool packed;
	bool keep_attentions;	/* leave the unit attentions of a new connection to the program */
	unsigned segment_bytes; /* data in descriptors of at most this size; 0: in one */
	const char *trace_path; /* each command and its end, appended; NULL: none */
};

/* The process's own, from the environment: see sgvu.c. */
const struct sgvu_options *sgvu_options(void);

/* Connects if need be. place: "SOCKET,TARGET,LUN". NULL with errno set, and a line on stderr that
 * says why. */
struct sgvu_dev *sgvu_dev_new(const char *place);

/* The two ioctls of an sg node that reach the device: 0, or -1 with errno set. */
int sgvu_dev_command(struct sgvu_dev *dev, struct sg_io_hdr *hdr);
int sgvu_dev_reset(struct sgvu_dev *dev, int what); /* SG_SCSI_RESET_... */

#endif
