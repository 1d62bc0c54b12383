/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/stream.h"

/* Shared by the stream and its two ends, each of which the library may keep longest. */
typedef struct {
	const HvpStreamEnds *ends;
	void *data; /* NULL: closed */
} Link;

typedef struct {
	GInputStream parent;
	Link *link;
} StreamInput;
typedef GInputStreamClass StreamInputClass;

typedef struct {
	GOutputStream parent;
	Link *link;
} StreamOutput;
typedef GOutputStreamClass StreamOutputClass;

struct _HvpStream {
	GIOStream parent;
	Link *link;
	GInputStream *input;
	GOutputStream *output;
};

static void stream_input_pollable_init(GPollableInputStreamInterface *interface);
static void stream_output_pollable_init(GPollableOutputStreamInterface *interface);
static GType stream_input_get_type(void);
static GType stream_output_get_type(void);

G_DEFINE_TYPE_WITH_CODE(StreamInput, stream_input, G_TYPE_INPUT_STREAM,
			G_IMPLEMENT_INTERFACE(G_TYPE_POLLABLE_INPUT_STREAM,
					      stream_input_pollable_init))
G_DEFINE_TYPE_WITH_CODE(StreamOutput, stream_output, G_TYPE_OUTPUT_STREAM,
			G_IMPLEMENT_INTERFACE(G_TYPE_POLLABLE_OUTPUT_STREAM,
					      stream_output_pollable_init))
G_DEFINE_FINAL_TYPE(HvpStream, hvp_stream, G_TYPE_IO_STREAM)

static gssize fail_closed(GError **error)
{
	g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the stream is closed");
	return -1;
}

/* A source of @stream that fires when @child does. Takes @child. */
static GSource *pollable_source(void *stream, GSource *child, GCancellable *cancellable)
{
	GSource *source = g_pollable_source_new_full(stream, child, cancellable);

	g_source_unref(child);
	return source;
}

/* Ready at once: what is closed answers with an error. */
static GSource *ready_source(void)
{
	return g_timeout_source_new(0);
}

static gssize input_read(GPollableInputStream *stream, void *buffer, gsize count, GError **error)
{
	Link *link = ((StreamInput *)stream)->link;

	return link->data ? link->ends->read(link->data, buffer, count, error) : fail_closed(error);
}

static gssize input_read_fn(GInputStream *stream, void *buffer, gsize count,
			    G_GNUC_UNUSED GCancellable *cancellable, GError **error)
{
	return input_read(G_POLLABLE_INPUT_STREAM(stream), buffer, count, error);
}

static gboolean input_is_readable(GPollableInputStream *stream)
{
	Link *link = ((StreamInput *)stream)->link;

	return link->data == NULL || link->ends->is_readable(link->data);
}

static GSource *input_create_source(GPollableInputStream *stream, GCancellable *cancellable)
{
	Link *link = ((StreamInput *)stream)->link;

	return pollable_source(stream,
			       link->data ? link->ends->read_source(link->data) : ready_source(),
			       cancellable);
}

static void stream_input_finalize(GObject *object)
{
	g_rc_box_release(((StreamInput *)object)->link);
	G_OBJECT_CLASS(stream_input_parent_class)->finalize(object);
}

static void stream_input_class_init(StreamInputClass *class)
{
	G_OBJECT_CLASS(class)->finalize = stream_input_finalize;
	class->read_fn = input_read_fn;
}

static void stream_input_init(G_GNUC_UNUSED StreamInput *self)
{
}

static void stream_input_pollable_init(GPollableInputStreamInterface *interface)
{
	interface->read_nonblocking = input_read;
	interface->is_readable = input_is_readable;
	interface->create_source = input_create_source;
}

static gssize output_write(GPollableOutputStream *stream, const void *buffer, gsize count,
			   GError **error)
{
	Link *link = ((StreamOutput *)stream)->link;

	return link->data ? link->ends->write(link->data, buffer, count, error)
			  : fail_closed(error);
}

static gssize output_write_fn(GOutputStream *stream, const void *buffer, gsize count,
			      G_GNUC_UNUSED GCancellable *cancellable, GError **error)
{
	return output_write(G_POLLABLE_OUTPUT_STREAM(stream), buffer, count, error);
}

static gboolean output_is_writable(GPollableOutputStream *stream)
{
	Link *link = ((StreamOutput *)stream)->link;

	return link->data == NULL || link->ends->is_writable(link->data);
}

static GSource *output_create_source(GPollableOutputStream *stream, GCancellable *cancellable)
{
	Link *link = ((StreamOutput *)stream)->link;

	return pollable_source(stream,
			       link->data ? link->ends->write_source(link->data) : ready_source(),
			       cancellable);
}

static void stream_output_finalize(GObject *object)
{
	g_rc_box_release(((StreamOutput *)object)->link);
	G_OBJECT_CLASS(stream_output_parent_class)->finalize(object);
}

static void stream_output_class_init(StreamOutputClass *class)
{
	G_OBJECT_CLASS(class)->finalize = stream_output_finalize;
	class->write_fn = output_write_fn;
}

static void stream_output_init(G_GNUC_UNUSED StreamOutput *self)
{
}

static void stream_output_pollable_init(GPollableOutputStreamInterface *interface)
{
	interface->write_nonblocking = output_write;
	interface->is_writable = output_is_writable;
	interface->create_source = output_create_source;
}

static void close_link(Link *link)
{
	void *data = g_steal_pointer(&link->data);

	if (data != NULL)
		link->ends->close(data);
}

static GInputStream *hvp_stream_get_input(GIOStream *stream)
{
	return HVP_STREAM(stream)->input;
}

static GOutputStream *hvp_stream_get_output(GIOStream *stream)
{
	return HVP_STREAM(stream)->output;
}

static gboolean hvp_stream_close(GIOStream *stream, G_GNUC_UNUSED GCancellable *cancellable,
				 G_GNUC_UNUSED GError **error)
{
	close_link(HVP_STREAM(stream)->link);
	return TRUE;
}

static void hvp_stream_finalize(GObject *object)
{
	HvpStream *self = HVP_STREAM(object);

	close_link(self->link);
	g_object_unref(self->input);
	g_object_unref(self->output);
	g_rc_box_release(self->link);
	G_OBJECT_CLASS(hvp_stream_parent_class)->finalize(object);
}

static void hvp_stream_class_init(HvpStreamClass *class)
{
	GIOStreamClass *stream_class = G_IO_STREAM_CLASS(class);

	G_OBJECT_CLASS(class)->finalize = hvp_stream_finalize;
	stream_class->get_input_stream = hvp_stream_get_input;
	stream_class->get_output_stream = hvp_stream_get_output;
	stream_class->close_fn = hvp_stream_close;
}

static void hvp_stream_init(HvpStream *self)
{
	self->link = g_rc_box_new0(Link);
	self->input = g_object_new(stream_input_get_type(), NULL);
	self->output = g_object_new(stream_output_get_type(), NULL);
	((StreamInput *)self->input)->link = g_rc_box_acquire(self->link);
	((StreamOutput *)self->output)->link = g_rc_box_acquire(self->link);
}

HvpStream *hvp_stream_new(const HvpStreamEnds *ends, void *data)
{
	HvpStream *self = g_object_new(HVP_TYPE_STREAM, NULL);

	self->link->ends = ends;
	self->link->data = data;
	return self;
}
