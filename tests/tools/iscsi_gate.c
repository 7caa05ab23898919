/*
 * iscsi-gate: an iSCSI target (RFC 7143) in front of vhost-user-scsi sockets.
 *
 *	iscsi-gate TARGET LUN INITIATOR=SOCKET...
 *
 * Listens on a port of 127.0.0.1 and prints it. Each session gets a connection of its own to the
 * socket that its initiator name stands for, so an iSCSI I_T nexus is one of the server's: it
 * begins at login and is lost when the session ends. With this, libiscsi's suite runs those of its
 * SCSI tests that want two initiators, lost sessions and resets, which SG_IO cannot give it.
 *
 * As little of iSCSI as the suite needs: one target that has one logical unit, no authentication,
 * no digests, one command at a time, one session an initiator (a new one ends that before it).
 * A process a session; the peers are trusted. SGVU_TRACE is as in sgvu.c.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sgvu_dev.h"

#define HEADER_BYTES   48
#define SEGMENT_BYTES  (256u << 10) /* MaxRecvDataSegmentLength, and all bursts */
#define TRANSFER_BYTES SGVU_DATA_BYTES_MAX
#define NO_TAG	       UINT32_MAX
#define WINDOW	       64 /* commands that the initiator may have under way */

/* Opcodes: RFC 7143, 11.2.1.2. */
enum {
	NOP_OUT = 0x00,
	COMMAND = 0x01,
	TASK_MANAGEMENT = 0x02,
	LOGIN = 0x03,
	DATA_OUT = 0x05,
	LOGOUT = 0x06,
	NOP_IN = 0x20,
	RESPONSE = 0x21,
	TASK_MANAGEMENT_RESPONSE = 0x22,
	LOGIN_RESPONSE = 0x23,
	DATA_IN = 0x25,
	LOGOUT_RESPONSE = 0x26,
	READY_TO_TRANSFER = 0x31,
	REJECT = 0x3f,
	OPCODE_MASK = 0x3f,
	IMMEDIATE = 0x40,
	FINAL = 0x80,
};

struct pdu {
	struct pdu *next;
	uint8_t head[HEADER_BYTES];
	uint32_t bytes;
	uint8_t data[];
};

struct session {
	int sock;
	const char *place[2]; /* target and LUN, as the command line has them */
	char **initiators;    /* "NAME=SOCKET", NULL at the end */
	pid_t *owners;	      /* shared: the process of each initiator's session, 0: none */
	pid_t *owner;	      /* ours */
	struct sgvu_dev *dev;
	uint32_t stat_sn, command_sn;
	uint32_t segment_bytes; /* what the initiator takes in one PDU */
	struct pdu *later;	/* came while a command's data was waited for */
	uint8_t *data;
};

