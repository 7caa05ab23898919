/* See sgvu_dev.h. Layouts and numbers: virtio 1.3, 5.6.6. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drv.h"
#include "sgvu_dev.h"

#define QUEUE_CONTROL	0
#define QUEUE_REQUEST	2
#define QUEUE_COUNT	3
#define QUEUE_SIZE	128
#define REGION_BYTES	(SGVU_DATA_BYTES_MAX + (1u << 20))
#define PIECES_MAX	(QUEUE_SIZE - 2) /* the request and its answer take one each */
#define ATTENTIONS_MAX	16
#define TIMEOUT_MS_MAX	60000
#define TUR_BYTES	6
#define LOGICAL_BUS	1 /* first byte of virtio-scsi's only form of address */
#define FLAT_ADDRESSING 0x40

/* In the kernel's scsi/sg.h, not in the C library's. */
enum {
	DRIVER_SENSE = 0x08,
	RESET_TARGET = 4,
	RESET_NO_ESCALATE = 0x100,
};

struct __attribute__((packed)) scsi_request {
	uint8_t lun[8];
	uint64_t tag;
	uint8_t task_attr, prio, crn;
	uint8_t cdb[32];
};

struct __attribute__((packed)) scsi_answer {
	uint32_t sense_len;
	uint32_t resid_bytes;
	uint16_t status_qualifier;
	uint8_t status, response;
	uint8_t sense[96];
};

struct __attribute__((packed)) tmf_request {
	uint32_t type, subtype;
	uint8_t lun[8];
	uint64_t tag;
};

enum {
	TMF_I_T_NEXUS_RESET = 4,
	TMF_LOGICAL_UNIT_RESET = 5,
	TMF_COMPLETE = 0,
	TMF_SUCCEEDED = 10,
};

enum {
	RESPONSE_OVERRUN = 1,
};

/* The host byte that Linux's virtio_scsi makes of the response (include/scsi/scsi_status.h). */
enum {
	HOST_OK = 0x00,
	HOST_NO_CONNECT = 0x01,
	HOST_BUS_BUSY = 0x02,
	HOST_TIME_OUT = 0x03,
	HOST_BAD_TARGET = 0x04,
	HOST_ABORT = 0x05,
	HOST_ERROR = 0x07,
	HOST_RESET = 0x08,
	HOST_TRANSPORT_DISRUPTED = 0x0e,
	HOST_TARGET_FAILURE = 0x10,
	HOST_NEXUS_FAILURE = 0x11,
};

/* By response: OK OVERRUN ABORTED BAD_TARGET RESET BUSY TRANSPORT TARGET NEXUS FAILURE. */
static const uint8_t host_bytes[] = {
	HOST_OK,
	HOST_ERROR,
	HOST_ABORT,
	HOST_BAD_TARGET,
	HOST_RESET,
	HOST_BUS_BUSY,
	HOST_TRANSPORT_DISRUPTED,
	HOST_TARGET_FAILURE,
	HOST_NEXUS_FAILURE,
	HOST_ERROR,
};

/* A connection: an I_T nexus. */
struct link {
	struct link *next;
	char path[256];
	struct fe fe;
	struct drv control, request;
	uint64_t tag;
	uint64_t request_gpa, answer_gpa, data_gpa;
	struct scsi_request *req;
	struct scsi_answer *ans;
	uint8_t *bytes; /* at data_gpa */
	FILE *trace;
	bool lost; /* no answer once: nothing more is sent */
};

struct sgvu_dev {
	struct link *link;
	uint8_t lun[8];
};

static struct link *links;

