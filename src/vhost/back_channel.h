/*
 * The back-end channel: our messages to the front-end (SET_BACKEND_REQ_FD). Only CONFIG_CHANGE so
 * far, sent without need_reply; it is a level, not an event: when the socket is full, one is owed.
 * Whatever the front-end writes on it is read and dropped. Thread: main.
 */
#ifndef VHOST_BACK_CHANNEL_H
#define VHOST_BACK_CHANNEL_H

#include <stdbool.h>

#include "loop/loop.h"

struct parcel;

struct back_channel {
	struct loop *loop;
	int fd; /* owned; -1: none */
	struct loop_watch watch;
	struct loop_timer retry;
	bool watching, stopping, owed;
	int next_fd; /* takes fd's place when the watch has stopped */
	void (*stopped)(struct back_channel *b);
};

void back_channel_init(struct back_channel *b, struct loop *loop);
/* Takes fd over, in place of what was there. */
void back_channel_set(struct back_channel *b, int fd);
/* Hand-over: the descriptor, and whether a message is owed. Not while fd is being exchanged
 * (stopping). */
void back_channel_pack(const struct back_channel *b, struct parcel *p);
/* In the successor: takes fd (-1: none). */
void back_channel_restore(struct back_channel *b, int fd, bool owed);
void back_channel_config_change(struct back_channel *b);
/* stopped(b) comes once, possibly before this returns. */
void back_channel_stop(struct back_channel *b, void (*stopped)(struct back_channel *b));

#endif
