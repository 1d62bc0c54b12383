/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/feed.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "apid/handlers.h"
#include "apid/json-scan.h"
#include "apid/problem.h"
#include "apid/query.h"

#define MAX_SEQ G_GUINT64_CONSTANT(9007199254740991)
/* Of those that follow, at a time; of those that do not, all there is. */
#define BATCH_EVENTS 64
#define READ_EVENTS 1000
/* Of the core's answer, before it is parsed. */
#define MAX_DEPTH 16
#define MAX_VALUES (16 * 1000 * 1000)
/* The core tells of new events; this is for what it may not tell us and yet a reader may see. */
#define POLL_SECONDS 2

struct HvpFeed {
	HvpApi *api;
	GPtrArray *readers;
	GHashTable *calls; /* those that are under way, by what they ask for */
	guint poll_id;
};

/* Counted: by the feed's list, and by each call that it waits for. */
typedef struct {
	HvpFeed *feed;
	SoupServerMessage *message; /* NULL: it is over */
	GSource *hangup;
	char *principal;
	bool is_sse;
	guint64 since;
	gint64 written_usec;
	bool is_writing, is_waiting, is_stale;
} Reader;

/* One question to the core, and who waits for its answer. */
typedef struct {
	HvpFeed *feed;
	char *key;
	GPtrArray *readers;
} Call;

/* The answer. */
typedef struct {
	JsonNode *events;
	guint64 last, oldest, newest;
	bool is_full;
} Batch;

static void ask(Reader *reader);

static void free_reader(void *data)
{
	Reader *reader = data;

	g_free(reader->principal);
}

static void unref_reader(void *data)
{
	g_rc_box_release_full(data, free_reader);
}

static void free_call(void *data)
{
	Call *call = data;

	g_ptr_array_unref(call->readers);
	g_free(call->key);
	g_free(call);
}