static int link_up(struct link *link)
{
	struct fe_up_opts o = {
		.features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL,
		.proto = SPEC_PF_MQ | SPEC_PF_REPLY_ACK | SPEC_PF_CONFIG,
		.packed = sgvu_options()->packed,
		.queues = QUEUE_COUNT,
		.queue_size = QUEUE_SIZE,
		.region_bytes = REGION_BYTES,
	};
	struct fe *fe = &link->fe;
	int rc;

	fe_init(fe);
	rc = fe_connect(fe, link->path);
	if (!rc)
		rc = fe_up(fe, &o);
	if (!rc && o.packed && !(fe->features & SPEC_F_RING_PACKED))
		rc = -ENOTSUP;
	if (!rc)
		rc = drv_init(&link->control, fe, QUEUE_CONTROL);
	if (!rc)
		rc = drv_init(&link->request, fe, QUEUE_REQUEST);
	if (rc)
		return rc;
	link->request_gpa = fe_alloc(fe, -1, sizeof(*link->req), 64);
	link->answer_gpa = fe_alloc(fe, -1, sizeof(*link->ans), 64);
	link->data_gpa = fe_alloc(fe, -1, SGVU_DATA_BYTES_MAX, 4096);
	link->req = fe_host(fe, link->request_gpa, sizeof(*link->req));
	link->ans = fe_host(fe, link->answer_gpa, sizeof(*link->ans));
	link->bytes = fe_host(fe, link->data_gpa, SGVU_DATA_BYTES_MAX);
	return link->req && link->ans && link->bytes ? 0 : -ENOMEM;
}

/* The connection to that socket, made when it is the first use. NULL with errno set. */
static struct link *link_get(const char *path)
{
	const char *trace = sgvu_options()->trace_path;
	struct link *link;
	int rc = 0;

	for (link = links; link; link = link->next)
		if (!strcmp(link->path, path))
			return link;
	link = calloc(1, sizeof(*link));
	if (!link)
		return NULL;
	snprintf(link->path, sizeof(link->path), "%s", path);
	if (trace) {
		link->trace = fopen(trace, "ae");
		rc = link->trace ? 0 : -errno;
	}
	if (!rc)
		rc = link_up(link);
	if (rc) {
		fprintf(stderr, "sgvu: %s: %s %s\n", path, strerror(-rc), link->fe.why);
		free(link);
		errno = -rc;
		return NULL;
	}
	link->next = links;
	links = link;
	return link;
}

/* "SOCKET,TARGET,LUN"; the path of the socket is cut off in place. */
static int parse_place(struct sgvu_dev *dev, char *place)
{
	unsigned target, lun;
	char *comma = strchr(place, ',');
	char end;

	if (!comma || sscanf(comma, ",%u,%u%c", &target, &lun, &end) != 2 || target > 255 ||
	    lun > 16383)
		return -EINVAL;
	*comma = '\0';
	dev->lun[0] = LOGICAL_BUS;
	dev->lun[1] = (uint8_t)target;
	dev->lun[2] = lun < 256 ? 0 : (uint8_t)(FLAT_ADDRESSING | lun >> 8);
	dev->lun[3] = (uint8_t)lun;
	return 0;
}

/* The kernel's scan eats what a new connection has to tell; programs do not expect it. */
static void eat_attentions(struct sgvu_dev *dev)
{
	for (int i = 0; i < ATTENTIONS_MAX; i++) {
		uint8_t cdb[TUR_BYTES] = { 0 }, sense[32] = { 0 };
		struct sg_io_hdr hdr = { .interface_id = 'S',
					 .dxfer_direction = SG_DXFER_NONE,
					 .cmd_len = sizeof(cdb),
					 .cmdp = cdb,
					 .mx_sb_len = sizeof(sense),
					 .sbp = sense };
		uint8_t key;

		if (sgvu_dev_command(dev, &hdr) || !hdr.sb_len_wr)
			return;
		/* 70h and 71h are the fixed formats, 72h and 73h have the key in byte 1. */
		key = (sense[0] & 0x7e) == 0x70 ? sense[2] : sense[1];
		if ((key & 0x0f) != 6)
			return;
	}
}

struct sgvu_dev *sgvu_dev_new(const char *place)
{
	struct sgvu_dev *dev = calloc(1, sizeof(*dev));
	char path[sizeof(links->path)];

	if (!dev)
		return NULL;
	if (snprintf(path, sizeof(path), "%s", place) >= (int)sizeof(path) ||
	    parse_place(dev, path)) {
		fprintf(stderr, "sgvu: %s: expected SOCKET,TARGET,LUN\n", place);
		errno = EINVAL;
	} else {
		dev->link = link_get(path);
	}
	if (!dev->link) {
		free(dev);
		return NULL;
	}
	if (!sgvu_options()->keep_attentions)
		eat_attentions(dev);
	return dev;
}

