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

// knownErrors has the classes of sentinel errors, whose Go types say nothing.
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
	{jetstream.ErrConsumerDeleted, "consumer_deleted"},
	{jetstream.ErrConsumerLeadershipChanged, "leadership_change"},
	{jetstream.ErrNoHeartbeat, "no_heartbeat"},
	{jetstream.ErrNoMessages, "no_messages"},
	{jetstream.ErrMsgIteratorClosed, "iterator_closed"},
	{jetstream.ErrMaxBytesExceeded, "max_bytes_exceeded"},
	{jetstream.ErrOrderedConsumerReset, "ordered_consumer_reset"},
	{jetstream.ErrPinIDMismatch, "pin_id_mismatch"},
	{jetstream.ErrKeyNotFound, "key_not_found"},
	{jetstream.ErrKeyDeleted, "key_not_found"},
	{jetstream.ErrNoKeysFound, "key_not_found"},
	{jetstream.ErrKeyRevisionMismatch, "wrong_last_sequence"},
	{jetstream.ErrBucketNotFound, "bucket_not_found"},
	{jetstream.ErrObjectNotFound, "object_not_found"},
	{nats.ErrSlowConsumer, "slow_consumer"},
	{nats.ErrStaleConnection, "stale_connection"},
	{nats.ErrBadSubscription, "invalid_subscription"},
	{nats.ErrMaxMessages, "max_messages"},
}

// knownCodes has the classes of the server's answers that a publisher meets.
// Replicated streams answer a lost guard with a code of their own.
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

// errorType returns error.type, a class of errors of low cardinality, or "" for
// nil: what ErrorType() string of the error returns; the code of JetStream's API;
// the class of a known error; the Go type of the error; or _OTHER, the fallback of
// the conventions, for unexported types of nats.go and the standard library.
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
	for _, known := range knownErrors {
		if errors.Is(err, known.err) {
			return known.class
		}
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api != nil {
		if class, ok := knownCodes[api.ErrorCode]; ok {
			return class
		}
		return "jetstream_" + strconv.Itoa(int(api.ErrorCode))
	}
	class := semconv.ErrorType(err).Value.AsString()
	for _, opaque := range []string{"*errors.", "*fmt.", "errors.", "fmt.", "*jetstream.js", "github.com/nats-io/nats.go"} {
		if strings.HasPrefix(class, opaque) {
			return semconv.ErrorTypeOther.Value.AsString()
		}
	}
	return class
}
