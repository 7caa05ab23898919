/*
 * What survives a restart: a small text file, written as a whole.
 *
 *   HEAD       what kind of file, and its version
 *   ...        the owner's lines
 *   end
 *
 * It is written under another name and renamed when it is on disk, so there is always the old one
 * or the new one. Reading is strict: a file that is not as we wrote it is an error that names the
 * line, since to start without something that should be there would lose data.
 *
 * An owner whose content tells by itself where it ends (JSON) has no HEAD: then the file is the
 * owner's text and nothing else, and the owner reads it.
 *
 * The same text can be made and read in memory (statefile_text, statefile_read): what one process
 * hands another.
 *
 * A disk that is full must be found before a change, not after it: the owner may keep a spare,
 * which is the file of the other name with room for the next content, and write only what fits.
 *
 * Writers of one file may run on several job threads. Each has the number of its content, taken
 * together with the content; one that comes after a newer content is on disk has nothing to do.
 */
#ifndef LOOP_STATEFILE_H
#define LOOP_STATEFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "loop/job.h"
#include "loop/loop.h"

#define STATEFILE_BYTES_MAX (8u << 20)

struct statefile {
	const char *path, *head; /* the owner's; there until every save has ended; head: or NULL */
	/* private: */
	uint64_t seq;	/* number of the last content; under whatever protects that */
	uint64_t saved; /* of the one on disk; under a lock of statefile.c */
};

struct statefile_save {
	/* ok: this content, or a newer one, is on disk. Thread: the loop that was given. */
	void (*done)(struct statefile_save *s, bool ok);
	/* In: room to be kept afterwards, 0: none. In done: the room there is, else 0. */
	size_t spare_bytes;
	int error; /* in done: positive errno of what failed last, the spare included; 0: nothing */
	size_t text_bytes; /* in done: of the content */
	/* private: */
	struct job job;
	struct loop_msg msg;
	struct statefile *file;
	uint64_t seq;
	char *text;
	bool spare_only, ok;
};

/*
 * Saves what write(arg, to) prints: the owner's lines, each with its newline. write is called
 * before this returns, s->done later, on loop; s and file are there until then. Who changes the
 * content on several threads calls this under the lock of it. Thread: any.
 */
void statefile_save(struct statefile *file, struct statefile_save *s, struct loop *loop,
		    void (*write)(void *arg, FILE *to), void *arg);
/*
 * Makes the spare of s->spare_bytes, and looks whether the file could be replaced now; done's ok:
 * both. Else as statefile_save.
 */
void statefile_spare(struct statefile *file, struct statefile_save *s, struct loop *loop);
/* Removes the spare; no save is under way. Thread: main. */
void statefile_spare_remove(const struct statefile *file);
/*
 * Gives each line of the owner's to take(arg, line), without its newline, in the order of the file;
 * take returns NULL, or why the line is wrong. No file is no line. Errors, named with file, line
 * and value: -EINVAL, -EFBIG, -EIO, open's. Thread: main, since it waits for storage.
 */
int statefile_load(const struct statefile *file, const char *(*take)(void *arg, char *line),
		   void *arg, struct err *reterr);

/*
 * The whole text in memory, malloc'ed, the caller's; path is not looked at. NULL: no memory. write
 * as above. Thread: any.
 */
char *statefile_text(const struct statefile *file, void (*write)(void *arg, FILE *to), void *arg,
		     size_t *ret_bytes);
/* Reads such a text, which need not be one of ours; name is for messages. Errors: as
 * statefile_load's. Thread: any. */
int statefile_read(const char *name, const char *head, const char *text, size_t len_bytes,
		   const char *(*take)(void *arg, char *line), void *arg, struct err *reterr);

#endif
