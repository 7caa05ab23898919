/*
 * Text that ends in fields of fixed size, and numbers made of text. Thread: any.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/*
 * Puts printable ASCII left-aligned into a field of size bytes, padded with spaces, without an end
 * of string. Returns -EINVAL, which names key, when a character is something else or they are too
 * many; the field is untouched then.
 */
int text_pad(char *field, size_t size, const char *key, const char *text, struct err *reterr);

/* FNV-1a: the same text gives the same number on every machine. Goes on from hash. */
#define TEXT_HASH_START 0xcbf29ce484222325ull
uint64_t text_hash(uint64_t hash, const char *text);

/* ---- bytes as lower-case hexadecimal digits, for lines of text ---- */

/* -1: it is none. */
int text_hex_digit(char c);
/* len bytes of two digits each; *line is behind them. false: there are fewer. */
bool text_hex_read(const char **line, void *ret_bytes, size_t len);
void text_hex_write(const void *bytes, size_t len, FILE *to);

/* RFC 9562, 4: 8-4-4-4-12 hex digits. */
#define TEXT_UUID_BYTES 37
void text_uuid(const uint8_t uuid[16], char text[TEXT_UUID_BYTES]);

#endif