const struct sgvu_options *sgvu_options(void)
{
	/* Unit attentions are the initiator's affair here. */
	static struct sgvu_options options = { .keep_attentions = true };

	options.trace_path = getenv("SGVU_TRACE");
	return &options;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

/* A lost session ends its process; the connection to the server goes with it. */
static void end_session(struct session *s)
{
	if (s->owner && *s->owner == getpid())
		*s->owner = 0;
	_exit(0);
}

static void receive(struct session *s, void *to, size_t bytes)
{
	if (bytes && recv(s->sock, to, bytes, MSG_WAITALL) != (ssize_t)bytes)
		end_session(s);
}

static void transmit(struct session *s, const void *from, size_t bytes)
{
	while (bytes) {
		ssize_t n = send(s->sock, from, bytes, MSG_NOSIGNAL);

		if (n <= 0)
			end_session(s);
		from = (const uint8_t *)from + n;
		bytes -= (size_t)n;
	}
}

static struct pdu *pdu_receive(struct session *s)
{
	uint8_t head[HEADER_BYTES], skipped[4 * UINT8_MAX];
	struct pdu *pdu;
	uint32_t bytes;

	receive(s, head, sizeof(head));
	bytes = get32(head + 4) & 0xffffff;
	receive(s, skipped, head[4] * 4u); /* additional header segments */
	if (bytes > SEGMENT_BYTES)
		end_session(s);
	pdu = malloc(sizeof(*pdu) + bytes + 4);
	if (!pdu)
		end_session(s);
	memcpy(pdu->head, head, sizeof(head));
	pdu->next = NULL;
	pdu->bytes = bytes;
	receive(s, pdu->data, (bytes + 3) & ~3u);
	pdu->data[bytes] = '\0';
	return pdu;
}

static struct pdu *pdu_next(struct session *s)
{
	struct pdu *pdu = s->later;

	if (!pdu)
		return pdu_receive(s);
	s->later = pdu->next;
	return pdu;
}

/* Fills in lengths and sequence numbers; head has the rest. */
static void pdu_send(struct session *s, uint8_t *head, const void *data, uint32_t bytes)
{
	static const uint8_t padding[4];

	put32(head + 4, bytes);
	if ((head[0] & OPCODE_MASK) != DATA_IN)
		put32(head + 24, s->stat_sn);
	put32(head + 28, s->command_sn);
	put32(head + 32, s->command_sn + WINDOW - 1);
	transmit(s, head, HEADER_BYTES);
	transmit(s, data, bytes);
	transmit(s, padding, -bytes & 3);
}

/* An answer's first fields: opcode, the final bit, and what names the request. */
static void head_init(uint8_t *head, uint8_t opcode, const uint8_t *request)
{
	memset(head, 0, HEADER_BYTES);
	head[0] = opcode;
	head[1] = FINAL;
	memcpy(head + 16, request + 16, 4);
}

/* ---- login (RFC 7143, 6 and 13) ---- */

/* What we want of each key; the initiator's word is taken for those that are not here. */
static const char *const wishes[][2] = {
	{ "AuthMethod", "None" },	{ "HeaderDigest", "None" },
	{ "DataDigest", "None" },	{ "InitialR2T", "Yes" },
	{ "ImmediateData", "Yes" },	{ "MaxRecvDataSegmentLength", "262144" },
	{ "MaxBurstLength", "262144" }, { "FirstBurstLength", "262144" },
	{ "MaxConnections", "1" },	{ "MaxOutstandingR2T", "1" },
	{ "ErrorRecoveryLevel", "0" },	{ "IFMarker", "No" },
	{ "OFMarker", "No" },
};

static void open_device(struct session *s, const char *initiator)
{
	size_t length = strlen(initiator);
	char place[256];

	for (char **i = s->initiators; *i && !s->owner; i++) {
		if (strncmp(*i, initiator, length) || (*i)[length] != '=')
			continue;
		snprintf(place, sizeof(place), "%s,%s,%s", *i + length + 1, s->place[0],
			 s->place[1]);
		s->owner = &s->owners[i - s->initiators];
		if (*s->owner)
			kill(*s->owner, SIGKILL);
		*s->owner = getpid();
		s->dev = sgvu_dev_new(place);
	}
	if (!s->dev) {
		fprintf(stderr, "iscsi-gate: no device for initiator %s\n", initiator);
		end_session(s);
	}
}

/* Keys that only tell something have no answer. */
static const char *answer_key(struct session *s, const char *key, const char *value)
{
	static const char *const told[] = { "InitiatorName", "InitiatorAlias", "TargetName",
					    "SessionType" };

	if (!strcmp(key, "InitiatorName"))
		open_device(s, value);
	if (!strcmp(key, "MaxRecvDataSegmentLength"))
		s->segment_bytes = (uint32_t)strtoul(value, NULL, 10);
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		if (!strcmp(key, told[i]))
			return NULL;
	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++)
		if (!strcmp(key, wishes[i][0]))
			return wishes[i][1];
	return value;
}

/* Text is KEY=VALUE, each with a zero byte at its end: that of ret_text has at most size bytes. */
static uint32_t answer_text(struct session *s, struct pdu *request, char *ret_text, size_t size)
{
	uint32_t used = 0;

	for (uint32_t at = 0; at < request->bytes;) {
		char *key = (char *)request->data + at, *value = strchr(key, '=');
		const char *answer;

		at += (uint32_t)strlen(key) + 1;
		if (!value)
			continue;
		*value++ = '\0';
		answer = answer_key(s, key, value);
		if (!answer || strlen(key) + strlen(answer) + 2 > size - used)
			continue;
		used += (uint32_t)snprintf(ret_text + used, size - used, "%s=%s", key, answer) + 1;
	}
	return used;
}

