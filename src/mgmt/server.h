/*
 * The management sockets: who may connect, and as what.
 *
 *   --rpc-socket           everything (admin)
 *   --rpc-readonly-socket  methods that change nothing (RPC_READS)
 *   --rpc-spdk-socket      /var/tmp/spdk.sock, where SPDK's clients look; admin
 *
 * A client is accepted when its process runs as root, as our own user, as the owner or with the
 * group given to the socket, or as one that --rpc-allow-uid and --rpc-allow-gid name, whatever the
 * permissions of the file.
 * The first two may be inherited instead (socket activation: LISTEN_FDNAMES has "rpc" and
 * "rpc-read-only"): their files are somebody else's, with their permissions.
 * --socket-dir is where the methods make the sockets of devices.
 * Without --rpc-socket the default path is tried, and not missed when it cannot be made, unless
 * an option tells how it is to be, or --wait-for-rpc needs it.
 * Thread: main.
 */
#ifndef MGMT_SERVER_H
#define MGMT_SERVER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/opts.h"

struct loop;

#define SERVER_FOLDER_DEFAULT "/var/run/vhostd" /* made when it is not there */
#define SERVER_SOCKET_DEFAULT SERVER_FOLDER_DEFAULT "/rpc.sock"
#define SERVER_DIR_DEFAULT    SERVER_FOLDER_DEFAULT
#define SERVER_SOCKET_SPDK    "/var/tmp/spdk.sock"
#define SERVER_CLIENTS_MAX    64 /* of one socket at a time; others wait in the backlog */

struct parcel;

struct server_options {
	char *socket, *mode, *owner, *group;
	char *readonly_socket, *readonly_mode;
	char *allow_uids, *allow_gids;
	char *socket_dir;
	bool spdk_socket, no_rpc, wait_for_rpc;
	/* not of the table: inherited listening sockets; 0: none */
	int socket_fd, readonly_fd;
};

/* The rows are command-line options: "rpc-socket" is --rpc-socket. */
extern const struct opts_table server_options_table;

/* What no single option can tell: modes, names of users and groups. -EINVAL, named. */
int server_options_check(const struct server_options *options, struct err *reterr);
/* Was a socket asked for, other than by default? */
bool server_wanted(const struct server_options *options);

/*
 * Creates the sockets. try_default: the default socket, when none is named. Errors are those of
 * endpoint_start for a socket that was asked for; nothing is left behind then.
 */
int server_start(const struct server_options *options, bool try_default, struct loop *main_loop,
		 struct err *reterr);

/*
 * Hand-over: true: nobody new is let in; false: goes on. Clients that are there stay, and end with
 * the process.
 */
void server_freeze(bool frozen);
/* The sockets, frozen. */
int server_pack(struct parcel *p, struct err *reterr);
/* In the successor, in place of server_start: the sockets in p are taken over, frozen. Its errors.
 */
int server_unpack(const struct server_options *options, bool try_default, struct loop *main_loop,
		  struct parcel *p, struct err *reterr);
/* Ends clients and removes sockets; stopped(arg) once, later. Also when it was not started. */
void server_stop(struct loop *main_loop, void (*stopped)(void *arg), void *arg);
/* Removes the socket files at once: the process is about to end. */
void server_unlink(void);

#endif
