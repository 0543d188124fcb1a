// Package tracing instruments NATS with OpenTelemetry. The span that handles a
// message is the root of its own trace and links the span that published it. So a
// message that four consumers read, three times each, weeks later or in batches
// of a thousand, makes many small traces that point at each other, instead of one
// that never ends. A request and its response are one trace, because the
// requester waits.
//
// <destination> is the template of the subject, for instance
// orders.created.{order_id}, else the name that [WithDestination] sets, else missing.
//
//	Publish, StartSend, PublishMsg  publish <destination>       PRODUCER; CLIENT if the message has a context
//	Receive, ReceiveBatch           receive <destination>       CLIENT, links the producers
//	Process, Handler, MsgHandler    process <destination>       CONSUMER, links the producer
//	ProcessBatch                    process <destination>       CONSUMER, links the producers
//	Ack, Nak, Term, …               ack|nak|term <destination>  CLIENT, child of the process span
//	Request                         request <destination>       CLIENT
//	RequestHandler, MicroHandler    process <destination>       SERVER, child of the request span
//	KeyValue                        get|put|… <bucket>          CLIENT
//
// Names, kinds and attributes follow the semantic conventions for messaging,
// version 1.43. Four metrics are recorded whether or not a span is sampled:
//
//	messaging.client.operation.duration   publish, request, receive, ack, nak, term; in seconds
//	messaging.process.duration            process; in seconds
//	messaging.client.sent.messages        messages published, or tried to publish
//	messaging.client.consumed.messages    messages, once per delivery, by Receive or else by Process
//
// A span whose work failed has status Error and error.type, a class of errors;
// README.md lists them. Neither holds the text of an error, which may quote a
// secret. An error with a method ErrorType() string has the class it returns.
//
// KeyValue makes CLIENT spans and no metrics. ObjectStore is not traced.
//
// Samplers for linked traces are in package sampling, assertions for tests in
// package linktest.
package tracing