static void clear_batch(Batch *batch)
{
	g_clear_pointer(&batch->events, json_node_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Batch, clear_batch)

/* Its message is finished, written or not. */
static void reader_finished(SoupServerMessage *message, void *data)
{
	Reader *reader = data;
	HvpCounters *counters = &reader->feed->api->counters;

	g_signal_handlers_disconnect_by_data(message, reader);
	g_clear_object(&reader->message);
	if (reader->hangup != NULL)
		g_source_destroy(reader->hangup);
	g_clear_pointer(&reader->hangup, g_source_unref);
	counters->event_readers_dropped += reader->is_writing;
	counters->event_readers--;
	g_ptr_array_remove_fast(reader->feed->readers, reader);
}

static void write_text(Reader *reader, GBytes *text)
{
	SoupMessageBody *body = soup_server_message_get_response_body(reader->message);

	reader->is_writing = true;
	reader->written_usec = g_get_monotonic_time();
	soup_message_body_append_bytes(body, text);
	soup_server_message_unpause(reader->message);
}

static void write_beat(Reader *reader)
{
	g_autoptr(GBytes) text = reader->is_sse ? g_bytes_new_static(":\n\n", 3)
						: g_bytes_new_static("\n", 1);

	write_text(reader, text);
}

static void finish(Reader *reader)
{
	reader->is_stale = false;
	soup_message_body_complete(soup_server_message_get_response_body(reader->message));
	soup_server_message_unpause(reader->message);
}

static void chunk_written(G_GNUC_UNUSED SoupServerMessage *message, void *data)
{
	Reader *reader = data;

	reader->is_writing = false;
	if (reader->is_stale)
		ask(reader);
}

/* The peer is gone: that is found by writing to it. */
static gboolean hung_up(G_GNUC_UNUSED GSocket *socket, G_GNUC_UNUSED GIOCondition condition,
			void *data)
{
	Reader *reader = data;

	if (reader->message != NULL && !reader->is_writing)
		write_beat(reader);
	return G_SOURCE_REMOVE;
}

static guint64 seq_of(JsonNode *event)
{
	JsonObject *object = JSON_NODE_HOLDS_OBJECT(event) ? json_node_get_object(event) : NULL;

	return object ? (guint64)json_object_get_int_member_with_default(object, "seq", 0) : 0;
}

/* INTERNAL: the core's answer is not valid. */
static bool read_batch(GVariant *answer, guint limit, Batch *ret_batch, GError **error)
{
	const char *text;
	JsonArray *array;

	g_variant_get(answer, "(&stt)", &text, &ret_batch->oldest, &ret_batch->newest);
	if (hvp_json_scan_check(text, strlen(text), MAX_DEPTH, MAX_VALUES, NULL))
		ret_batch->events = json_from_string(text, NULL);
	if (ret_batch->events == NULL || !JSON_NODE_HOLDS_ARRAY(ret_batch->events))
		return hvp_problem_set(error, HVP_PROBLEM_INTERNAL,
				       "hvpatchd's answer is not valid");
	array = json_node_get_array(ret_batch->events);
	ret_batch->is_full = json_array_get_length(array) >= limit;
	ret_batch->last = ret_batch->is_full ? seq_of(json_array_get_element(
						       array, json_array_get_length(array) - 1))
					     : ret_batch->newest;
	return true;
}

static void append_event(GString *text, JsonNode *event, bool is_sse)
{
	g_autofree char *line = json_to_string(event, FALSE);
	JsonObject *object = json_node_get_object(event);

	if (is_sse)
		g_string_append_printf(
			text, "id: %" G_GUINT64_FORMAT "\nevent: %s\ndata: %s\n\n", seq_of(event),
			json_object_get_string_member_with_default(object, "type", "message"),
			line);
	else
		g_string_append_printf(text, "%s\n", line);
}

/* NULL: nothing. */
static GBytes *batch_text(const Batch *batch, bool is_sse)
{
	JsonArray *array = json_node_get_array(batch->events);
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < json_array_get_length(array); i++)
		if (seq_of(json_array_get_element(array, i)) > 0)
			append_event(text, json_array_get_element(array, i), is_sse);
	if (text->len > 0)
		return g_string_free_to_bytes(text);
	g_string_free(text, TRUE);
	return NULL;
}

static void deliver(Reader *reader, const Batch *batch, GBytes *text)
{
	if (batch->oldest > reader->since + 1) {
		reader->feed->api->counters.event_readers_dropped++;
		finish(reader);
		return;
	}
	reader->since = MAX(reader->since, batch->last);
	reader->is_stale |= batch->is_full;
	if (text != NULL)
		write_text(reader, text);
	else if (reader->is_stale)
		ask(reader);
}

static bool is_passing(const GError *problem)
{
	return g_error_matches(problem, HVP_PROBLEM, HVP_PROBLEM_UNAVAILABLE) ||
	       g_error_matches(problem, HVP_PROBLEM, HVP_PROBLEM_TIMED_OUT);
}

static void deliver_all(Call *call, const Batch *batch)
{
	g_autoptr(GBytes) lines = batch_text(batch, false);
	g_autoptr(GBytes) events = batch_text(batch, true);

	for (guint i = 0; i < call->readers->len; i++) {
		Reader *reader = g_ptr_array_index(call->readers, i);

		reader->is_waiting = false;
		if (reader->message != NULL)
			deliver(reader, batch, reader->is_sse ? events : lines);
	}
}

/* A core that is away may come back; else there is nothing more for these. */
static void fail_all(Call *call, const GError *problem)
{
	for (guint i = 0; i < call->readers->len; i++) {
		Reader *reader = g_ptr_array_index(call->readers, i);

		reader->is_waiting = false;
		if (reader->message != NULL && !is_passing(problem))
			finish(reader);
	}
}

