package tracing

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// knownErrors has the classes of sentinel errors, whose Go types say nothing. Errors of
// JetStream's API equal them if they have the same code.
var knownErrors = []struct {
	class  string
	errors []error
}{
	{"canceled", []error{context.Canceled}},
	{"timeout", []error{context.DeadlineExceeded, nats.ErrTimeout, jetstream.ErrAsyncPublishTimeout}},
	{"no_responders", []error{nats.ErrNoResponders, jetstream.ErrNoStreamResponse}},
	{"connection_closed", []error{nats.ErrConnectionClosed, jetstream.ErrConnectionClosed, jetstream.ErrJetStreamPublisherClosed}},
	{"connection_draining", []error{nats.ErrConnectionDraining}},
	{"connection_reconnecting", []error{nats.ErrConnectionReconnecting}},
	{"disconnected", []error{nats.ErrDisconnected}},
	{"reconnect_buffer_exceeded", []error{nats.ErrReconnectBufExceeded}},
	{"invalid_connection", []error{nats.ErrInvalidConnection}},
	{"max_payload", []error{nats.ErrMaxPayload}},
	{"invalid_subject", []error{nats.ErrBadSubject, jetstream.ErrInvalidSubject}},
	{"invalid_message", []error{nats.ErrInvalidMsg}},
	{"invalid_header", []error{nats.ErrBadHeaderMsg}},
	{"headers_not_supported", []error{nats.ErrHeadersNotSupported}},
	{"permission_violation", []error{nats.ErrPermissionViolation}},
	{"authorization", []error{nats.ErrAuthorization}},
	{"stalled", []error{jetstream.ErrTooManyStalledMsgs}},
	{"invalid_ack", []error{jetstream.ErrInvalidJSAck}},
	{"invalid_option", []error{jetstream.ErrInvalidOption}},
	{"reply_subject_set", []error{jetstream.ErrAsyncPublishReplySubjectSet}},
	{"already_acknowledged", []error{jetstream.ErrMsgAlreadyAckd}},
	{"message_not_bound", []error{nats.ErrMsgNotBound, jetstream.ErrMsgNotBound}},
	{"message_without_reply", []error{nats.ErrMsgNoReply, jetstream.ErrMsgNoReply}},
	{"not_a_jetstream_message", []error{jetstream.ErrNotJSMessage}},
	{"server_shutdown", []error{jetstream.ErrServerShutdown}},
	{"consumer_deleted", []error{jetstream.ErrConsumerDeleted}},
	{"leadership_change", []error{jetstream.ErrConsumerLeadershipChanged}},
	{"no_heartbeat", []error{jetstream.ErrNoHeartbeat}},
	{"no_messages", []error{jetstream.ErrNoMessages}},
	{"iterator_closed", []error{jetstream.ErrMsgIteratorClosed}},
	{"max_bytes_exceeded", []error{jetstream.ErrMaxBytesExceeded}},
	{"ordered_consumer_reset", []error{jetstream.ErrOrderedConsumerReset}},
	{"pin_id_mismatch", []error{jetstream.ErrPinIDMismatch}},
	{"key_not_found", []error{jetstream.ErrKeyNotFound, jetstream.ErrKeyDeleted, jetstream.ErrNoKeysFound}},
	{"wrong_last_sequence", []error{jetstream.ErrKeyRevisionMismatch, &jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence},
		&jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequenceConstant}}}, // the answer of replicated streams
	{"message_too_large", []error{jetstream.ErrStreamMessageExceedsMaximum}},
	{"stream_not_found", []error{jetstream.ErrStreamNotFound}},
	{"consumer_not_found", []error{jetstream.ErrConsumerNotFound}},
	{"message_not_found", []error{jetstream.ErrMsgNotFound}},
	{"jetstream_not_enabled", []error{jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount}},
	{"bucket_not_found", []error{jetstream.ErrBucketNotFound}},
	{"object_not_found", []error{jetstream.ErrObjectNotFound}},
	{"slow_consumer", []error{nats.ErrSlowConsumer}},
	{"stale_connection", []error{nats.ErrStaleConnection}},
	{"invalid_key", []error{jetstream.ErrInvalidKey}},
	{"invalid_subscription", []error{nats.ErrBadSubscription}},
	{"max_messages", []error{nats.ErrMaxMessages}},
}

// errorType returns error.type, a class of errors of low cardinality, or "" for
// nil: what ErrorType() string of the error returns; the class of a known error; the
// code of JetStream's API; the Go type of the error; or _OTHER, the fallback of the
// conventions, for unexported types of nats.go and the standard library.
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
		if slices.ContainsFunc(known.errors, func(target error) bool { return errors.Is(err, target) }) {
			return known.class
		}
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api != nil {
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
