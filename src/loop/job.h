/*
 * Job threads: a few threads that may block and own nothing. A job runs fn on one of them and then
 * done on the loop that started it.
 */
#ifndef LOOP_JOB_H
#define LOOP_JOB_H

#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"

struct job {
	void (*fn)(struct job *job);   /* Thread: job */
	void (*done)(struct job *job); /* Thread: the loop that started it */
	/* private: */
	struct fifo_node node;
	struct loop *home;
	struct loop_msg msg;
};

int job_threads_start(uint32_t count, struct err *reterr); /* Thread: main */
void job_threads_stop(void);				   /* waits for those under way */
void job_start(struct job *job);			   /* Thread: a loop */

#endif