static void got_batch(GVariant *answer, const GError *problem, void *data)
{
	Call *call = data;
	g_auto(Batch) batch = { 0 };
	g_autoptr(GError) error = NULL;

	g_hash_table_steal(call->feed->calls, call->key);
	if (problem != NULL)
		fail_all(call, problem);
	else if (!read_batch(answer, BATCH_EVENTS, &batch, &error))
		fail_all(call, error);
	else
		deliver_all(call, &batch);
	free_call(call);
}

/* What is new for it, once it has taken all before. */
static void ask(Reader *reader)
{
	HvpFeed *feed = reader->feed;
	g_autofree char *key = NULL;
	Call *call;

	if (reader->is_writing || reader->is_waiting) {
		reader->is_stale = true;
		return;
	}
	reader->is_stale = false;
	reader->is_waiting = true;
	key = g_strdup_printf("%" G_GUINT64_FORMAT " %s", reader->since, reader->principal);
	call = g_hash_table_lookup(feed->calls, key);
	if (call != NULL) {
		g_ptr_array_add(call->readers, g_rc_box_acquire(reader));
		return;
	}
	call = g_new0(Call, 1);
	call->feed = feed;
	call->key = g_steal_pointer(&key);
	call->readers = g_ptr_array_new_with_free_func(unref_reader);
	g_ptr_array_add(call->readers, g_rc_box_acquire(reader));
	g_hash_table_insert(feed->calls, call->key, call);
	hvp_core_call(feed->api->core, "GetEvents",
		      g_variant_new("(stu)", reader->principal, reader->since, BATCH_EVENTS),
		      "(stt)", NULL, got_batch, call);
}

static void ask_all(void *data)
{
	HvpFeed *self = data;

	for (guint i = 0; i < self->readers->len; i++)
		ask(g_ptr_array_index(self->readers, i));
}

static gboolean poll_passed(void *data)
{
	HvpFeed *self = data;
	gint64 quiet_usec = self->api->settings->beat_seconds * G_USEC_PER_SEC;
	gint64 now = g_get_monotonic_time();

	for (guint i = 0; i < self->readers->len; i++) {
		Reader *reader = g_ptr_array_index(self->readers, i);

		if (!reader->is_writing && now - reader->written_usec >= quiet_usec)
			write_beat(reader);
	}
	ask_all(self);
	return G_SOURCE_CONTINUE;
}

HvpFeed *hvp_feed_new(HvpApi *api)
{
	HvpFeed *self = g_new0(HvpFeed, 1);

	self->api = api;
	self->readers = g_ptr_array_new_with_free_func(unref_reader);
	self->calls = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_call);
	self->poll_id = g_timeout_add_seconds(POLL_SECONDS, poll_passed, self);
	hvp_core_set_wake(api->core, ask_all, self);
	return self;
}

void hvp_feed_free(HvpFeed *self)
{
	if (self == NULL)
		return;
	hvp_core_set_wake(self->api->core, NULL, NULL);
	g_source_remove(self->poll_id);
	g_hash_table_unref(self->calls);
	g_ptr_array_unref(self->readers);
	g_free(self);
}

static void add_reader(HvpExchange *exchange, guint64 since, const Batch *batch)
{
	Reader *reader = g_rc_box_new0(Reader);
	HvpConnection *connection = exchange->connection;
	g_autoptr(GBytes) text = NULL;

	reader->feed = exchange->api->feed;
	reader->principal = g_strdup(exchange->principal);
	reader->is_sse = strcmp(exchange->type, HVP_TYPE_SSE) == 0;
	reader->since = since;
	reader->written_usec = g_get_monotonic_time();
	exchange->api->counters.event_readers++;
	reader->message = hvp_exchange_begin_stream(exchange, reader->is_sse ? HVP_TYPE_SSE
									     : HVP_TYPE_NDJSON);
	g_signal_connect(reader->message, "finished", G_CALLBACK(reader_finished), reader);
	g_signal_connect(reader->message, "wrote-chunk", G_CALLBACK(chunk_written), reader);
	reader->hangup = hvp_connection_watch_hangup(connection, hung_up, reader);
	g_ptr_array_add(reader->feed->readers, reader);
	text = batch_text(batch, reader->is_sse);
	deliver(reader, batch, text);
}

