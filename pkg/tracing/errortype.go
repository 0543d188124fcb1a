package tracing

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// knownErrors gives sentinels a class. They are all *errors.errorString, so
// their type says nothing.
var knownErrors = []struct {
	err   error
	class string
}{
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "timeout"},
	{nats.ErrTimeout, "timeout"},
	{jetstream.ErrAsyncPublishTimeout, "timeout"},
	{nats.ErrNoResponders, "no_responders"},
	{jetstream.ErrNoStreamResponse, "no_responders"},
	{nats.ErrConnectionClosed, "connection_closed"},
	{jetstream.ErrConnectionClosed, "connection_closed"},
	{jetstream.ErrJetStreamPublisherClosed, "connection_closed"},
	{nats.ErrConnectionDraining, "connection_draining"},
	{nats.ErrConnectionReconnecting, "connection_reconnecting"},
	{nats.ErrDisconnected, "disconnected"},
	{nats.ErrReconnectBufExceeded, "reconnect_buffer_exceeded"},
	{nats.ErrInvalidConnection, "invalid_connection"},
	{nats.ErrMaxPayload, "max_payload"},
	{nats.ErrBadSubject, "invalid_subject"},
	{jetstream.ErrInvalidSubject, "invalid_subject"},
	{nats.ErrInvalidMsg, "invalid_message"},
	{nats.ErrBadHeaderMsg, "invalid_header"},
	{nats.ErrHeadersNotSupported, "headers_not_supported"},
	{nats.ErrPermissionViolation, "permission_violation"},
	{nats.ErrAuthorization, "authorization"},
	{jetstream.ErrTooManyStalledMsgs, "stalled"},
	{jetstream.ErrInvalidJSAck, "invalid_ack"},
	{jetstream.ErrInvalidOption, "invalid_option"},
	{jetstream.ErrAsyncPublishReplySubjectSet, "reply_subject_set"},
	{jetstream.ErrMsgAlreadyAckd, "already_acknowledged"},
	{nats.ErrMsgNotBound, "message_not_bound"},
	{jetstream.ErrMsgNotBound, "message_not_bound"},
	{nats.ErrMsgNoReply, "message_without_reply"},
	{jetstream.ErrMsgNoReply, "message_without_reply"},
	{jetstream.ErrNotJSMessage, "not_a_jetstream_message"},
	{jetstream.ErrServerShutdown, "server_shutdown"},
}

// knownCodes names the answers of a server that a publisher meets. Replicated
// streams answer a lost guard with a code of their own.
var knownCodes = map[jetstream.ErrorCode]string{
	jetstream.JSErrCodeStreamWrongLastSequence:         "wrong_last_sequence",
	jetstream.JSErrCodeStreamWrongLastSequenceConstant: "wrong_last_sequence",
	jetstream.JSErrCodeStreamMessageExceedsMaximum:     "message_too_large",
	jetstream.JSErrCodeStreamNotFound:                  "stream_not_found",
	jetstream.JSErrCodeConsumerNotFound:                "consumer_not_found",
	jetstream.JSErrCodeMessageNotFound:                 "message_not_found",
	jetstream.JSErrCodeJetStreamNotEnabled:             "jetstream_not_enabled",
	jetstream.JSErrCodeJetStreamNotEnabledForAccount:   "jetstream_not_enabled",
}

// errorType returns the class of err for error.type, never its text; "" for nil. In this
// order: what err says of itself by ErrorType() string; the error of
// JetStream's API; a known error of NATS or package context; its Go type;
// _OTHER, the conventions' fallback, if the type is one of package errors or fmt.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	var own interface{ ErrorType() string }
	if errors.As(err, &own) {
		if class := own.ErrorType(); class != "" {
			return class
		}
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api != nil {
		if class, ok := knownCodes[api.ErrorCode]; ok {
			return class
		}
		return "jetstream_" + strconv.Itoa(int(api.ErrorCode))
	}
	for _, known := range knownErrors {
		if errors.Is(err, known.err) {
			return known.class
		}
	}
	class := semconv.ErrorType(err).Value.AsString()
	for _, opaque := range []string{"*errors.", "*fmt.", "errors.", "fmt."} {
		if strings.HasPrefix(class, opaque) {
			return semconv.ErrorTypeOther.Value.AsString()
		}
	}
	return class
}
