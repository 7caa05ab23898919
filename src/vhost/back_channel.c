#include "vhost/back_channel.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/parcel.h"
#include "vhost/session.h"

#define BACK_CHANNEL_RETRY_NS 50000000ull

static void back_channel_begin(struct back_channel *b, int fd);

static void back_channel_on_stopped(struct loop_watch *w)
{
	struct back_channel *b = container_of(w, struct back_channel, watch);
	int next = b->next_fd;

	b->watching = b->stopping = false;
	close(b->fd);
	b->fd = b->next_fd = -1;
	if (b->stopped) {
		if (next >= 0)
			close(next);
		b->stopped(b);
	} else if (next >= 0) {
		back_channel_begin(b, next);
	}
}

static void back_channel_end(struct back_channel *b)
{
	b->owed = false;
	loop_timer_stop(&b->retry);
	if (b->watching && !b->stopping) {
		b->stopping = true;
		loop_watch_stop(&b->watch, back_channel_on_stopped);
	}
}

/* Reads and drops; at its end the channel goes. */
static void back_channel_on_readable(struct loop_watch *w, uint32_t revents)
{
	struct back_channel *b = container_of(w, struct back_channel, watch);
	char drop[512];
	/* recv takes no descriptors: what comes along is closed by the kernel */
	ssize_t n = recv(b->fd, drop, sizeof(drop), MSG_DONTWAIT);

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	back_channel_end(b);
}

static void back_channel_begin(struct back_channel *b, int fd)
{
	b->fd = fd;
	b->watching = true;
	loop_watch_start(b->loop, &b->watch, fd, POLLIN, back_channel_on_readable);
}

static void back_channel_on_retry(struct loop_timer *t)
{
	struct back_channel *b = container_of(t, struct back_channel, retry);

	if (b->owed)
		back_channel_config_change(b);
}

void back_channel_init(struct back_channel *b, struct loop *loop)
{
	*b = (struct back_channel){ .loop = loop, .fd = -1, .next_fd = -1 };
	loop_timer_init(&b->retry, back_channel_on_retry);
}

void back_channel_config_change(struct back_channel *b)
{
	struct msg_hdr hdr = { .request = MSG_BACKEND_CONFIG_CHANGE, .flags = MSG_VERSION };
	ssize_t n;

	if (b->fd < 0 || b->stopping)
		return;
	/* 12 bytes fit or do not: a stream socket takes so few in one piece. */
	n = send(b->fd, &hdr, sizeof(hdr), MSG_DONTWAIT | MSG_NOSIGNAL);
	b->owed = n < 0 && (errno == EAGAIN || errno == EINTR);
	if (b->owed)
		loop_timer_start(b->loop, &b->retry, loop_now_ns(b->loop) + BACK_CHANNEL_RETRY_NS);
}

void back_channel_set(struct back_channel *b, int fd)
{
	ASSERT(!b->stopped);
	if (b->next_fd >= 0)
		close(b->next_fd);
	b->next_fd = -1;
	if (!b->watching) {
		back_channel_begin(b, fd);
		return;
	}
	b->next_fd = fd;
	back_channel_end(b);
}

void back_channel_pack(const struct back_channel *b, struct parcel *p)
{
	parcel_put_fd(p, b->fd);
	parcel_put_u32(p, b->owed);
}

void back_channel_restore(struct back_channel *b, int fd, bool owed)
{
	if (fd < 0)
		return;
	back_channel_begin(b, fd);
	b->owed = owed;
	if (owed)
		loop_timer_start(b->loop, &b->retry, loop_now_ns(b->loop));
}

void back_channel_stop(struct back_channel *b, void (*stopped)(struct back_channel *b))
{
	b->stopped = stopped;
	back_channel_end(b);
	if (!b->watching)
		stopped(b);
}
