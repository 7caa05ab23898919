/*
 * Identifiers made of text, so that they are the same after a restart and on another machine.
 * Thread: any.
 */
#ifndef NVME_NAMES_H
#define NVME_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#define NVME_UUID_TEXT_BYTES 37 /* with its end */

/* UUID of version 8, "custom" (RFC 9562, 5.8). Bytes in network order. */
void nvme_uuid_make(uint8_t uuid[16], const char *text);
void nvme_uuid_text(const uint8_t uuid[16], char text[NVME_UUID_TEXT_BYTES]);
/* Text as nvme_uuid_text makes it, and no other. */
bool nvme_uuid_read(const char *text, uint8_t ret_uuid[16]);
/* NGUID (base 7.10): bytes 8 to 10 are a locally administered OUI. */
void nvme_nguid_make(uint8_t nguid[16], const char *text);

#endif