static void trace_command(struct sgvu_dev *dev, const struct sg_io_hdr *hdr)
{
	const struct link *link = dev->link;
	const uint8_t *s = link->ans->sense;
	bool fixed = (s[0] & 0x7e) == 0x70;

	if (!link->trace)
		return;
	fprintf(link->trace, "%u.%u", dev->lun[1], (dev->lun[2] & 0x3f) << 8 | dev->lun[3]);
	for (unsigned i = 0; i < hdr->cmd_len; i++)
		fprintf(link->trace, "%c%02x", i ? ' ' : '\t', hdr->cmdp[i]);
	fprintf(link->trace, "\t%u bytes, resid %d, host %u, status %02x", hdr->dxfer_len,
		hdr->resid, hdr->host_status, hdr->status);
	if (link->ans->sense_len)
		fprintf(link->trace, ", sense %x/%02x/%02x", fixed ? s[2] & 0x0f : s[1] & 0x0f,
			fixed ? s[12] : s[2], fixed ? s[13] : s[3]);
	fprintf(link->trace, "\n");
	fflush(link->trace);
}

/* One chain through a queue: 0 once it has been used, -errno when that does not come. */
static int exchange(struct link *link, struct drv *q, const struct drv_buf *bufs, unsigned count,
		    unsigned timeout_ms)
{
	struct drv_used used;
	int rc;

	if (link->lost)
		return -ENODEV;
	link->fe.timeout_ms =
		timeout_ms && timeout_ms < TIMEOUT_MS_MAX ? (int)timeout_ms : TIMEOUT_MS_MAX;
	rc = drv_add(q, bufs, count, link);
	if (rc >= 0)
		rc = drv_publish(q);
	if (rc >= 0)
		rc = drv_used_wait(q, &used);
	if (rc > 0)
		return 0;
	fprintf(stderr, "sgvu: no answer: %s %s\n", strerror(-rc), q->why);
	link->lost = true;
	return rc;
}

static unsigned add_data(struct link *link, struct drv_buf *bufs, unsigned count, uint32_t bytes,
			 bool device_writes)
{
	uint32_t piece = sgvu_options()->segment_bytes;

	if (!piece)
		piece = bytes;
	if (bytes / PIECES_MAX >= piece)
		piece = bytes / PIECES_MAX + 1;
	for (uint32_t at = 0; at < bytes; at += piece)
		bufs[count++] =
			(struct drv_buf){ link->data_gpa + at,
					  bytes - at < piece ? bytes - at : piece, device_writes };
	return count;
}

/* Between the program's buffers, one or many, and the device's. */
static void copy_data(struct link *link, struct sg_io_hdr *hdr, uint32_t bytes, bool to_device)
{
	sg_iovec_t one = { hdr->dxferp, bytes };
	const sg_iovec_t *iov = hdr->iovec_count ? hdr->dxferp : &one;
	unsigned count = hdr->iovec_count ? hdr->iovec_count : 1;

	for (uint32_t at = 0, i = 0; i < count && at < bytes; i++) {
		uint32_t n = iov[i].iov_len < bytes - at ? (uint32_t)iov[i].iov_len : bytes - at;

		if (to_device)
			memcpy(link->bytes + at, iov[i].iov_base, n);
		else
			memcpy(iov[i].iov_base, link->bytes + at, n);
		at += n;
	}
}

static void take_answer(struct link *link, struct sg_io_hdr *hdr, uint32_t bytes)
{
	const struct scsi_answer *ans = link->ans;
	uint32_t len = ans->sense_len;

	hdr->host_status =
		ans->response < sizeof(host_bytes) ? host_bytes[ans->response] : HOST_ERROR;
	hdr->resid = (int)(ans->resid_bytes < bytes ? ans->resid_bytes : bytes);
	if (ans->response)
		return;
	hdr->status = ans->status;
	hdr->masked_status = (ans->status >> 1) & 0x1f;
	if (len > sizeof(ans->sense))
		len = sizeof(ans->sense);
	if (len > hdr->mx_sb_len)
		len = hdr->mx_sb_len;
	if (len) {
		memcpy(hdr->sbp, ans->sense, len);
		hdr->sb_len_wr = (unsigned char)len;
		hdr->driver_status = DRIVER_SENSE;
	}
}

