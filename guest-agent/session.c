/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "clock.h"

/* Requests take half of a CPU at most: a rest is as long as the work before it. */
#define MIN_REST_NSEC (2 * AGENT_NSEC_PER_MSEC)
/* The watch takes a quarter, and does not make requests wait for its rests. */
#define WATCH_REST 3

void agent_session_begin(AgentSession *self)
{
	agent_watch_stop(&self->protocol.watch);
	agent_line_reset(&self->line);
	self->received_bytes = self->taken_bytes = 0;
	self->writer = (AgentWriter){
		.bytes = self->outgoing,
		.capacity_bytes = sizeof self->outgoing,
	};
	self->sent_bytes = 0;
}

static bool has_to_send(const AgentSession *self)
{
	return self->sent_bytes < self->writer.used_bytes;
}

static bool has_received(const AgentSession *self)
{
	return self->taken_bytes < self->received_bytes;
}

short agent_session_events(const AgentSession *self, int64_t now_nsec)
{
	if (has_to_send(self))
		return POLLOUT;
	return now_nsec >= self->rest_nsec && !has_received(self) ? POLLIN : 0;
}

/* Rounded up, so that it is not too early. */
static int until_msec(int64_t then_nsec, int64_t now_nsec)
{
	if (then_nsec <= now_nsec)
		return 0;
	return (int)((then_nsec - now_nsec + AGENT_NSEC_PER_MSEC - 1) / AGENT_NSEC_PER_MSEC);
}

int agent_session_timeout_msec(const AgentSession *self, int64_t now_nsec)
{
	const AgentWatch *watch = &self->protocol.watch;
	int64_t then_nsec = INT64_MAX;

	if (has_to_send(self))
		return -1;
	if (has_received(self) || now_nsec < self->rest_nsec)
		then_nsec = self->rest_nsec;
	if (watch->enabled && watch->event_nsec < then_nsec)
		then_nsec = watch->event_nsec;
	return then_nsec < INT64_MAX ? until_msec(then_nsec, now_nsec) : -1;
}

static bool would_block(int error)
{
	return error == EAGAIN || error == EINTR;
}

static bool send_some(AgentSession *self, int fd)
{
	ssize_t sent = write(fd, self->outgoing + self->sent_bytes,
			     self->writer.used_bytes - self->sent_bytes);

	if (sent < 0)
		return would_block(errno);
	self->sent_bytes += (size_t)sent;
	if (!has_to_send(self)) {
		agent_writer_go_back(&self->writer, 0);
		self->sent_bytes = 0;
	}
	return true;
}

static bool receive_some(AgentSession *self, int fd)
{
	ssize_t got = read(fd, self->received, sizeof self->received);

	if (got < 0)
		return would_block(errno);
	self->taken_bytes = 0;
	self->received_bytes = (size_t)got;
	return got > 0;
}

static void take_line(AgentSession *self)
{
	AgentLine *line = &self->line;
	size_t taken_bytes;
	AgentLineResult result = agent_line_take(line, self->received + self->taken_bytes,
						 self->received_bytes - self->taken_bytes,
						 &taken_bytes);

	self->taken_bytes += taken_bytes;
	if (result == AGENT_LINE_WHOLE)
		agent_protocol_answer(&self->protocol, line->bytes, line->used_bytes,
				      &self->writer);
	else if (result == AGENT_LINE_TOO_LONG)
		agent_protocol_refuse(&self->writer, "the line is too long");
}

/* Notes what requests have cost; rests when that has come to something. */
static void charge_requests(AgentSession *self, int64_t cost_nsec)
{
	self->debt_nsec += cost_nsec;
	if (self->debt_nsec < MIN_REST_NSEC)
		return;
	self->rest_nsec = agent_clock_nsec(CLOCK_MONOTONIC) + self->debt_nsec;
	self->debt_nsec = 0;
}

static void charge_watch(AgentWatch *watch, int64_t cost_nsec)
{
	int64_t rested_nsec = agent_clock_nsec(CLOCK_MONOTONIC) + WATCH_REST * cost_nsec;

	if (watch->event_nsec < rested_nsec)
		watch->event_nsec = rested_nsec;
}

static int64_t cpu_nsec(void)
{
	return agent_clock_nsec(CLOCK_THREAD_CPUTIME_ID);
}

bool agent_session_turn(AgentSession *self, int fd, short revents)
{
	int64_t now_nsec = agent_clock_nsec(CLOCK_MONOTONIC), start_nsec = cpu_nsec();
	AgentWatch *watch = &self->protocol.watch;
	bool good = true;

	if (has_to_send(self) && !send_some(self, fd))
		return false;
	if (has_to_send(self))
		return true;
	if (watch->enabled && now_nsec >= watch->event_nsec) {
		agent_protocol_tick(&self->protocol, now_nsec, &self->writer);
		charge_watch(watch, cpu_nsec() - start_nsec);
		return true;
	}
	if (now_nsec < self->rest_nsec)
		return true;
	if (has_received(self))
		take_line(self);
	else if (revents & POLLIN)
		good = receive_some(self, fd);
	charge_requests(self, cpu_nsec() - start_nsec);
	return good;
}