static void login(struct session *s, struct pdu *request)
{
	uint8_t head[HEADER_BYTES];
	char text[2048];
	uint32_t bytes = answer_text(s, request, text, sizeof(text));

	head_init(head, LOGIN_RESPONSE, request->head);
	head[1] = request->head[1]; /* to the stage that was asked for */
	memcpy(head + 8, request->head + 8, 6);
	/* The handle of the session is ours to give once we are through (RFC 7143, 11.13.3). */
	head[15] = (request->head[1] & 0x83) == 0x83;
	s->command_sn = get32(request->head + 24);
	pdu_send(s, head, text, bytes);
	s->stat_sn++;
}

/* ---- commands ---- */

/* Asks for the bytes of a command's data-out that did not come with it. */
static void collect_out(struct session *s, const struct pdu *request, uint32_t bytes)
{
	uint32_t have = request->bytes < bytes ? request->bytes : bytes, sequence = 0;
	struct pdu **last = &s->later;

	memcpy(s->data, request->data, have);
	while (*last)
		last = &(*last)->next;
	while (have < bytes) {
		uint32_t end = bytes - have < SEGMENT_BYTES ? bytes : have + SEGMENT_BYTES;
		uint8_t head[HEADER_BYTES];

		head_init(head, READY_TO_TRANSFER, request->head);
		memcpy(head + 8, request->head + 8, 8);
		put32(head + 20, sequence); /* target transfer tag */
		put32(head + 36, sequence++);
		put32(head + 40, have);
		put32(head + 44, end - have);
		pdu_send(s, head, NULL, 0);
		while (have < end) {
			struct pdu *pdu = pdu_receive(s);

			if ((pdu->head[0] & OPCODE_MASK) != DATA_OUT) {
				*last = pdu;
				last = &pdu->next;
				continue;
			}
			if (pdu->bytes > end - have)
				end_session(s);
			memcpy(s->data + have, pdu->data, pdu->bytes);
			have += pdu->bytes;
			free(pdu);
		}
	}
}

static void send_in(struct session *s, const struct pdu *request, uint32_t bytes)
{
	for (uint32_t at = 0, sequence = 0; at < bytes; sequence++) {
		uint32_t n = bytes - at < s->segment_bytes ? bytes - at : s->segment_bytes;
		uint8_t head[HEADER_BYTES];

		head_init(head, DATA_IN, request->head);
		head[1] = at + n == bytes ? FINAL : 0;
		put32(head + 20, NO_TAG);
		put32(head + 36, sequence);
		put32(head + 40, at);
		pdu_send(s, head, s->data + at, n);
		at += n;
	}
}

/* Less data than the CDB tells: INVALID FIELD IN COMMAND INFORMATION UNIT (SPC-5, annex F). */
static void say_overrun(struct sg_io_hdr *hdr)
{
	static const uint8_t sense[18] = { 0x70, [2] = 0x05, [7] = 10, [12] = 0x0e, [13] = 0x03 };

	memcpy(hdr->sbp, sense, sizeof(sense));
	hdr->sb_len_wr = sizeof(sense);
	hdr->status = 2; /* CHECK CONDITION */
	hdr->host_status = 0;
}

