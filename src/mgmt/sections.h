/*
 * Writers of configuration sections (rpc_section.write), each defined with its methods. Only
 * sections.c includes this, and the files of the writers.
 */
#ifndef MGMT_SECTIONS_H
#define MGMT_SECTIONS_H

#include <jansson.h>

void m_bdev_write(json_t *calls);

#endif