int sgvu_dev_command(struct sgvu_dev *dev, struct sg_io_hdr *hdr)
{
	struct link *link = dev->link;
	bool none = hdr->dxfer_direction == SG_DXFER_NONE;
	bool out = hdr->dxfer_direction == SG_DXFER_TO_DEV;
	uint32_t bytes = none ? 0 : hdr->dxfer_len;
	struct drv_buf bufs[QUEUE_SIZE];
	unsigned count = 0;
	int rc;

	if (hdr->cmd_len > sizeof(link->req->cdb) || bytes > SGVU_DATA_BYTES_MAX) {
		errno = bytes > SGVU_DATA_BYTES_MAX ? ENOMEM : EMSGSIZE;
		return -1;
	}
	memset(link->req, 0, sizeof(*link->req));
	memcpy(link->req->lun, dev->lun, sizeof(dev->lun));
	link->req->tag = ++link->tag;
	memcpy(link->req->cdb, hdr->cmdp, hdr->cmd_len);
	memset(link->ans, 0xff, sizeof(*link->ans));
	link->ans->sense_len = 0;
	if (out)
		copy_data(link, hdr, bytes, true);
	else
		memset(link->bytes, 0, bytes);
	bufs[count++] = (struct drv_buf){ link->request_gpa, sizeof(*link->req), false };
	if (out)
		count = add_data(link, bufs, count, bytes, false);
	bufs[count++] = (struct drv_buf){ link->answer_gpa, sizeof(*link->ans), true };
	if (!out)
		count = add_data(link, bufs, count, bytes, true);
	rc = exchange(link, &link->request, bufs, count, hdr->timeout);
	hdr->status = hdr->masked_status = hdr->msg_status = hdr->sb_len_wr = 0;
	hdr->driver_status = hdr->host_status = 0;
	hdr->resid = 0;
	hdr->duration = 0;
	if (rc)
		hdr->host_status = rc == -ETIMEDOUT ? HOST_TIME_OUT : HOST_NO_CONNECT;
	else
		take_answer(link, hdr, bytes);
	if (!out && !rc)
		copy_data(link, hdr, bytes, false);
	hdr->info = hdr->status || hdr->host_status ? SG_INFO_CHECK : SG_INFO_OK;
	if (!rc && link->ans->response == RESPONSE_OVERRUN)
		hdr->info |= SGVU_INFO_OVERRUN;
	trace_command(dev, hdr);
	return 0;
}

int sgvu_dev_reset(struct sgvu_dev *dev, int what)
{
	struct tmf_request tmf = { .type = 0, .subtype = TMF_LOGICAL_UNIT_RESET };
	struct link *link = dev->link;
	uint8_t *response = link->bytes + sizeof(tmf);
	struct drv_buf bufs[] = { { link->data_gpa, sizeof(tmf), false },
				  { link->data_gpa + sizeof(tmf), 1, true } };

	switch (what & ~RESET_NO_ESCALATE) {
	case SG_SCSI_RESET_NOTHING:
		return 0;
	case SG_SCSI_RESET_DEVICE:
		break;
	case RESET_TARGET:
	case SG_SCSI_RESET_BUS:
	case SG_SCSI_RESET_HOST:
		tmf.subtype = TMF_I_T_NEXUS_RESET;
		break;
	default:
		errno = EINVAL;
		return -1;
	}
	memcpy(tmf.lun, dev->lun, sizeof(dev->lun));
	memcpy(link->bytes, &tmf, sizeof(tmf));
	*response = 0xff;
	if (!exchange(link, &link->control, bufs, 2, TIMEOUT_MS_MAX) &&
	    (*response == TMF_COMPLETE || *response == TMF_SUCCEEDED))
		return 0;
	fprintf(stderr, "sgvu: reset: response %u\n", *response);
	errno = EIO;
	return -1;
}
