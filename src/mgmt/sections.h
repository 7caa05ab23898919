/*
 * Sections of the configuration: what recreates the present state, as calls. One walk writes them
 * as JSON (framework_get_config) or as the text of a file (--state), a call a line.
 *
 * The text of an object is kept with it, so that a change costs the text of one object, not of all:
 * an object whose calls change drops it (section_drop). Debug builds make each text again, and
 * compare. What vanishes by itself, as a target whose bdev was deleted, is in parts: a text is
 * good for as many parts as it was made of.
 *
 * Thread: main.
 */
#ifndef MGMT_SECTIONS_H
#define MGMT_SECTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Kept with an object; zeroed: there is none yet. */
struct section_text {
	char *text;
	size_t bytes;
	uint32_t parts;
};

struct section_out {
	json_t *calls; /* to append them to; NULL: text, to the file */
	FILE *to;
	bool (*skip)(const char *method, const json_t *params); /* is it left out of the file? */
	bool failed; /* no memory: the file is not whole */
	/* private: */
	bool any;
};

/* Appends an object's calls. */
typedef void section_write_fn(json_t *calls, const void *obj);

/* keep: NULL: the text is not kept. */
void section_object(struct section_out *out, struct section_text *keep, uint32_t parts,
		    section_write_fn *write, const void *obj);
/* One call into a file. */
void section_call(struct section_out *out, const json_t *call);
/* The object's calls have changed, or it goes. */
void section_drop(struct section_text *keep);

/* The sections' walks (rpc_section.write), each defined with its methods. */
void m_bdev_write(struct section_out *out);
void m_device_write(struct section_out *out);
/* For m_device_write. */
void m_device_disk_write(struct section_out *out);
void m_nvme_write(struct section_out *out);
void m_nvmf_write(struct section_out *out);
void m_vfu_write(struct section_out *out);
void m_vhost_blk_write(struct section_out *out);
void m_vhost_scsi_write(struct section_out *out);

#endif