static void command(struct session *s, struct pdu *request)
{
	bool out = request->head[1] & 0x20, in = request->head[1] & 0x40;
	uint32_t bytes = in || out ? get32(request->head + 20) : 0, sense_bytes;
	uint8_t sense[2 + UINT8_MAX] = { 0 }, head[HEADER_BYTES];
	struct sg_io_hdr hdr = { .interface_id = 'S',
				 .dxfer_direction = out	 ? SG_DXFER_TO_DEV
						    : in ? SG_DXFER_FROM_DEV
							 : SG_DXFER_NONE,
				 .cmd_len = 16,
				 .cmdp = request->head + 32,
				 .dxfer_len = bytes,
				 .dxferp = s->data,
				 .mx_sb_len = 252,
				 .sbp = sense + 2 };

	if (bytes > TRANSFER_BYTES)
		end_session(s);
	if (out)
		collect_out(s, request, bytes);
	if (sgvu_dev_command(s->dev, &hdr))
		end_session(s);
	if (hdr.info & SGVU_INFO_OVERRUN)
		say_overrun(&hdr);
	if (in)
		send_in(s, request, bytes - (uint32_t)hdr.resid);
	head_init(head, RESPONSE, request->head);
	head[2] = hdr.host_status ? 1 : 0; /* 1: target failure */
	head[3] = hdr.status;
	if (hdr.resid) {
		head[1] |= 0x02; /* underflow */
		put32(head + 44, (uint32_t)hdr.resid);
	}
	sense_bytes = hdr.sb_len_wr;
	sense[1] = (uint8_t)sense_bytes;
	pdu_send(s, head, sense, sense_bytes ? sense_bytes + 2 : 0);
	s->stat_sn++;
}

/* ---- the rest ---- */

static void task_management(struct session *s, const struct pdu *request)
{
	uint8_t function = request->head[1] & 0x7f, head[HEADER_BYTES];
	bool reset = function >= 5 && function <= 7; /* logical unit, target warm and cold */

	/* Commands are done one at a time: nothing is left that could be aborted. */
	head_init(head, TASK_MANAGEMENT_RESPONSE, request->head);
	if (reset && sgvu_dev_reset(s->dev, SG_SCSI_RESET_DEVICE))
		head[2] = 255; /* function rejected */
	pdu_send(s, head, NULL, 0);
	s->stat_sn++;
}

static void answer(struct session *s, const struct pdu *request, uint8_t opcode)
{
	uint8_t head[HEADER_BYTES];

	if (opcode == NOP_IN && get32(request->head + 16) == NO_TAG)
		return; /* it wants no answer */
	head_init(head, opcode, request->head);
	if (opcode == NOP_IN)
		put32(head + 20, NO_TAG);
	pdu_send(s, head, request->data, opcode == NOP_IN ? request->bytes : 0);
	s->stat_sn++;
}

static void serve(struct session *s)
{
	for (;;) {
		struct pdu *request = pdu_next(s);
		uint8_t opcode = request->head[0] & OPCODE_MASK;

		if (opcode != LOGIN && !s->dev)
			end_session(s);
		if (opcode != LOGIN && !(request->head[0] & IMMEDIATE))
			s->command_sn = get32(request->head + 24) + 1;
		switch (opcode) {
		case LOGIN:
			login(s, request);
			break;
		case COMMAND:
			command(s, request);
			break;
		case TASK_MANAGEMENT:
			task_management(s, request);
			break;
		case NOP_OUT:
			answer(s, request, NOP_IN);
			break;
		case LOGOUT:
			answer(s, request, LOGOUT_RESPONSE);
			end_session(s);
			break;
		default:
			answer(s, request, REJECT);
		}
		free(request);
	}
}

static int listen_on_any_port(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || bind(sock, (struct sockaddr *)&at, size) || listen(sock, 16) ||
	    getsockname(sock, (struct sockaddr *)&at, &size)) {
		perror("iscsi-gate");
		return -1;
	}
	printf("%u\n", ntohs(at.sin_port));
	fflush(stdout);
	return sock;
}

int main(int argc, char **argv)
{
	struct session s = { .segment_bytes = 8192 };
	int sock, on = 1;

	if (argc < 4) {
		fprintf(stderr, "usage: iscsi-gate TARGET LUN INITIATOR=SOCKET...\n");
		return 2;
	}
	s.place[0] = argv[1];
	s.place[1] = argv[2];
	s.initiators = argv + 3;
	s.owners = mmap(NULL, (size_t)argc * sizeof(*s.owners), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s.owners == MAP_FAILED)
		return 1;
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sock = listen_on_any_port();
	while (sock >= 0) {
		s.sock = accept4(sock, NULL, NULL, SOCK_CLOEXEC);
		if (s.sock < 0)
			return 1;
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			setsockopt(s.sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
			s.data = malloc(TRANSFER_BYTES);
			if (s.data)
				serve(&s);
			_exit(1);
		}
		close(s.sock);
	}
	return 1;
}
