/*
 * SIGHUP: the configuration is read again. Units of running devices come and go as it says, and
 * paths change their access state; whatever else differs is told, and waits for a restart.
 *
 * It goes in three steps, so that a file that is wrong, or an image that cannot be opened, changes
 * nothing: read and check everything; open the units that are new; then take away and show. An
 * image whose unit is still being closed is waited for, and everything read once more.
 */
#ifndef APP_RELOAD_H
#define APP_RELOAD_H

#include <stdbool.h>

#include "app/args.h"

/* running: the configuration that the process was started with. Thread: main. */
void reload_run(const struct app_config *running);
/* A reload that waits for it goes on: see units_on_closed_set. */
void reload_on_unit_closed(void);
/* Does one wait for that? */
bool reload_waits(void);

#endif
