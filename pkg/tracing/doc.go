// Package tracing instruments NATS JetStream with OpenTelemetry, the way a
// log of messages wants it: a consumer's span is the root of its own trace and
// links the span that produced the message. A message that is read by four
// consumers, three times each, weeks later or in batches of a thousand, then
// gives many small traces that point at each other, instead of one that never
// ends.
//
// # Spans
//
//	Publish, StartSend  publish <destination>        PRODUCER; CLIENT for a Forward
//	Receive, …Batch     receive <destination>        CLIENT, links every producer
//	Process             process <destination>        CONSUMER, links the producer
//	ProcessBatch        process <destination>        CONSUMER, links every producer
//	Ack, Nak, Term, …   ack|nak|term <destination>   CLIENT, child of the process span
//
// Names, kinds and attributes follow the OpenTelemetry semantic conventions
// for messaging, version 1.43. A destination in a span name is always of low
// cardinality, see [WithDestinationTemplate].
//
// # Metrics
//
// Recorded whether or not a span is sampled, with the attributes of low
// cardinality and error.type, in seconds and in messages:
//
//	messaging.client.operation.duration   publish, receive, ack, nak, term
//	messaging.process.duration            process, of one message or a batch
//	messaging.client.sent.messages        published, or tried to
//	messaging.client.consumed.messages    once per delivery
//
// # Failures
//
// A span whose work failed has status Error and an error.type of low
// cardinality; both hold a class of errors, never an error's text, which may
// quote a secret or a person. An error that wants a class of its own implements
// ErrorType() string. Status stays Unset on success.
//
// # What it is not
//
// The package leaves no goroutine behind, holds no connection and exports nothing:
// package setup makes providers, and any other way of making them will do.
package tracing