/* All there is, at once. */
static void answer_now(HvpExchange *exchange, const Batch *batch)
{
	bool is_sse = strcmp(exchange->type, HVP_TYPE_SSE) == 0;
	g_autoptr(GBytes) bytes = batch_text(batch, is_sse);
	g_autofree char *text = bytes ? g_strndup(g_bytes_get_data(bytes, NULL),
						  g_bytes_get_size(bytes))
				      : g_strdup("");

	hvp_exchange_answer(exchange, SOUP_STATUS_OK, is_sse ? HVP_TYPE_SSE : HVP_TYPE_NDJSON,
			    text);
}

/* What the client asks for. */
typedef struct {
	guint64 since;
	bool is_since_given, is_following;
} Wish;

static bool read_wish(HvpExchange *exchange, Wish *ret_wish, GError **error)
{
	static const char *const words[] = { "true", "false", NULL };
	const char *last_id = hvp_exchange_head(exchange)->headers[HVP_HEADER_LAST_EVENT_ID];
	const char *follow;

	if (!hvp_query_number(exchange->query, "since", 0, MAX_SEQ, 0, &ret_wish->since, error) ||
	    !hvp_query_word(exchange->query, "follow", words, &follow, error))
		return false;
	if (last_id != NULL &&
	    !g_ascii_string_to_unsigned(last_id, 10, 0, MAX_SEQ, &ret_wish->since, NULL))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "Last-Event-ID: a number is wanted");
	ret_wish->is_since_given = last_id != NULL ||
				   g_hash_table_contains(exchange->query, "since");
	ret_wish->is_following = follow == NULL || strcmp(follow, "true") == 0;
	return true;
}

/* GONE: the client would miss something, or has a number that was never given. */
static bool check_since(const Wish *wish, const Batch *batch, GError **error)
{
	if (!wish->is_since_given || wish->since == 0)
		return true;
	if (wish->since + 1 >= batch->oldest && wish->since <= batch->newest)
		return true;
	return hvp_problem_set_gone(error, batch->oldest > 0 ? batch->oldest - 1 : 0,
				    batch->newest);
}

static void got_first(GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;
	g_auto(Batch) batch = { 0 };
	g_autoptr(GError) error = NULL;
	Wish wish;

	if (problem != NULL) {
		hvp_exchange_fail(exchange, problem);
		return;
	}
	if (!read_wish(exchange, &wish, &error) ||
	    !read_batch(answer, wish.is_following ? BATCH_EVENTS : READ_EVENTS, &batch, &error) ||
	    !check_since(&wish, &batch, &error)) {
		hvp_exchange_fail(exchange, error);
		return;
	}
	if (!wish.is_following)
		answer_now(exchange, &batch);
	else
		add_reader(exchange, MAX(wish.since, batch.oldest > 0 ? batch.oldest - 1 : 0),
			   &batch);
}

void hvp_feed_read(HvpExchange *exchange)
{
	g_autoptr(GError) error = NULL;
	Wish wish;

	if (!read_wish(exchange, &wish, &error)) {
		hvp_exchange_fail(exchange, error);
		return;
	}
	if (hvp_exchange_is_head(exchange)) {
		hvp_exchange_answer(exchange, SOUP_STATUS_OK, exchange->type, "");
		return;
	}
	hvp_exchange_pause(exchange);
	hvp_core_call(
		exchange->api->core, "GetEvents",
		g_variant_new("(stu)", exchange->principal,
			      wish.is_since_given || !wish.is_following ? wish.since : MAX_SEQ,
			      wish.is_following ? BATCH_EVENTS : READ_EVENTS),
		"(stt)", NULL, got_first, exchange);
}
