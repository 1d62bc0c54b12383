/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 8
/* After accept failed, for want of descriptors: nobody else is served any slower by it. */
#define ACCEPT_PAUSE_MSEC 200
#define REQUEST_BYTES (sizeof(HvpPluginWireHeader) + PLUGIN_PROTOCOL_MAX_PAYLOAD_BYTES)

typedef struct {
	int fd; /* -1: free */
	uint8_t *request;
	size_t request_bytes; /* arrived so far */
	uint8_t *reply;
	size_t reply_bytes, sent_bytes;
	int64_t moved_msec; /* when it last sent or read something */
} Client;

typedef struct {
	PluginWatch *watch;
	uint32_t api;
	int listener;
	int64_t deaf_until_msec;
	Client clients[PLUGIN_SERVER_MAX_CLIENTS];
} Server;

static int64_t now_msec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether a socket is left at @address by somebody who is gone. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat status;
	bool stale = false;
	int fd;

	if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0) {
		stale = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
			errno == ECONNREFUSED;
		close(fd);
	}
	return stale;
}

/* Bound with no rights for others from the first moment on. */
static bool bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	bool bound = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;

	umask(mask);
	return bound;
}

int plugin_server_listen(const char *path, const char **ret_reason)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	*ret_reason = "the socket's path is empty or too long";
	if (path[0] == 0 || strlen(path) >= sizeof address.sun_path)
		return -1;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		*ret_reason = strerror(errno);
		return -1;
	}
	if (!bind_private(fd, &address) && (errno != EADDRINUSE || !is_stale(&address) ||
					    unlink(path) != 0 || !bind_private(fd, &address))) {
		*ret_reason = strerror(errno);
		close(fd);
		return -1;
	}
	if (listen(fd, BACKLOG) != 0) {
		*ret_reason = strerror(errno);
		close(fd);
		return -1;
	}
	return fd;
}

static void drop(Client *client)
{
	close(client->fd);
	free(client->request);
	free(client->reply);
	*client = (Client){ .fd = -1 };
}

static Client *free_client(Server *server)
{
	for (int i = 0; i < PLUGIN_SERVER_MAX_CLIENTS; i++)
		if (server->clients[i].fd < 0)
			return &server->clients[i];
	return NULL;
}

static void accept_client(Server *server)
{
	Client *client = free_client(server);
	int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			server->deaf_until_msec = now_msec() + ACCEPT_PAUSE_MSEC;
		return;
	}
	if (client == NULL) {
		close(fd);
		return;
	}
	*client = (Client){ .fd = fd,
			    .request = malloc(REQUEST_BYTES),
			    .reply = malloc(PLUGIN_PROTOCOL_MAX_REPLY_BYTES),
			    .moved_msec = now_msec() };
	if (client->request == NULL || client->reply == NULL)
		drop(client);
}

/* Sends what is left of the reply, as far as the client takes it. */
static bool send_reply(Client *client)
{
	while (client->sent_bytes < client->reply_bytes) {
		ssize_t sent = send(client->fd, client->reply + client->sent_bytes,
				    client->reply_bytes - client->sent_bytes, MSG_NOSIGNAL);

		if (sent < 0)
			return errno == EAGAIN || errno == EINTR;
		client->sent_bytes += (size_t)sent;
		client->moved_msec = now_msec();
	}
	client->reply_bytes = client->sent_bytes = 0;
	return true;
}

/* Answers the requests that are whole, one at a time. False: it is not worth listening to. */
static bool answer(Server *server, Client *client)
{
	while (client->reply_bytes == 0) {
		size_t whole;

		if (!plugin_protocol_measure(client->request, client->request_bytes, &whole))
			return false;
		if (whole == 0)
			return true;
		client->reply_bytes = plugin_protocol_answer(server->watch, server->api,
							     client->request, whole, client->reply);
		client->request_bytes -= whole;
		memmove(client->request, client->request + whole, client->request_bytes);
		if (!send_reply(client))
			return false;
	}
	return true;
}

static bool receive(Server *server, Client *client)
{
	ssize_t got = recv(client->fd, client->request + client->request_bytes,
			   REQUEST_BYTES - client->request_bytes, 0);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got == 0)
		return false;
	client->request_bytes += (size_t)got;
	client->moved_msec = now_msec();
	return answer(server, client);
}

static bool is_half_way(const Client *client)
{
	return client->request_bytes > 0 || client->reply_bytes > 0;
}

static void serve(Server *server, Client *client, short events)
{
	bool alive = true;

	if (events & POLLOUT)
		alive = send_reply(client) && answer(server, client);
	else if (events & (POLLIN | POLLHUP | POLLERR))
		alive = receive(server, client);
	if (!alive ||
	    (is_half_way(client) && now_msec() - client->moved_msec > PLUGIN_SERVER_STALL_MSEC))
		drop(client);
}

static void serve_all(Server *server)
{
	struct pollfd pollfds[PLUGIN_SERVER_MAX_CLIENTS + 1];
	bool deaf = now_msec() < server->deaf_until_msec, waiting = deaf;

	for (int i = 0; i < PLUGIN_SERVER_MAX_CLIENTS; i++) {
		const Client *client = &server->clients[i];

		pollfds[i] = (struct pollfd){ .fd = client->fd,
					      .events = client->reply_bytes ? POLLOUT : POLLIN };
		waiting = waiting || (client->fd >= 0 && is_half_way(client));
	}
	pollfds[PLUGIN_SERVER_MAX_CLIENTS] = (struct pollfd){ .fd = deaf ? -1 : server->listener,
							      .events = POLLIN };
	if (poll(pollfds, PLUGIN_SERVER_MAX_CLIENTS + 1, waiting ? ACCEPT_PAUSE_MSEC : -1) < 0)
		return;
	for (int i = 0; i < PLUGIN_SERVER_MAX_CLIENTS; i++)
		if (pollfds[i].fd >= 0)
			serve(server, &server->clients[i], pollfds[i].revents);
	if (pollfds[PLUGIN_SERVER_MAX_CLIENTS].revents & POLLIN)
		accept_client(server);
}

static void *run(void *data)
{
	for (;;)
		serve_all(data);
	return NULL;
}

bool plugin_server_start(PluginWatch *watch, uint32_t api, int listener)
{
	Server *server = calloc(1, sizeof *server);
	sigset_t all, before;
	pthread_t thread;
	int failure;

	if (server == NULL)
		return false;
	server->watch = watch;
	server->api = api;
	server->listener = listener;
	for (int i = 0; i < PLUGIN_SERVER_MAX_CLIENTS; i++)
		server->clients[i].fd = -1;
	/* QEMU's signals are for its own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failure = pthread_create(&thread, NULL, run, server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failure != 0) {
		free(server);
		errno = failure;
		return false;
	}
	pthread_detach(thread);
	return true;
}
